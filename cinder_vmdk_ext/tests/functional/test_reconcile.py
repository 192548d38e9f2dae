# SPDX-License-Identifier: Apache-2.0
"""The hosts of disks that others moved are corrected, attached or not.

docs/decisions/10-attached-disks.md; findings B4, B10, B11, D9.
"""

import collections
import threading
import time
from unittest import mock

from pyVmomi import vim

from cinder import objects

from cinder_vmdk_ext.tests.functional import attached_case
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext import volume_rows
from sandbox.embedded import database

content = backend_case.content


class FollowTestCase(backend_case.BackendCase):
    """Moves and renames that Cinder did not make."""

    def test_a_disk_that_others_moved_is_followed_in_one_report(self):
        volume = self.create()
        self.report()
        self.wait(self.truth(volume).vm.RelocateVM_Task(
            vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_3'))))
        self.report()
        self.assert_on('LocalDS_3', volume)

    def test_a_renamed_datastore_is_followed_in_one_report(self):
        volume = self.create('LocalDS_3')
        self.report()
        self.datastore('LocalDS_3').RenameDatastore('gold#1')
        self.addCleanup(lambda: self.datastore('gold#1').RenameDatastore(
            'LocalDS_3'))
        self.report()
        self.assertEqual(f'{backend_case.HOST}#gold%231',
                         self.fresh(volume).host)

    def test_an_attached_disk_that_storage_drs_moved_is_followed(self):
        volume = self.create(content=content('kept'))
        instance = self.attach(volume)
        # Nova makes a second attachment while it moves an instance.
        objects.VolumeAttachment(
            self.context, volume_id=volume.id, attach_status='attached',
            instance_uuid=instance.config.instanceUuid).create()
        self.report()
        disk = self.disk_on(instance, volume)
        self.control.call('POST', '/sdrs/move', {
            'vm': instance.name, 'disk': str(disk.key),
            'datastore': 'LocalDS_3'})
        moved = self.disk_on(instance, volume).backing.fileName
        self.assertNotEqual(disk.backing.fileName, moved)
        self.report()
        self.assert_on('LocalDS_3', volume)
        self.assertEqual(moved, self.truth(volume).path)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))

    def test_disks_that_are_moved_at_once_take_no_query_for_an_instance(self):
        volumes = [self.create() for _each in range(5)]
        for volume in volumes:
            instance = self.attach(volume)
        self.report()
        for volume in volumes:
            self.control.call('POST', '/sdrs/move', {
                'vm': instance.name, 'datastore': 'LocalDS_3',
                'disk': str(self.disk_on(instance, volume).key)})
        with mock.patch.object(
                objects.VolumeAttachmentList,
                'get_all_by_instance_uuid') as asked:
            self.report()
        asked.assert_not_called()
        for volume in volumes:
            self.assert_on('LocalDS_3', volume)

    # -- At the start of the service -----------------------------------------

    def started(self):
        """A service that starts now, with all volumes."""
        self.driver = self.make_driver()
        self.driver.update_provider_info(list(
            objects.VolumeList.get_all(self.context)), [])

    def test_an_attached_disk_moved_before_the_start_is_followed(self):
        volume = self.create(content=content('kept'))
        instance = self.attach(volume)
        disk = self.disk_on(instance, volume)
        self.control.call('POST', '/sdrs/move', {
            'vm': instance.name, 'disk': str(disk.key),
            'datastore': 'LocalDS_3'})
        moved = self.disk_on(instance, volume).backing.fileName
        self.started()
        self.report()
        self.assert_on('LocalDS_3', volume)
        self.assertEqual(moved, self.truth(volume).path)

    def test_what_is_right_at_the_start_is_not_queried_again(self):
        self.attach(self.create())
        self.create('LocalDS_2')
        self.started()
        with mock.patch.object(objects.VolumeList, 'get_all') as volumes, (
                mock.patch.object(volume_rows, 'volumes')) as rows, (
                mock.patch.object(volume_rows, 'attached_to')) as attached:
            self.reconcile()
        self.assertEqual(([], [], []), (
            volumes.mock_calls, rows.mock_calls, attached.mock_calls))

    def cost_of_a_start(self):
        """Queries, and calls by method, from the load to the first report."""
        others = {each['id'] for each in self.control.sessions()}
        self.driver = self.make_driver()
        [own] = {each['id'] for each in self.control.sessions()} - others
        self.catch_up()
        volumes = list(objects.VolumeList.get_all(self.context))
        self.control.reset_journal()
        with database.statements() as queries:
            self.driver.update_provider_info(volumes, [])
            while not self.driver.backend.reconciler.run():
                pass
            self.driver.get_volume_stats(refresh=True)
        self.assertEqual(0, self.driver.backend.reconciler.unchecked)
        return queries, collections.Counter(
            each['method'] for each in self.control.calls(10000)
            # They come at times of their own.
            if each['session'] == own and each['method'] not in (
                'WaitForUpdatesEx', 'RefreshDatastoreStorageInfo'))

    def test_a_start_asks_as_often_whatever_the_number_of_volumes(self):
        self.attach(self.create())
        self.create()
        queries, calls = self.cost_of_a_start()
        for _each in range(3):
            self.attach(self.create())
            self.create()
        more_queries, more_calls = self.cost_of_a_start()
        self.assertEqual(queries, more_queries)
        self.assertEqual(calls, more_calls)


class SnapshotOfInstanceTestCase(attached_case.AttachedCase):

    def test_a_backups_snapshot_moves_no_shadow_vm(self):
        volume = self.attached()
        path = self.truth(volume).path
        snapshot = self.wait(self.instance.CreateSnapshot_Task(
            'backup', '', False, False))
        self.report()
        self.assertEqual(path, self.truth(volume).path)
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.report()
        self.assertEqual(path, self.truth(volume).path)


class RegisteredAnewTestCase(attached_case.AttachedCase):
    """An instance was removed from the inventory, and has a new moref."""

    def replace(self):
        """:returns: the new VM, of the same UUID and files"""
        vm = self.instance
        before, uuid = vm._moId, vm.config.instanceUuid
        place = (vm.config.files.vmPathName, vm.name, False,
                 vm.resourcePool, vm.runtime.host)
        self.wait(vm.PowerOffVM_Task())
        vm.UnregisterVM()
        found = self.wait(self.service.content.rootFolder.childEntity[0]
                          .vmFolder.RegisterVM_Task(*place))
        self.wait(found.PowerOnVM_Task())
        self.addCleanup(self._remove, found)
        self.assertEqual((uuid, False),
                         (found.config.instanceUuid, found._moId == before))
        return found

    def assert_followed(self, volume):
        self.report()
        disk = self.disk_on(self.instance, volume)
        self.control.call('POST', '/sdrs/move', {
            'vm': self.instance.name, 'disk': str(disk.key),
            'datastore': 'LocalDS_3'})
        self.report()
        self.assert_on('LocalDS_3', volume)
        self.assertEqual(self.of_volume(volume), self.truth(volume).path)

    def test_it_is_followed(self):
        volume = self.attached()
        self.report()
        self.instance = self.replace()
        self.assert_followed(volume)

    def test_it_is_followed_if_nothing_was_heard_meanwhile(self):
        volume = self.attached()
        self.report()
        stream = self.driver.backend.stream
        conversation = stream.conversation()
        conversation.stop(60)
        with mock.patch.object(stream, 'conversation', return_value=None):
            self.instance = self.replace()
        stream._conversation = None
        self.assertIsNot(conversation, stream.conversation())
        self.assert_followed(volume)


class WhereItIsTestCase(attached_case.AttachedCase):

    def test_a_linked_clone_is_followed(self):
        source = self.create('LocalDS_1', content=b'source')
        kind = self.volume_type('linked', clone_type='linked')
        volume = self.new_volume('LocalDS_1', type_id=kind['id'])
        self.made(volume, self.driver.create_cloned_volume(volume, source))
        uuid = self.truth(volume).disk.backing.uuid
        self.assertNotEqual(volume.id, uuid)
        self.attach(volume, self.instance)
        self.wait(self.instance.RelocateVM_Task(vim.vm.RelocateSpec(disk=[
            vim.vm.RelocateSpec.DiskLocator(
                diskId=next(
                    device.key for device
                    in self.instance.config.hardware.device
                    if isinstance(device, vim.vm.device.VirtualDisk)),
                datastore=self.datastore('LocalDS_2'))])))
        self.report()
        self.assertEqual('LocalDS_2', self.truth(volume).datastore)
        self.assertEqual(f'{backend_case.HOST}#LocalDS_2',
                         self.fresh(volume).host)

    def test_a_disk_apart_from_its_vm_is_where_the_disk_is(self):
        volume = self.create('LocalDS_1', content=b'moved')
        truth = self.truth(volume)
        self.wait(truth.vm.RelocateVM_Task(vim.vm.RelocateSpec(disk=[
            vim.vm.RelocateSpec.DiskLocator(
                diskId=truth.disk.key,
                datastore=self.datastore('LocalDS_2'))])))
        self.report()
        self.assertEqual('LocalDS_2', self.truth(volume).datastore)
        self.assertEqual((True, None), self.driver.migrate_volume(
            self.context, self.fresh(volume), self.there('LocalDS_1')))
        self.assertEqual('LocalDS_1', self.truth(volume).datastore)

    def test_a_shadow_vm_names_a_disk_while_the_disk_is_moved(self):
        volume = self.attached()
        rule = self.control.fault(method='RelocateVM_Task', count=1,
                                  task_hang=True)
        mover = threading.Thread(
            target=self.driver.migrate_volume, args=(
                self.context, self.fresh(volume), self.there('LocalDS_2')))
        mover.start()
        deadline = time.monotonic() + 60
        while (not self.control.faults()[0]['hits']
                and time.monotonic() < deadline):
            time.sleep(0.02)
        self.assertIsNotNone(self.truth(volume).path)
        self.control.release(rule)
        mover.join(60)
        self.assertFalse(mover.is_alive())
        self.assertEqual('LocalDS_2', self.truth(volume).datastore)
        self.assertEqual(self.of_volume(volume), self.truth(volume).path)
