# SPDX-License-Identifier: Apache-2.0
"""`volume relink` gives lost volumes their VMs and disks back."""

from concurrent import futures
from unittest import mock

from oslo_utils import units
from oslo_utils import uuidutils
from pyVmomi import vim

from cinder import context as cinder_context
from cinder.db import api as db_api

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.cmd import main
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import damage_case

content = backend_case.content


class RelinkBase(damage_case.DamageCase):

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def setUp(self):
        super().setUp()
        self.addCleanup(self.reap)
        self.made_by_hand = []

    def reap(self):
        for vm in self.made_by_hand:
            try:
                self.wait(vm.Destroy_Task())
            except Exception:
                pass

    # -- What is looked at --------------------------------------------------

    def relink(self, volume, *words, status=0):
        return self.listed('volume', 'relink', volume.id, *words, '--yes',
                           status=status)

    def refused(self, volume, *words):
        before = self.names()
        status, out, err = self.command('volume', 'relink', volume.id, *words,
                                        '--yes')
        self.assertEqual((1, ''), (status, out), err)
        self.assertEqual(before, self.names())
        return err

    def names(self):
        return sorted((vm._moId, name) for name, vm
                      in self.shadow_vms().items())

    def filled(self, **fields):
        volume = self.create(content=content('its own'), **fields)
        return volume, self.checksum(volume)

    def assert_whole(self, volume, checksum):
        """It has its name, its UUID, its place and its content."""
        volume.refresh()
        truth = self.truth(volume)
        self.assertEqual((volume.name, volume.id, checksum), (
            truth.vm.name, truth.disk.backing.uuid, self.checksum(volume)))
        self.assert_home(volume)
        self.assert_on(truth.datastore, volume)
        self.assertEqual(state.BACKED, volume.provider_id)

    def assert_works(self, volume, checksum):
        """It can be used, and deleted at last."""
        self.assert_whole(volume, checksum)
        self.assertEqual([], [
            each for each in self.listed('volume', 'list')
            if each['id'] == volume.id and each['differences']])
        snapshot = self.snapshot(volume)
        self.driver.delete_snapshot(snapshot)
        snapshot.destroy()
        self.detach(volume, self.attach(volume))
        volume = self.fresh(volume)
        self.assertEqual(checksum, self.checksum(volume))
        self.driver.delete_volume(volume)
        self.assertIsNone(self.truth(volume))


class RelinkTestCase(RelinkBase):

    # -- A VM ---------------------------------------------------------------

    def test_a_vm_that_lost_its_identity_gets_it_back(self):
        volume, checksum = self.filled()
        vm = self.truth(volume).vm
        datacenter = self.service.content.rootFolder.childEntity[0]
        self.reconfigure(vm, name='mine', extraConfig=[
            vim.option.OptionValue(key='cinder.volume.id', value='')],
            instanceUuid=uuidutils.generate_uuid())
        self.wait(datacenter.vmFolder.MoveIntoFolder_Task([vm]))
        volume.host = f'{backend_case.HOST}#LocalDS_3'
        volume.save()
        self.assertEqual('lost', self.listed(
            'volume', 'show', volume.id, status=4)['backing'])
        would = self.listed('volume', 'relink', volume.id, '--vm', 'mine',
                            '--dry-run')
        self.assertEqual('would be relinked', would['done'])
        self.assertIn("its disk's UUID", would['shown_by'])
        self.assertEqual('mine', vm.name)
        status, out, asked = self.command(
            'volume', 'relink', volume.id, '--vm', vm._moId, answers='n\n')
        self.assertEqual((1, 'mine'), (status, vm.name))
        self.assertIn('left', out)
        self.assertRegex(asked, r'host becomes \S+#LocalDS_1\)\? \[y/N\]')
        done = self.relink(volume, '--vm', 'DC0/vm/mine')
        self.assertEqual('relinked', done['done'])
        self.assertEqual(vm._moId, self.truth(volume).vm._moId)
        self.assertIn('Project', vm.parent.parent.name)
        again = self.relink(volume, '--vm', vm._moId)
        self.assertEqual(('nothing to do', []),
                         (again['done'], again['changes']))
        self.assert_works(volume, checksum)

    def test_what_the_operator_did_not_agree_to_is_not_done(self):
        volume, checksum = self.filled()
        vm = self.truth(volume).vm
        self.option(vm, 'cinder.volume.id')
        self.reconfigure(vm, name='mine',
                         instanceUuid=uuidutils.generate_uuid())

        def meanwhile(change):
            def answer(app, question):
                change()
                return True
            return mock.patch.object(main.Application, 'agreed', answer)

        def renamed():
            self.reconfigure(vm, name='another')
            self.catch_up()

        words = 'volume', 'relink', volume.id, '--vm', vm._moId
        with meanwhile(renamed):
            status, out, err = self.command(*words)
        self.assertEqual((1, ''), (status, out))
        self.assertIn('has changed meanwhile', err)
        self.assertEqual('another', vm.name)
        with futures.ThreadPoolExecutor() as another, meanwhile(
                lambda: another.submit(self.relink, volume, '--vm',
                                       vm._moId).result()):
            self.assertEqual('nothing to do', self.listed(*words)['done'])
        self.assert_whole(volume, checksum)

    def test_a_template_becomes_its_vm_again(self):
        volume, checksum = self.filled()
        vm = self.truth(volume).vm
        vm.MarkAsTemplate()
        self.catch_up()
        self.relink(volume, '--vm', vm._moId)
        self.assertFalse(vm.config.template)
        self.assert_whole(volume, checksum)

    def test_a_vm_in_quarantine_comes_back_to_its_volume(self):
        volume, checksum = self.filled()
        vm = self.truth(volume).vm
        # A record that was restored from a backup of the database.
        volume.destroy()
        self.listed('sweep', '--act', '--yes', '--minimum-age', '0')
        self.assertEqual('Quarantine', vm.parent.name)
        volume = self.revived(volume)
        self.relink(volume, '--vm', vm._moId)
        self.assertEqual([], self.listed('quarantine', 'list'))
        self.assert_whole(volume, checksum)

    def revived(self, volume):
        db_api.volume_update(
            cinder_context.get_admin_context(read_deleted='yes'), volume.id,
            {'deleted': False, 'deleted_at': None, 'status': 'available'})
        return self.fresh(volume)

    # -- A disk -------------------------------------------------------------

    def test_a_disk_without_a_vm_gets_one(self):
        volume, checksum = self.filled()
        path = self.move(self.destroy_but_disk(volume),
                         '[LocalDS_1] rescued/disk.vmdk')
        done = self.relink(volume, '--disk', path)
        self.assertEqual(["its disk's UUID"], done['shown_by'])
        self.assertEqual('nothing to do',
                         self.relink(volume, '--disk', path)['done'])
        self.assert_works(volume, checksum)

    def test_a_vm_that_lost_its_disk_gives_way(self):
        volume, checksum = self.filled()
        vm, path = self.take_disk_off(volume)
        name = vm.name
        done = self.relink(volume, '--disk', path)
        self.assertIn(f'{name} ({vm._moId}) is deleted: it has no disk',
                      done['changes'])
        self.assertNotIn(vm._moId, dict(self.names()))
        self.assert_whole(volume, checksum)

    def test_a_disk_that_an_instance_has_gets_a_vm_and_is_left_alone(self):
        volume, checksum = self.filled()
        instance = self.attach(volume)
        path = self.truth(volume).path
        self.truth(volume).vm.UnregisterVM()
        self.assertIsNone(self.truth(volume))
        self.relink(volume, '--disk', path)
        self.assertEqual(path, self.truth(volume).path)
        self.detach(volume, instance)
        self.driver.terminate_connection(volume, None)
        self.assert_whole(volume, checksum)

    def test_an_instances_own_disk_is_not_taken_for_the_volumes(self):
        volume = self.create()
        instance = self.attach(volume)
        own = next(each.backing for each in instance.config.hardware.device
                   if isinstance(each, vim.vm.device.VirtualDisk))
        self.truth(volume).vm.UnregisterVM()
        size = '--accept', f'{self.size_gib(own.fileName, instance)}GiB'
        self.assertIn("may be a disk of the instance's own", self.refused(
            volume, '--disk', own.fileName, '--accept', own.uuid, *size))
        self.detach(volume, instance)

    def size_gib(self, path, vm):
        return next(-(-each.capacityInBytes // units.Gi)
                    for each in vm.config.hardware.device
                    if isinstance(each, vim.vm.device.VirtualDisk)
                    and each.backing.fileName == path)

    # -- What is not proven, or belongs to another --------------------------

    def test_what_only_may_be_its_own_is_accepted_by_its_value(self):
        volume, checksum = self.filled(size_gib=2)
        other = self.create(content=content('another'))
        vm = self.truth(volume).vm
        copy = self.wait(vm.CloneVM_Task(vm.parent, 'copy', vim.vm.CloneSpec(
            location=vim.vm.RelocateSpec(), template=False, powerOn=False)))
        self.made_by_hand.append(copy)
        self.destroy(vm)
        volume.size = 3
        volume.save()
        uuid = next(device.backing.uuid for device
                    in copy.config.hardware.device
                    if isinstance(device, vim.vm.device.VirtualDisk))
        words = '--vm', copy._moId
        why = self.refused(volume, *words)
        self.assertIn('which a copy of its VM has too', why)
        self.assertIn(f"--accept '{uuid}'", why)
        self.assertIn("--accept '2GiB'", why)
        self.assertIn('2GiB', self.refused(volume, *words, '--accept', uuid))
        self.assertIn('is that of', self.refused(
            volume, '--vm', self.truth(other).vm._moId))
        self.relink(volume, *words, '--accept', uuid, '--accept', '2GiB')
        volume.refresh()
        truth = self.truth(volume)
        self.assertEqual((copy._moId, 3 * units.Gi), (
            truth.vm._moId, truth.disk.capacityInBytes))
        self.assertEqual(content('its own'), self.read(volume, len(
            content('its own'))))

    def test_a_disk_in_the_snapshot_of_another_vm_is_refused(self):
        volume = self.create()
        theirs = self.instances()[1]
        path = self.destroy_but_disk(volume)
        self.add_disk(theirs, path)
        self.made_by_hand.append(theirs)
        self.wait(theirs.CreateSnapshot_Task('s', '', False, False))
        disk = next(each for each in theirs.config.hardware.device
                    if isinstance(each, vim.vm.device.VirtualDisk)
                    and each.backing.parent is not None
                    and each.backing.parent.fileName == path)
        self.reconfigure(theirs, deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=disk)])
        self.assertIn(theirs._moId, self.refused(volume, '--disk', path))

    def test_what_another_has_is_refused_with_what_to_do(self):
        volume = self.create()
        instance, theirs = self.instances()[:2]
        self.assertIn('is not lost', self.refused(
            volume, '--vm', instance._moId))
        path = self.destroy_but_disk(volume)
        self.assertIn("not a volume's VM", self.refused(
            volume, '--vm', instance._moId))
        self.add_disk(theirs, path)
        self.assertIn('disks', self.refused(volume, '--disk', path))
        status, _out, err = self.command(
            'volume', 'relink', volume.id, '--disk', '[LocalDS_1] no.vmdk')
        self.assertEqual(2, status)
        self.assertIn('there is no disk', err)
        self.assertEqual(2, self.command('volume', 'relink', 'none', '--vm',
                                         'x')[0])


class NamesakesTestCase(RelinkBase):
    """Two datacenters, each with datastores of the same names."""

    VCENTER = {'ds': 1, 'dc': 2, 'cluster': 1, 'host': 1, 'vm': 0,
               'standalone_host': 0, 'ds_capacity': '100GiB'}

    def rescued(self, pool):
        volume = self.create(pool)
        datacenter = self.truth(volume).vm
        while not isinstance(datacenter, vim.Datacenter):
            datacenter = datacenter.parent
        return volume, self.move(self.destroy_but_disk(volume),
                                 '[LocalDS_0] rescued/disk.vmdk', datacenter)

    def test_the_one_with_the_volumes_uuid_is_found_and_no_other_is_guessed(
            self):
        pools = sorted(each['pool_name'] for each in
                       self.driver.get_volume_stats(refresh=True)['pools'])
        lost = self.create(pools[0])
        self.destroy(self.truth(lost).vm)
        volumes = [self.rescued(pool) for pool in pools]
        status, _out, err = self.command(
            'volume', 'relink', lost.id, '--disk', volumes[0][1], '--yes')
        self.assertEqual(2, status)
        self.assertIn('2 datastores have a disk', err)
        for volume, path in reversed(volumes):
            pool = volume.host
            self.assertEqual(
                "its disk's UUID", *self.relink(volume, '--disk', path)[
                    'shown_by'])
            self.assertEqual(pool, self.fresh(volume).host)
