# SPDX-License-Identifier: Apache-2.0
"""Operations of the crash matrix: images, manage, groups, attachments."""

import os
import re
import subprocess
import tempfile

from oslo_utils import units
from oslo_utils import uuidutils
from pyVmomi import vim

from cinder import objects

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import crash_volumes
from cinder_vmdk_ext.tests.functional import manage_case
from cinder_vmdk_ext.tests.functional import test_transfers

Attempt = crash_volumes.Attempt
Operation = crash_volumes.Operation
CONTENT = test_transfers.CONTENT
RAW = CONTENT + bytes(units.Mi)

# -- Images -----------------------------------------------------------------


def _download(case, volume):
    """The image that a volume becomes."""
    target = test_transfers.ImageService()
    case.driver.copy_volume_to_image(case.context, volume, target,
                                     target.metadata)
    assert target.data.startswith(b'KDMV'), 'no image'
    return target.data


def _sparse():
    with tempfile.TemporaryDirectory() as folder:
        raw, made = (os.path.join(folder, name) for name in 'ab')
        with open(raw, 'wb') as file:
            file.write(RAW)
        subprocess.run(
            ['qemu-img', 'convert', '-f', 'raw', '-O', 'vmdk', '-o',
             'subformat=monolithicSparse', raw, made], check=True)
        with open(made, 'rb') as file:
            return file.read()


def _from_image(kind):
    def begin(case):
        source = case.create(content=CONTENT)
        known = case.checksum(source)
        data = {'preallocated': lambda: RAW, 'sparse': _sparse,
                'streamOptimized': lambda: _download(case, source)}[kind]()
        image = test_transfers.ImageService(data, kind)

        def make(volume):
            case.driver.copy_image_to_volume(case.context, volume, image,
                                             image.metadata['id'])
        made, act, again = case.making(make)
        return Attempt(act, again, lambda: {source.id: known,
                                            made[-1].id: known})
    return begin


def _to_image(case):
    source = crash_volumes.source_volume(case)
    before = case.checksum(source)
    return Attempt(lambda: _download(case, case.fresh(source)), None,
                   lambda: {source.id: before})


# -- Adoption ---------------------------------------------------------------


def _vm_with_disk(case):
    """Somebody's VM, and the path and the content of its disk."""
    vm = manage_case.ManageCase.make_vm(case, 'server')
    path = manage_case.ManageCase.disks(vm)[0].backing.fileName
    case._disk_request('PUT', '', path, backend_case.content('server'))
    return vm, path, case.checksum_of(path)


def _manageable(case, checksum):
    """References of the disks with that content, as Cinder lists them."""
    listed = case.driver.get_manageable_volumes(
        list(objects.VolumeList.get_all(case.context)),
        **manage_case.LISTED)
    return [each['reference'] for each in listed
            if case.checksum_of(_path(case, each['reference'])) == checksum]


def _path(case, reference):
    if 'source-name' in reference:
        return re.match(r'.*?\.vmdk', reference['source-name'])[0]
    return next(disk.backing.fileName for vm in case.all(vim.VirtualMachine)
                for disk in manage_case.ManageCase.disks(vm)
                if disk.backing.uuid == reference['source-id'])


def _manage(case):
    _vm, _path, before = _vm_with_disk(case)
    made = [case.new_volume(size_gib=0)]

    def act():
        # As Cinder lists it: a cut may have left it with another VM.
        [reference] = _manageable(case, before)
        size_gib = case.driver.manage_existing_get_size(made[-1], reference)
        update = case.driver.manage_existing(made[-1], reference)
        case.made(made[-1], update | {'size': size_gib})

    def again():
        failed = case.fresh(made[-1])
        # cinder.volume.api.API.delete
        failed.status = 'error_managing_deleting'
        failed.save()
        case.driver.delete_volume(failed)
        failed.destroy()
        assert _manageable(case, before), 'the disk is gone'
        made.append(case.new_volume(size_gib=0))
        act()

    def expected():
        case.assert_home(made[-1])
        return {made[-1].id: before}
    return Attempt(act, again, expected)


def _unmanage(case):
    volume = crash_volumes.source_volume(case)
    name, path = volume.name, case.truth(volume).path
    before = case.checksum(volume)

    def act():
        case.driver.unmanage(case.fresh(volume))
        volume.destroy()

    def expected():
        [vm] = case.shadow_vms().values()
        assert vm.name == name, vm.name
        assert case.checksum_of(path) == before, 'other content'
        return {}
    return Attempt(act, None, expected)


def _manage_snapshot(form):
    def begin(case):
        volume = crash_volumes.source_volume(case)
        before = case.checksum(volume)
        with case.format(form):
            old = case.snapshot(volume)
        old.destroy()
        case.write(volume, backend_case.content('after the snapshot'))
        taken = [case.new_snapshot(volume)]

        def act():
            [entry] = case.driver.get_manageable_snapshots(
                [], **manage_case.LISTED)
            taken[-1].update(case.driver.manage_existing_snapshot(
                taken[-1], entry['reference']))
            taken[-1].status = 'available'
            taken[-1].save()

        def again():
            # cinder.volume.manager deletes nothing of one in error_managing.
            objects.Snapshot.get_by_id(case.context, taken[-1].id).destroy()
            taken.append(case.new_snapshot(volume))
            act()

        def expected():
            case.driver.revert_to_snapshot(
                case.context, case.fresh(volume),
                objects.Snapshot.get_by_id(case.context, taken[-1].id))
            return {volume.id: before}
        return Attempt(act, again, expected)
    return begin


# -- Groups -----------------------------------------------------------------


def _group(case, **specs):
    return case.database.group(
        f'kind-{uuidutils.generate_uuid()}',
        f'{backend_case.HOST}#LocalDS_1', **specs)


def _members(case, group):
    made = []
    for number in range(2):
        volume = case.new_volume(group_id=group.id)
        case.made(volume, case.driver.create_volume(volume))
        case.write(volume, backend_case.content(number))
        made.append(volume)
    return made


def _saved(things, updates):
    """Records as Cinder's manager leaves them."""
    for thing in things:
        thing.update(next({key: value for key, value in update.items()
                           if key != 'id'} for update in updates
                          if update['id'] == thing.id))
        thing.save()


class _GroupSnapshot:
    """A group with two volumes, and its group snapshot."""

    def __init__(self, case, attached=False):
        self.case = case
        specs = {'consistent_group_snapshot_enabled': '<is> True'}
        self.group = _group(case, **(specs if attached else {}))
        self.volumes = _members(case, self.group)
        self.sums = case.sums(*self.volumes)
        if attached:
            for volume in self.volumes:
                case.attach(volume)
        self.new()

    def new(self):
        self.record = objects.GroupSnapshot(
            self.case.context, group_id=self.group.id, status='creating',
            group_type_id=self.group.group_type_id, user_id='user',
            project_id=self.group.project_id, name='a group snapshot')
        self.record.create()
        self.snapshots = [self.case.new_snapshot(volume)
                          for volume in self.volumes]

    def take(self):
        done, updates = self.case.driver.create_group_snapshot(
            self.case.context, self.record, self.snapshots)
        _saved(self.snapshots, updates)
        assert done['status'] == 'available', done

    def delete(self):
        fresh = [objects.Snapshot.get_by_id(self.case.context, each.id)
                 for each in self.snapshots]
        done, updates = self.case.driver.delete_group_snapshot(
            self.case.context, self.record, fresh)
        assert [each['status'] for each in updates] == ['deleted'] * 2, done
        for each in fresh:
            each.destroy()

    def again(self):
        for each in self.snapshots:
            each.status = 'error'
            each.save()
        self.delete()
        self.new()
        self.take()

    def expected(self):
        case = self.case
        held = [vm.name for vm in case.instances() if vm.snapshot]
        assert not held, f'instances have snapshots: {held}'
        for volume in self.volumes:
            if case.fresh(volume).status == 'in-use':
                instance = case.instances()[0]
                assert (case.truth(volume).path == case.disk_on(
                    instance, volume).backing.fileName), 'strayed'
        return self.sums


def _group_snapshot(attached):
    def begin(case):
        taken = _GroupSnapshot(case, attached)
        return Attempt(taken.take, taken.again, taken.expected)
    return begin


def _delete_group_snapshot(case):
    taken = _GroupSnapshot(case)
    taken.take()
    return Attempt(taken.delete, None, taken.expected)


def _delete_group(case):
    group = _group(case)
    volumes = _members(case, group)

    def act():
        fresh = [case.fresh(each) for each in volumes]
        done, updates = case.driver.delete_group(case.context, group, fresh)
        assert [each['status'] for each in updates] == ['deleted'] * 2, done
        for each in volumes:
            each.destroy()
    return Attempt(act)


def _group_from(snapshots):
    """A group from a group snapshot, or else from a group."""
    def begin(case):
        source = _GroupSnapshot(case)
        sources: dict = {'source_group': source.group,
                         'source_vols': source.volumes}
        field = 'source_volid'
        if snapshots:
            source.take()
            sources = {'group_snapshot': source.record,
                       'snapshots': source.snapshots}
            field = 'snapshot_id'
        origins = source.snapshots if snapshots else source.volumes
        made: list = []

        def new():
            other = _group(case)
            made[:] = other, [case.new_volume(
                'LocalDS_2', group_id=other.id, **{field: each.id})
                for each in origins]

        def act():
            _told, updates = case.driver.create_group_from_src(
                case.context, *made, **sources)
            _saved(made[1], updates)

        def again():
            failed = [case.fresh(each) for each in made[1]]
            for each in failed:
                each.status = 'error'
                each.save()
            done, updates = case.driver.delete_group(case.context, made[0],
                                                     failed)
            assert [each['status'] for each in updates] == (
                ['deleted'] * 2), done
            for each in failed:
                each.destroy()
            new()
            act()

        def expected():
            sums = [source.sums[each.id] for each in source.volumes]
            return source.sums | dict(zip((each.id for each in made[1]),
                                          sums))
        new()
        return Attempt(act, again, expected)
    return begin


# -- Projects and attachments -----------------------------------------------


def _accept_transfer(case):
    volume = crash_volumes.source_volume(case)
    before = case.checksum(volume)
    with case.format('template'):
        snapshot = case.snapshot(volume)

    def act():
        case.driver.accept_transfer(case.context, case.fresh(volume),
                                    'another', 'another-project')

    def expected():
        vm = case.truth(volume).vm
        template = case.shadow_vms()[snapshot.name]
        for each in (vm, template.parent):
            assert 'another-project' in each.parent.parent.name, (
                each.parent.parent.name)
        return {volume.id: before}
    return Attempt(act, None, expected)


def _connect(case, volume):
    instance = case.instances()[0]
    return case.driver.initialize_connection(
        volume, {'instance': instance._moId, 'ip': '127.0.0.1',
                 'host': 'compute', 'initiator': 'iqn'})


def _first_attach(case):
    volume = case.new_volume(provider_id=state.PROMISED,
                             status='available')

    def expected():
        [vm] = case.shadow_vms().values()
        assert vm.name == volume.name, vm.name
        assert case.read(volume, 512) == bytes(512), 'not empty'
        return case.sums(volume)
    return Attempt(lambda: _connect(case, case.fresh(volume)), None,
                   expected)


def _attach_moving(case):
    """The instance's host does not see where the volume is."""
    volume = crash_volumes.source_volume(case)
    host = case.instances()[0].runtime.host.name
    # Its own VM's host does, or nothing could be done with that VM.
    while case.truth(volume).vm.runtime.host.name == host:
        case.driver.delete_volume(volume)
        volume.destroy()
        volume = crash_volumes.source_volume(case)
    before = case.read(volume, 1 << 20)

    def mount(accessible):
        case.control.call('POST', '/mounts', {
            'datastore': 'LocalDS_1', 'host': host,
            'accessible': accessible})
    case.undo.append(lambda: mount(True))
    mount(False)
    case.catch_up()

    def expected():
        assert case.read(volume, 1 << 20) == before, 'other content'
        seen = case.truth(volume).disk.backing.datastore
        assert host in [each.key.name for each in seen.host
                        if each.mountInfo.accessible], 'not to be seen'
        return case.sums(volume)
    return Attempt(lambda: _connect(case, case.fresh(volume)), None,
                   expected)


OPERATIONS = {
    'create from an image (streamOptimized)': Operation(
        _from_image('streamOptimized')),
    'create from an image (sparse)': Operation(_from_image('sparse')),
    'create from an image (preallocated)': Operation(
        _from_image('preallocated')),
    'copy to an image': Operation(_to_image),
    'manage': Operation(_manage),
    'unmanage': Operation(_unmanage),
    'manage a snapshot (COW)': Operation(_manage_snapshot('COW')),
    'manage a snapshot (template)': Operation(_manage_snapshot('template')),
    'group snapshot': Operation(_group_snapshot(attached=False)),
    'group snapshot (consistent, attached)': Operation(
        _group_snapshot(attached=True)),
    'delete a group snapshot': Operation(_delete_group_snapshot),
    'delete a group': Operation(_delete_group),
    'group from a group snapshot': Operation(_group_from(snapshots=True)),
    'group from a group': Operation(_group_from(snapshots=False)),
    'accept a transfer': Operation(_accept_transfer),
    'first attach': Operation(_first_attach),
    'attach, and move': Operation(_attach_moving),
}


def load_tests(loader, tests, pattern):
    """This module holds no tests of its own."""
    return type(tests)()
