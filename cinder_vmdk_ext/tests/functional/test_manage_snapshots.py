# SPDX-License-Identifier: Apache-2.0
"""Snapshots that Cinder did not take are managed and unmanaged."""

import re

from cinder import exception

from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import manage_case


class SnapshotsTestCase(manage_case.ManageCase):
    """manage and unmanage of snapshots, in both formats."""

    def listed_snapshots(self, snapshots=()):
        return self.driver.get_manageable_snapshots(list(snapshots),
                                                    **manage_case.LISTED)

    def manage_snapshot(self, volume, reference):
        made = self.new_snapshot(volume)
        self.assertEqual(volume.size,
                         self.driver.manage_existing_snapshot_get_size(
                             made, reference))
        made.update(self.driver.manage_existing_snapshot(made, reference))
        made.save()
        return made

    def test_one_that_an_administrator_took(self):
        volume = self.create(content=backend_case.content(7))
        before = self.checksum(volume)
        vm = self.truth(volume).vm
        self.wait(vm.CreateSnapshot_Task('before the upgrade', None, False,
                                         False))
        [entry] = self.listed_snapshots()
        self.assertEqual(
            (True, {'source-name': volume.name}, volume.size),
            (entry['safe_to_manage'], entry['source_reference'],
             entry['size']))
        made = self.manage_snapshot(volume, entry['reference'])
        self.assertEqual(made.name, vm.snapshot.rootSnapshotList[0].name)
        self.write(volume, b'something else')
        self.driver.revert_to_snapshot(self.context, volume, made)
        self.assertEqual(before, self.checksum(volume))
        [entry] = self.listed_snapshots([made])
        self.assertEqual((False, made.id),
                         (entry['safe_to_manage'], entry['cinder_id']))

    def test_by_name_unless_two_are_called_so(self):
        volume = self.create()
        vm = self.truth(volume).vm
        self.wait(vm.CreateSnapshot_Task('once', None, False, False))
        self.manage_snapshot(volume, {'source-name': 'once'})
        for _number in range(2):
            self.wait(vm.CreateSnapshot_Task('twice', None, False, False))
        error = self.assertRaises(
            exception.ManageExistingInvalidReference, self.manage_snapshot,
            volume, {'source-name': 'twice'})
        self.assertTrue(re.search(r'snapshot-\d+, snapshot-\d+', str(error)))

    def test_one_that_is_not_there_or_cinders_already_is_refused(self):
        volume = self.create()
        snapshot = self.snapshot(volume)
        for error, reference in (
                (exception.ManageExistingInvalidReference,
                 {'source-name': 'no'}),
                (exception.ManageExistingInvalidReference,
                 {'source-id': 'snapshot-0'}),
                (exception.ManageExistingInvalidReference,
                 {'source-id': 'vm-0'}),
                (exception.ManageExistingInvalidReference, {}),
                (exception.ManageExistingAlreadyManaged,
                 {'source-name': snapshot.name})):
            with self.subTest(reference):
                self.assertRaises(error, self.manage_snapshot, volume,
                                  reference)

    def test_unmanaged_and_managed_again(self):
        for snapshot_format in ('COW', 'template'):
            with self.subTest(snapshot_format):
                self.driver = self.make_driver(
                    vmware_snapshot_format=snapshot_format)
                volume = self.create(content=backend_case.content(8))
                before = self.checksum(volume)
                snapshot = self.snapshot(volume)
                self.driver.unmanage_snapshot(snapshot)
                snapshot.destroy()
                path = self.truth(volume).path
                self.driver.unmanage(volume)
                volume.destroy()
                again = self.manage({'source-name': path} if snapshot_format
                                    == 'template' else
                                    self.entry(path)['reference'])
                [entry] = self.listed_snapshots()
                self.assertTrue(entry['safe_to_manage'], entry)
                made = self.manage_snapshot(again, entry['reference'])
                self.write(again, b'something else')
                self.driver.revert_to_snapshot(self.context, again, made)
                self.assertEqual(before, self.checksum(again))
                self.driver.delete_snapshot(made)
                self.driver.delete_volume(again)
                self.assertEqual({}, self.shadow_vms())

    def test_one_of_an_empty_volume_is_unmanaged_and_managed_again(self):
        """With lazy creation neither has an object before."""
        self.driver = self.make_driver(vmware_lazy_create=True)
        volume = self.create()
        for _again in range(2):
            snapshot = self.snapshot(volume)
            self.driver.unmanage_snapshot(snapshot)
            snapshot.destroy()
            self.assertIsNone(self.truth(volume))
            self.assertEqual([snapshot.name], list(self.shadow_vms()))
            made = self.manage_snapshot(volume, {'source-id': snapshot.id})
            other = self.new_volume()
            self.made(other, self.driver.create_volume_from_snapshot(
                other, made))
            self.assertEqual(bytes(512), self.read(other, 512))
            self.driver.delete_volume(other)
            self.driver.delete_snapshot(made)
            made.destroy()
            self.assertEqual({}, self.shadow_vms())

    def test_a_template_by_its_name_wherever_it_lies(self):
        self.driver = self.make_driver(vmware_snapshot_format='template')
        volume = self.create()
        snapshot = self.snapshot(volume)
        template = self.shadow_vms()[snapshot.name]
        snapshot.destroy()
        for name in ('before the upgrade', 'a/b 100%'):
            self.wait(template.Rename_Task(name))
            made = self.manage_snapshot(volume, {'source-name': name})
            self.assertIn(made.name, self.shadow_vms())
            made.destroy()

    def test_a_template_of_another_volume_is_refused(self):
        self.driver = self.make_driver(vmware_snapshot_format='template')
        snapshot = self.snapshot(self.create())
        self.driver.unmanage_snapshot(snapshot)
        snapshot.destroy()
        [entry] = self.listed_snapshots()
        error = self.assertRaises(
            exception.ManageExistingInvalidReference, self.manage_snapshot,
            self.create(), entry['reference'])
        self.assertIn('is a copy of', str(error))
