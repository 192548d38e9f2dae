# SPDX-License-Identifier: Apache-2.0
"""Kinds of damage for the disaster drill, made by pyVmomi.

Each function damages something of a volume, and returns what the audit has to
say about it, and by which commands it is mended or cleared.
"""

import datetime
import unittest
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from oslo_utils import uuidutils
from pyVmomi import vim

from cinder import objects
from cinder.volume import qos_specs

from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class Hurt(NamedTuple):
    """A volume after the damage."""

    kind: str  # of the finding that names it
    owner: str  # that the finding has as owner or reference
    says: str  # part of the finding's detail
    #: Commands that mend it; --yes is added.
    commands: tuple[tuple[str, ...], ...]
    #: Content of volumes afterwards: beginnings by their ids.
    content: dict[str, bytes] = {}
    #: Checks the effect, by pyVmomi.
    check: Callable[[], Any] = bool
    #: The status of each command.
    status: int = 0
    #: Kinds of findings about it that remain, with nothing to be done.
    remains: frozenset[str] = frozenset({'quarantined'})
    #: Whether a sweep without --also moves it, as it should.
    swept: bool = False


class Damage(NamedTuple):
    """One kind of damage."""

    title: str
    make: Callable[[Any], Hurt]
    quick: bool  # part of make test


DAMAGES: dict[str, Damage] = {}


def damage(title: str, quick: bool = False
           ) -> Callable[[Callable[[Any], Hurt]], Callable[[Any], Hurt]]:
    """Add a function to the table."""
    def add(make: Callable[[Any], Hurt]) -> Callable[[Any], Hurt]:
        DAMAGES[make.__name__.strip('_').replace('_', '-')] = Damage(
            title, make, quick)
        return make
    return add


def _volume(case, **fields):
    return case.create(content=content('its own'), **fields)


def _whole(volume, **more):
    return {volume.id: content('its own')} | more


def _gone(case, volume):
    def check():
        case.assertEqual([], list(objects.VolumeList.get_all(
            case.context, filters={'id': volume.id})))
    return check


def _repair(case, volume, kind, says, check=bool, **more):
    return Hurt(kind, volume.id, says, (('repair', volume.id),),
                _whole(volume), check, **more)


def _lost(case, volume, says=''):
    """Gone for good: its record is removed."""
    return Hurt('lost', volume.id, says, (('repair', volume.id),), {},
                _gone(case, volume))


# -- The VM of a volume -----------------------------------------------------

@damage('shadow VM removed from the inventory')
def _vm_unregistered(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    path = vm.config.files.vmPathName
    vm.UnregisterVM()
    return Hurt('lost', volume.id, 'still present: [', (
        ('volume', 'relink', volume.id, '--vmx', path),), _whole(volume))


@damage('shadow VM with COW snapshots removed from the inventory')
def _vm_with_snapshots_unregistered(case):
    with case.format('COW'):
        volume = _volume(case)
        snapshot = case.snapshot(volume)
    vm = case.truth(volume).vm
    path = vm.config.files.vmPathName
    vm.UnregisterVM()

    def check():
        tree = case.truth(volume).vm.snapshot.rootSnapshotList
        case.assertEqual([snapshot.name], [each.name for each in tree])
    return Hurt('lost', volume.id, 'still present: [', (
        ('volume', 'relink', volume.id, '--vmx', path),), _whole(volume),
        check)


@damage('shadow VM of an attached volume removed from the inventory')
def _attached_unregistered(case):
    volume = _volume(case)
    instance = case.attach(volume)
    path = case.truth(volume).path
    case.truth(volume).vm.UnregisterVM()

    def check():
        case.assertEqual(path, case.truth(volume).path)
        case.unplug(volume, instance)
    return Hurt('lost', volume.id, path, (
        ('volume', 'relink', volume.id, '--disk', path),), _whole(volume),
        check)


@damage('shadow VM destroyed, the file of its disk is left')
def _vm_destroyed(case):
    volume = _volume(case)
    path = case.destroy_but_disk(volume)
    return Hurt('lost', volume.id, path, (
        ('volume', 'relink', volume.id, '--disk', path),), _whole(volume))


@damage('shadow VM destroyed with its disk')
def _vm_and_disk_destroyed(case):
    volume = _volume(case)
    case.destroy(case.truth(volume).vm)
    return _lost(case, volume, 'nothing of it was found')


@damage('shadow VM renamed')
def _vm_renamed(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    case.reconfigure(vm, name='renamed by hand')
    return _repair(case, volume, 'changed', 'is named renamed by hand',
                   lambda: case.assertEqual(volume.name, vm.name))


@damage('shadow VM moved to another folder')
def _vm_moved(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    case.wait(case.datacenter.vmFolder.MoveIntoFolder_Task([vm]))
    return _repair(case, volume, 'changed', 'in no folder of this backend',
                   lambda: case.assertIn('Project', vm.parent.parent.name))


@damage('instance UUID of the shadow VM changed')
def _uuid_changed(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    case.reconfigure(vm, instanceUuid=uuidutils.generate_uuid())
    return _repair(case, volume, 'changed', 'has the instance UUID',
                   lambda: case.assertEqual(volume.id,
                                            vm.config.instanceUuid))


@damage('mark of the volume removed from the shadow VM', quick=True)
def _mark_removed(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    case.option(vm, 'cinder.volume.id')

    def check():
        case.assertEqual([volume.id], [
            each.value for each in vm.config.extraConfig
            if each.key == 'cinder.volume.id'])
    return _repair(case, volume, 'changed', 'has lost the mark', check)


@damage('name, instance UUID, mark and folder of the shadow VM changed')
def _identity_lost(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    case.option(vm, 'cinder.volume.id')
    case.reconfigure(vm, name='mine',
                     instanceUuid=uuidutils.generate_uuid())
    case.wait(case.datacenter.vmFolder.MoveIntoFolder_Task([vm]))
    return Hurt('lost', volume.id, f'mine ({vm._moId})', (
        ('volume', 'relink', volume.id, '--vm', vm._moId),), _whole(volume))


@damage('shadow VM made a template')
def _vm_made_template(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    vm.MarkAsTemplate()
    return Hurt('lost', volume.id, 'marked as a template', (
        ('volume', 'relink', volume.id, '--vm', vm._moId),), _whole(volume))


@damage('shadow VM moved to quarantine by hand')
def _vm_in_quarantine(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    openstack = vm.parent.parent.parent
    folder = openstack.CreateFolder('Quarantine') if not [
        each for each in openstack.childEntity
        if each.name == 'Quarantine'] else next(
            each for each in openstack.childEntity
            if each.name == 'Quarantine')
    case.wait(folder.MoveIntoFolder_Task([vm]))
    return Hurt('lost', volume.id, 'in quarantine', (
        ('volume', 'relink', volume.id, '--vm', vm._moId),), _whole(volume))


@damage('a second VM with the mark of the volume')
def _second_vm(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    copy = case.wait(vm.CloneVM_Task(vm.parent, 'a copy', vim.vm.CloneSpec(
        location=vim.vm.RelocateSpec(), template=False, powerOn=False)))
    return Hurt('duplicated', volume.id, f'{vm._moId} is used', (
        ('sweep', '--act', '--minimum-age', '0', '--also', copy._moId),),
        _whole(volume), lambda: case.assertEqual('Quarantine',
                                                 copy.parent.name))


@damage('inventory folder of the shadow VMs renamed')
def _folder_renamed(case):
    volume = _volume(case)
    folder = case.truth(volume).vm.parent
    name = folder.name
    case.wait(folder.Rename_Task('another name'))
    case.addCleanup(case.remove_folder, folder)
    return _repair(
        case, volume, 'changed', 'in no folder of this backend',
        lambda: case.assertEqual(name, case.truth(volume).vm.parent.name))


# -- The disk of a volume ---------------------------------------------------

@damage('disk file renamed in its folder', quick=True)
def _file_renamed(case):
    volume = _volume(case)
    path = case.truth(volume).path
    to = case.move(path, f'{path.rpartition("/")[0]}/renamed.vmdk')
    return Hurt('lost', volume.id, to, (
        ('volume', 'relink', volume.id, '--disk', to),
        ('sweep', '--act', '--minimum-age', '0'),), _whole(volume))


@damage('disk file moved to another folder')
def _file_moved(case):
    volume = _volume(case)
    path = case.truth(volume).path
    to = case.move(path, '[LocalDS_1] rescued/disk.vmdk')
    return Hurt('lost', volume.id, path, (
        ('volume', 'relink', volume.id, '--disk', to),
        ('sweep', '--act', '--minimum-age', '0'),), _whole(volume))


@damage('disk file moved to another datastore')
def _file_on_another_datastore(case):
    volume = _volume(case)
    path = case.truth(volume).path
    to = case.move(path, '[LocalDS_2] rescued/disk.vmdk')
    return Hurt('lost', volume.id, path, (
        ('volume', 'relink', volume.id, '--disk', to),
        ('sweep', '--act', '--minimum-age', '0'),), _whole(volume),
        lambda: case.assert_on('LocalDS_2', volume))


@damage('disk file deleted')
def _file_deleted(case):
    volume = _volume(case)
    case.wait(case.service.content.virtualDiskManager.DeleteVirtualDisk_Task(
        case.truth(volume).path, case.datacenter))
    return _lost(case, volume, 'which is gone')


@damage('extent deleted, the descriptor is left')
def _extent_deleted(case):
    volume = _volume(case)
    case.wait(case.service.content.fileManager.DeleteDatastoreFile_Task(
        case.truth(volume).path.replace('.vmdk', '-flat.vmdk'),
        case.datacenter))
    return _lost(case, volume, '-flat.vmdk, which is gone')


@damage('disk removed from the shadow VM')
def _disk_removed(case):
    volume = _volume(case)
    _vm, path = case.take_disk_off(volume)
    return Hurt('lost', volume.id, path, (
        ('volume', 'relink', volume.id, '--disk', path),), _whole(volume))


@damage('disk given to another VM (which an operator then takes it from)')
def _disk_given_away(case):
    volume = _volume(case)
    _vm, path = case.take_disk_off(volume)
    theirs = case.instances()[1]
    case.add_disk(theirs, path)
    found = [each for each in case.listed('audit', status=4)
             if each['kind'] == 'lost']
    case.assertIn(f'{path}, which {theirs.name}', found[0]['detail'])
    done, _out, err = case.command('volume', 'relink', volume.id, '--disk',
                                   path, '--yes')
    case.assertEqual(1, done)
    case.assertIn('disks' if 'disks' in err else theirs.name, err)
    disk = next(each for each in theirs.config.hardware.device
                if isinstance(each, vim.vm.device.VirtualDisk)
                and each.backing.fileName == path)
    case.reconfigure(theirs, deviceChange=[
        vim.vm.device.VirtualDeviceSpec(operation='remove', device=disk)])
    return Hurt('lost', volume.id, path, (
        ('volume', 'relink', volume.id, '--disk', path),), _whole(volume))


@damage('a foreign disk added to the shadow VM', quick=True)
def _foreign_disk(case):
    volume = _volume(case)
    other = _volume(case)
    path = case.move(case.destroy_but_disk(other),
                     '[LocalDS_1] theirs/theirs.vmdk')
    other.destroy()
    vm = case.truth(volume).vm
    case.add_disk(vm, path)

    def check():
        case.assertEqual(1, len([
            each for each in vm.config.hardware.device
            if isinstance(each, vim.vm.device.VirtualDisk)]))
        case.assertEqual(content('its own'),
                         case.read_from(path, len(content('its own'))))
    return _repair(case, volume, 'at-risk', path, check)


@damage('disk extended by hand')
def _disk_extended(case):
    volume = _volume(case)
    case.wait(case.service.content.virtualDiskManager.ExtendVirtualDisk_Task(
        case.truth(volume).path, case.datacenter, 3 << 20, False))
    case.reconfigure_size(volume, 3)
    return _repair(case, volume, 'changed', 'its disk has 3 GiB',
                   lambda: case.assertEqual(3, case.fresh(volume).size))


@damage('record names a larger size than the disk has')
def _record_larger(case):
    volume = _volume(case)
    volume.update({'size': 2})
    volume.save()
    return _repair(case, volume, 'changed', 'its disk has 1 GiB',
                   lambda: case.assertEqual(2, case.truth(volume).size_gib))


@damage('adapter of the disk changed')
def _adapter_changed(case):
    volume = _volume(case, type_id=case.volume_type(
        'fast', adapter_type='paraVirtual')['id'])
    truth = case.truth(volume)
    disk = truth.disk
    old = disk.controllerKey
    disk.controllerKey = -7
    case.reconfigure(truth.vm, deviceChange=[
        vim.vm.device.VirtualDeviceSpec(
            operation='add', device=vim.vm.device.VirtualLsiLogicController(
                key=-7, busNumber=1, sharedBus='noSharing')),
        vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)])
    case.assertNotEqual(old, case.truth(volume).disk.controllerKey)
    return _repair(case, volume, 'changed', 'adapter lsiLogic',
                   lambda: case.assertEqual('ParaVirtualSCSIController',
                                            case.truth(volume).adapter))


@damage('I/O limits changed on the instance')
def _limits_changed(case):
    type_id = case.volume_type('limited')['id']
    specs = qos_specs.create(case.context, 'limited', {
        'consumer': 'back-end', 'total_iops_sec': '500'})
    qos_specs.associate_qos_with_type(case.context, specs['id'], type_id)
    volume = _volume(case, type_id=type_id)
    instance = case.attach(volume)

    def limit(value=None):
        disk = case.disk_on(instance, volume)
        if value is None:
            return disk.storageIOAllocation.limit
        disk.storageIOAllocation = vim.StorageResourceManager.IOAllocationInfo(
            limit=value)
        return case.reconfigure(instance, deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)])
    limit(9000)

    def check():
        case.assertEqual(500, limit())
        case.unplug(volume, instance)
    return _repair(case, volume, 'changed', 'limit 9000', check)


@damage('storage policy taken off the disk')
def _policy_removed(case):
    volume = _volume(case, type_id=case.volume_type(
        'gold', storage_profile='gold')['id'])
    truth = case.truth(volume)
    case.assertEqual(['gold'], case.policies_of(truth))
    case.reconfigure(truth.vm, deviceChange=[
        vim.vm.device.VirtualDeviceSpec(
            operation='edit', device=truth.disk,
            profile=[vim.vm.EmptyProfileSpec()])])
    case.assertEqual([], case.policies_of(truth))
    return _repair(case, volume, 'changed', 'storage policy gold',
                   lambda: case.assertEqual(['gold'],
                                            case.policies_of(truth)))


@damage('folder of the shadow VM renamed on its datastore')
def _datastore_folder_renamed(case):
    volume = _volume(case)
    path = case.truth(volume).path
    folder = path.rpartition('/')[0]
    case.wait(case.service.content.fileManager.MoveDatastoreFile_Task(
        folder, case.datacenter, '[LocalDS_1] renamed', case.datacenter,
        False))
    case.addCleanup(case.remove_path, '[LocalDS_1] renamed')
    to = f'[LocalDS_1] renamed/{path.rpartition("/")[2]}'
    return Hurt('lost', volume.id, path, (
        ('volume', 'relink', volume.id, '--disk', to),
        ('sweep', '--act', '--minimum-age', '0'),), _whole(volume))


@damage('base of a linked clone deleted')
def _base_deleted(case):
    source = _volume(case)
    linked = case.new_volume(type_id=case.volume_type(
        'linked', clone_type='linked')['id'])
    case.made(linked, case.driver.create_cloned_volume(linked, source))
    parent = case.truth(linked).disk.backing.parent
    while parent.parent:
        parent = parent.parent
    case.wait(case.service.content.virtualDiskManager.DeleteVirtualDisk_Task(
        parent.fileName, case.datacenter))

    def check():
        _gone(case, linked)()
        _gone(case, source)()
    return Hurt('lost', linked.id, f'{parent.fileName}, which is gone', (
        ('repair', linked.id), ('repair', source.id)), {}, check)


# -- Records ----------------------------------------------------------------

@damage('record gone, the shadow VM is left')
def _record_gone(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    path = case.truth(volume).path
    volume.destroy()

    def check():
        case.assertEqual('Quarantine', vm.parent.name)
        case.assertEqual(content('its own'),
                         case.read_from(path, len(content('its own'))))
    return Hurt('orphan', volume.id, 'has no record', (
        ('sweep', '--act', '--minimum-age', '0'),), {}, check, swept=True)


@damage('host of the record names another pool')
def _wrong_pool(case):
    volume = _volume(case)
    volume.update({'host': f'{backend_case.HOST}#LocalDS_3'})
    volume.save()
    return _repair(case, volume, 'misplaced', 'its host names LocalDS_3',
                   lambda: case.assert_on('LocalDS_1', volume))


@damage('host of the record names a backend that no service has')
def _wrong_backend(case):
    volume = _volume(case)
    case.register_service()
    volume.update({'host': 'nowhere@nothing#LocalDS_1'})
    volume.save()
    return _repair(case, volume, 'misplaced', 'no cinder-volume',
                   lambda: case.assert_on('LocalDS_1', volume))


@damage('a volume without a disk on a pool that is gone (lazy)')
def _lazy_on_no_pool(case):
    with case.lazily():
        volume = case.create()
    case.assertIsNone(case.truth(volume))
    volume.update({'host': f'{backend_case.HOST}#removed',
                   'provider_id': None, 'provider_location': None})
    volume.save()
    return Hurt('misplaced', volume.id, 'there is no pool removed', (
        ('repair', volume.id),), {}, lambda: case.assertIn(
            '#LocalDS_', case.fresh(volume).host))


def _stuck(case, volume, status):
    volume.update({'status': status})
    volume.save()
    with case.database_moved(volume, datetime.timedelta(days=2)):
        pass


@damage('record stuck in creating, the disk is there')
def _stuck_creating(case):
    volume = _volume(case)
    _stuck(case, volume, 'creating')
    return _repair(case, volume, 'stuck', 'it has been creating',
                   lambda: case.assertEqual('available',
                                            case.fresh(volume).status))


@damage('record stuck in deleting, the VM is gone')
def _stuck_deleting(case):
    volume = _volume(case)
    case.destroy(case.truth(volume).vm)
    _stuck(case, volume, 'deleting')
    return Hurt('stuck', volume.id, 'it has been deleting', (
        ('repair', volume.id), ('repair', volume.id)), {},
        _gone(case, volume))


# -- Snapshots --------------------------------------------------------------

def _cow(case, count=1):
    with case.format('COW'):
        volume = _volume(case)
        return volume, [case.snapshot(volume) for _each in range(count)]


def _removed(case, *snapshots):
    def check():
        left = objects.SnapshotList.get_all(case.context, {})
        case.assertEqual(set(), {each.id for each in left} & {
            each.id for each in snapshots})
    return check


@damage('COW snapshot deleted by hand')
def _snapshot_deleted(case):
    volume, (snapshot,) = _cow(case)
    case.wait(case.truth(volume).vm.snapshot.rootSnapshotList[0].snapshot
              .RemoveSnapshot_Task(False))
    return Hurt('lost', snapshot.id, 'nothing of it was found', (
        ('repair', snapshot.id),), _whole(volume), _removed(case, snapshot))


@damage('two COW snapshots consolidated by hand')
def _snapshots_consolidated(case):
    volume, (first, second) = _cow(case, 2)
    case.wait(case.truth(volume).vm.RemoveAllSnapshots_Task())
    return Hurt('lost', first.id, 'nothing of it was found', (
        ('repair', first.id), ('repair', second.id)), _whole(volume),
        _removed(case, first, second))


@damage('COW snapshot renamed', quick=True)
def _snapshot_renamed(case):
    volume, (snapshot,) = _cow(case)
    point = case.truth(volume).vm.snapshot.rootSnapshotList[0].snapshot
    point.RenameSnapshot('before the upgrade')
    return Hurt('lost', snapshot.id, f'before the upgrade ({point._moId})', (
        ('snapshot', 'relink', snapshot.id, '--to', point._moId),),
        _whole(volume), lambda: case.assertEqual(
            snapshot.name,
            case.truth(volume).vm.snapshot.rootSnapshotList[0].name))


@damage('a snapshot made by hand of the shadow VM')
def _snapshot_by_hand(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    point = case.wait(vm.CreateSnapshot_Task('by hand', '', False, False))
    return Hurt('orphan', volume.id, 'that no record names', (
        ('sweep', '--act', '--minimum-age', '0', '--also', point._moId),),
        _whole(volume), lambda: case.assertIsNone(vm.snapshot))


def _template(case):
    with case.format('template'):
        volume = _volume(case)
        snapshot = case.snapshot(volume)
    return volume, snapshot, case.shadow_vms()[snapshot.name]


@damage('template of a snapshot turned into a VM')
def _template_turned(case):
    volume, snapshot, vm = _template(case)
    vm.MarkAsVirtualMachine(case.truth(volume).vm.resourcePool)
    return Hurt('misplaced', snapshot.id, 'not marked as a template', (
        ('repair', snapshot.id),), _whole(volume),
        lambda: case.assertTrue(vm.config.template))


@damage('template of a snapshot removed from the inventory')
def _template_unregistered(case):
    volume, snapshot, vm = _template(case)
    path = vm.config.files.vmPathName
    vm.UnregisterVM()

    def check():
        found = case.shadow_vms()[snapshot.name]
        case.assertEqual(content('its own'), case.read_from(
            case.file_of(found), len(content('its own'))))
    return Hurt('lost', snapshot.id, '', (
        ('snapshot', 'relink', snapshot.id, '--vmtx', path),),
        _whole(volume), check)


@damage('template of a snapshot destroyed')
def _template_destroyed(case):
    volume, snapshot, vm = _template(case)
    case.destroy(vm)
    return Hurt('lost', snapshot.id, 'nothing of it was found', (
        ('repair', snapshot.id),), _whole(volume), _removed(case, snapshot))


@damage('record of a template snapshot gone')
def _template_orphan(case):
    volume, snapshot, vm = _template(case)
    snapshot.destroy()

    def check():
        case.assertIn('Quarantine', (vm.parent.name, vm.parent.parent.name))
        case.assertEqual(content('its own'), case.read_from(
            case.file_of(vm), len(content('its own'))))
    return Hurt('orphan', snapshot.id, 'has no record', (
        ('sweep', '--act', '--minimum-age', '0'),), _whole(volume), check,
        swept=True)


# -- Image cache, quarantine, leftovers, datastores -------------------------

@damage('disk of a cached image gone')
def _cached_image_lost(case):
    image = uuidutils.generate_uuid()
    volume = case.cached_image(image)
    case.destroy(case.truth(volume).vm)
    return Hurt('lost', volume.id, 'nothing of it was found', (
        ('cache', 'clean', image),), {}, _gone(case, volume))


@damage('file of a VM in quarantine gone')
def _quarantined_file_gone(case):
    volume = _volume(case)
    vm, path = case.truth(volume).vm, case.truth(volume).path
    volume.destroy()
    case.listed('sweep', '--act', '--yes', '--minimum-age', '0')
    case.wait(case.service.content.virtualDiskManager.DeleteVirtualDisk_Task(
        path, case.datacenter))
    return Hurt('quarantined', volume.id, 'is gone', (
        ('quarantine', 'purge', vm._moId),), {}, lambda: case.assertNotIn(
            vm._moId, [each._moId for each in case.all(vim.VirtualMachine)]),
        remains=frozenset())


@damage('temporary VM of a killed operation')
def _temporary_vm(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    copy = case.wait(vm.CloneVM_Task(
        vm.parent, f'{volume.name}-extend-0a1b2c3d', vim.vm.CloneSpec(
            location=vim.vm.RelocateSpec(), template=False, powerOn=False,
            config=vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(
                key='cinder.volume.id', value='')]))))
    return Hurt('leftover', volume.id, 'does not need it', (
        ('sweep', '--act', '--minimum-age', '0'),), _whole(volume),
        lambda: case.assertEqual('Quarantine', copy.parent.name), swept=True)


@damage('temporary snapshot of a killed operation')
def _temporary_snapshot(case):
    volume = _volume(case)
    vm = case.truth(volume).vm
    case.wait(vm.CreateSnapshot_Task(
        f'temp-snapshot-{volume.id}', '', False, False))
    return Hurt('leftover', volume.id, 'a snapshot of', (
        ('sweep', '--act', '--minimum-age', '0'),), _whole(volume),
        lambda: case.assertIsNone(vm.snapshot), swept=True)


@damage('temporary image of a killed operation')
def _temporary_image(case):
    volume = _volume(case)
    path = case.truth(volume).path
    to = '[LocalDS_1] cinder_temp/vmdk-ext-0/image.vmdk'
    vdm = case.service.content.virtualDiskManager
    case.service.content.fileManager.MakeDirectory(
        to.rpartition('/')[0], case.datacenter, True)
    case.wait(vdm.CopyVirtualDisk_Task(path, case.datacenter, to,
                                       case.datacenter, None, True))
    return Hurt('leftover', 'cinder_temp', 'a temporary image', (
        ('sweep', '--act', '--minimum-age', '0', '--also', to),),
        _whole(volume))


@damage('datastore renamed')
def _datastore_renamed(case):
    volume = _volume(case)
    datastore = case.datastore('LocalDS_1')
    case.wait(datastore.Rename_Task('another'))
    case.addCleanup(case.catch_up)
    case.addCleanup(lambda: case.wait(datastore.Rename_Task('LocalDS_1')))
    case.catch_up()
    return _repair(case, volume, 'misplaced', 'its VM is on another',
                   lambda: case.assert_on('another', volume))


@damage('datastore asked into maintenance mode, with volumes on it')
def _datastore_in_maintenance(case):
    volume = _volume(case)
    case.maintain('LocalDS_1')
    return Hurt('unreachable', volume.id, 'entering maintenance mode', (
        ('migrate', 'run', 'LocalDS_1'),), _whole(volume),
        lambda: case.assertNotEqual('LocalDS_1',
                                    case.truth(volume).datastore))


@damage('datastore not accessible (until its storage is back)')
def _datastore_inaccessible(case):
    volume = _volume(case)
    back = case.cut_off('LocalDS_1')
    case.catch_up()
    found = {each['kind'] for each in case.listed('audit', status=3)}
    case.assertEqual({'unreachable'}, found)
    return Hurt('unreachable', volume.id, 'not accessible', (
        ('audit',),), _whole(volume), bool, status=3,
        remains=frozenset({'unreachable'}))._replace(check=back)


def load_tests(loader, tests, pattern):
    """This module holds no tests."""
    return unittest.TestSuite()
