# SPDX-License-Identifier: Apache-2.0
"""The steps of the actors (simulator/actors), which are those of Nova 34 and of other products, against the strict simulator."""

from pyVmomi import vim

from simulator import control
from simulator.actors import backup
from simulator.actors import nova
from simulator.actors import openstack
from simulator.actors import storage_drs
from simulator.actors import stranger
from simulator.actors import vcenter
from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance.storage_case import sha256

SIZE = 16 * MIB
DATA = noise(2 * MIB, 1)
ONE = sha256(DATA, SIZE)
LATER = noise(MIB, 2)
TWO = sha256(LATER + DATA[MIB:], SIZE)


class ActorCase(storage_case.StorageCase):
    """A server, and a volume that is attached to it."""

    flags = {'ds': 3, 'vm': 0, 'ds_capacity': '10GiB', 'ds_mount_all': True, 'cluster': 1, 'host': 2, 'standalone_host': 0}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.endpoint = control.Control(cls.vcenter.control_url)
        cls.nova = nova.Nova(cls.client)

    def setUp(self):
        super().setUp()
        self.shadow, self.path = self.vm_with_disk('LocalDS_0', data=DATA)
        self.volume = self.shadow.config.instanceUuid
        self.server = self.nova.boot('LocalDS_1')
        self.addCleanup(lambda: self.gone(self.server))  # a rebuild makes another
        self.nova.attach(self.server, self.volume)

    def gone(self, vm):
        if vm is self.server and vm in self.all(vim.VirtualMachine):
            where = vcenter.folder(vm)
            self.nova.delete(vm) or self.until(lambda: self.nova.delete_folder(where))
        super().gone(vm)

    def destroy(self, vm):
        """Once the disk that a running server gave back is no longer locked."""
        self.until(lambda: not self.is_locked(vm))
        super().destroy(vm)

    def is_locked(self, vm):
        """Whether a disk of a VM that is off is locked by a server that had it."""
        paths = [disk.backing.fileName for disk in self.disks(vm)] if vm.runtime.powerState == 'poweredOff' else []
        for path in paths:
            task = self.content.virtualDiskManager.ShrinkVirtualDisk_Task(path, self.datacenter, False)
            self.until(lambda: task.info.state in ('success', 'error'))
            if isinstance(task.info.error, vim.fault.FileLocked):
                return True
        return False

    def of_volume(self):
        return self.nova.disk_of(self.server, self.volume).backing.fileName


class NovaTestCase(ActorCase):

    def test_what_is_attached_is_the_shadow_vms_file_and_is_noted(self):
        self.assertEqual((self.path, [self.volume]), (self.of_volume(), self.nova.volumes(self.server)))

    def test_a_detached_disk_stays_where_it_was(self):
        self.nova.detach(self.server, self.volume)
        self.assertEqual((ONE, [], self.path),
                         (self.checksum(self.path), self.nova.volumes(self.server), self.path_of(self.shadow)))
        with self.assertRaises(nova.NotAttached):
            self.nova.detach(self.server, self.volume)

    def test_a_live_migration_takes_the_volume_to_another_host_and_into_the_servers_folder(self):
        host = self.server.runtime.host
        self.nova.live_migrate(self.server, 'LocalDS_2')
        self.assertNotEqual(host, self.server.runtime.host)
        self.assertTrue(self.of_volume().startswith(vcenter.folder(self.server)))
        self.assertEqual(ONE, self.checksum(self.of_volume()))

    def test_detaching_consolidates_a_disk_that_was_moved(self):
        """The shadow VM's file is gone: it comes to the datastore of the disk without one, and then names it."""
        self.nova.live_migrate(self.server, 'LocalDS_2')
        moved = self.of_volume()
        self.nova.detach(self.server, self.volume)
        self.assertEqual((moved, ONE), (self.path_of(self.shadow), self.checksum(moved)))
        self.assertTrue(vcenter.folder(self.shadow).startswith('[LocalDS_2]'))

    def test_deleting_a_server_detaches_first_and_the_volume_stays(self):
        self.nova.delete(self.server)
        self.assertEqual((ONE, [self.shadow]), (self.checksum(self.path), self.all(vim.VirtualMachine)))
        self.assertEqual(10 << 30, self.free('LocalDS_1'))

    def test_deleting_a_server_that_was_migrated_takes_the_volume_with_it(self):
        """Finding B2: the disk lies in the server's folder, and Nova alone does not bring it home."""
        self.nova.live_migrate(self.server, 'LocalDS_2')
        moved = self.of_volume()
        self.nova.delete(self.server)
        self.assertFalse(self.there(moved))

    def test_a_rebuilt_server_has_its_uuid_and_its_volume_again(self):
        before = self.server.config.instanceUuid
        self.server = self.nova.rebuild(self.server)
        self.assertEqual((before, self.path, ONE),
                         (self.server.config.instanceUuid, self.of_volume(), self.checksum(self.path)))

    def test_an_evacuated_server_runs_on_another_host_from_the_same_files(self):
        host = self.server.runtime.host
        self.nova.evacuate(self.server)
        self.assertNotEqual(host, self.server.runtime.host)
        self.assertEqual(('poweredOn', self.path), (self.server.runtime.powerState, self.of_volume()))

    def test_an_image_of_a_server_leaves_nothing(self):
        self.nova.image(self.server)
        self.assertEqual((self.path, ONE, None), (self.of_volume(), self.checksum(self.path), self.server.snapshot))
        self.assertEqual(2, len(self.all(vim.VirtualMachine)))

    # While the server has a snapshot it runs on a delta, and the shadow VM names the base below: the paths differ, so Nova has the
    # shadow VM's disk destroyed. That a host deletes no file which a machine holds open is its locks' purpose; that a vCenter leaves
    # alone what another machine reads through while nothing runs is assumed, as of linked clones.

    def test_a_running_server_with_a_snapshot_does_not_give_its_volume_up(self):
        backup.Backup(self.client).begin([self.server])
        delta = self.of_volume()
        with self.assertRaises(vim.fault.FileLocked):
            self.nova.detach(self.server, self.volume)
        self.assertEqual((delta, self.path, ONE), (self.of_volume(), self.path_of(self.shadow), self.checksum(delta)))
        backup.Backup(self.client).end([self.server])
        self.nova.detach(self.server, self.volume)
        self.assertEqual((self.path, ONE), (self.path_of(self.shadow), self.checksum(self.path)))

    def test_deleting_a_server_with_a_snapshot_leaves_the_shadow_vm_on_the_delta(self):
        backup.Backup(self.client).begin([self.server])
        delta = self.of_volume()
        self.guest_writes(delta, LATER)
        self.nova.delete(self.server)
        self.assertEqual((delta, TWO), (self.path_of(self.shadow), self.checksum(delta)))
        self.wait(self.shadow.ConsolidateVMDisks_Task())
        self.assertEqual((self.path, TWO, False), (self.path_of(self.shadow), self.checksum(self.path), self.there(delta)))

    def test_a_volume_stays_on_the_delta_while_the_snapshot_that_it_was_taken_from_is_there(self):
        product = backup.Backup(self.client)
        product.begin([self.server])
        delta = self.of_volume()
        self.guest_writes(delta, LATER)
        self.wait(self.server.PowerOffVM_Task())
        self.nova.detach(self.server, self.volume)
        self.wait(self.shadow.ConsolidateVMDisks_Task())
        self.assertEqual((delta, TWO, ONE), (self.path_of(self.shadow), self.checksum(delta), self.checksum(self.path)))
        product.end([self.server])
        self.wait(self.shadow.ConsolidateVMDisks_Task())
        self.assertEqual((self.path, TWO), (self.path_of(self.shadow), self.checksum(self.path)))


class OthersTestCase(ActorCase):

    def test_storage_drs_moves_one_disk_into_the_servers_folder(self):
        drs = storage_drs.StorageDRS(self.client, self.endpoint)
        for move in (drs.move_disk, drs.apply):
            for name in ('LocalDS_2', 'LocalDS_0'):
                move(self.server, self.nova.disk_of(self.server, self.volume), name)
                self.assertTrue(self.of_volume().startswith(f'[{name}] '))
                self.assertEqual(ONE, self.checksum(self.of_volume()))

    def test_a_night_of_backups_leaves_the_disks_as_they_were(self):
        product = backup.Backup(self.client)
        product.begin([self.server])
        self.assertNotEqual(self.path, self.of_volume())
        product.begin([self.server])
        self.assertEqual(1, len(product.snapshots(self.server)))
        product.end([self.server])
        self.assertEqual((self.path, ONE, []), (self.of_volume(), self.checksum(self.path), product.snapshots(self.server)))

    def test_a_fingerprint_changes_with_any_touch_and_with_none(self):
        other = stranger.Stranger(self.client, self.endpoint)
        vm = other.settle('LocalDS_1', 'somebody')
        loose = other.leave_disk('LocalDS_1', 'archive/old.vmdk')
        self.addCleanup(other.leave)
        seen = [other.fingerprint()]
        self.assertEqual(seen, [other.fingerprint()])
        for touch in (
                lambda: self.wait(vm.Rename_Task('renamed')),
                lambda: self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(annotation='seen'))),
                lambda: self.snapshot(vm),
                lambda: self.guest_writes(vcenter.disks(vm)[0].backing.fileName, b'x'),
                lambda: self.guest_writes(loose, b'x')):
            touch()
            seen.append(other.fingerprint())
            self.assertNotEqual(*seen[-2:])

    def test_another_openstack_has_a_shadow_vm_that_its_cinder_would_find(self):
        other = openstack.OpenStack(self.client, self.endpoint)
        self.addCleanup(other.leave)
        vm = other.volume('LocalDS_0')
        second = other.volume('LocalDS_0')
        identity = vm.name.removeprefix('volume-')
        self.assertEqual(vm, self.content.searchIndex.FindByUuid(None, identity, True, True))
        self.assertEqual((identity, vm.parent), (vcenter.disks(vm)[0].backing.uuid, second.parent))
