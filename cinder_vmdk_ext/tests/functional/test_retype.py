# SPDX-License-Identifier: Apache-2.0
"""Volumes change their type, on their pool or on another."""

from oslo_vmware import exceptions as vmware_exceptions

from cinder.message import api as message_api
from cinder.message import message_field

from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class RetypeTestCase(backend_case.BackendCase):
    """A type's form comes to the disk, or the volume stays as it was."""

    def setUp(self):
        super().setUp()
        self.thin = self.volume_type('thin', vmdk_type='thin',
                                     adapter_type='lsiLogic')
        self.eager = self.volume_type('eager', vmdk_type='eagerZeroedThick',
                                      adapter_type='paraVirtual')

    def retype(self, volume, new_type, pool='LocalDS_1'):
        done = self.driver.retype(self.context, volume, new_type, {},
                                  self.there(pool))
        if done:
            volume.volume_type_id = new_type['id']
            volume.host = self.there(pool)['host']
            volume.save()
        return done

    def test_in_place(self):
        volume = self.create(type_id=self.thin['id'], content=content('kept'))
        self.assertTrue(self.retype(volume, self.eager))
        truth = self.truth(volume)
        self.assertEqual('eagerZeroedThick', truth.provisioning)
        self.assertEqual('ParaVirtualSCSIController', truth.adapter)
        self.assert_on('LocalDS_1', volume)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))
        self.assertEqual([volume.name], list(self.shadow_vms()))
        self.assertTrue(self.retype(volume, self.thin))
        self.assertEqual('VirtualLsiLogicController',
                         self.truth(volume).adapter)

    def test_to_another_pool(self):
        volume = self.create(type_id=self.thin['id'], content=content('kept'))
        self.assertTrue(self.retype(volume, self.eager, 'LocalDS_2'))
        self.assert_on('LocalDS_2', volume)
        self.assertEqual('eagerZeroedThick', self.truth(volume).provisioning)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))

    def test_a_failure_at_any_step_leaves_the_volume_as_it_was(self):
        for pool in ('LocalDS_1', 'LocalDS_2'):
            for skip in range(6):
                volume = self.create(type_id=self.thin['id'],
                                     content=content(skip))
                before = self.checksum(volume)
                rule = self.control.fault(
                    method='(Clone|Reconfig|Relocate)VM_Task|Rename_Task',
                    skip=skip, count=1, task_fault={'type': 'InvalidState'})
                try:
                    failed = not self.retype(volume, self.eager, pool)
                except vmware_exceptions.VimException:
                    failed = True
                self.control.reset_faults()
                del rule
                truth = self.truth(volume)
                self.assertEqual(volume.name, truth.vm.name, (pool, skip))
                self.assertEqual(before, self.checksum(volume), (pool, skip))
                if failed:
                    self.assertEqual(
                        ('thin', 'VirtualLsiLogicController', 'LocalDS_1'),
                        (truth.provisioning, truth.adapter,
                         truth.datastore), (pool, skip))
                self.assertEqual([volume.name], list(self.shadow_vms()),
                                 (pool, skip))
                self.driver.delete_volume(volume)

    def test_a_disk_type_cannot_change_in_place_below_snapshots(self):
        self.driver = self.make_driver(vmware_snapshot_format='COW')
        volume = self.create(type_id=self.thin['id'])
        self.snapshot(volume)
        volume.status = 'retyping'
        volume.save()
        self.assertFalse(self.retype(volume, self.eager))
        self.assertEqual('thin', self.truth(volume).provisioning)
        # The user learns it, once it is clear that Cinder does not migrate.
        self.assertEqual([], self.messages_after_a_pass())
        volume.status = 'available'
        volume.save()
        for _twice in range(2):
            self.assertEqual(
                [(volume.id, message_field.Detail.NO_BACKEND_AVAILABLE[0])],
                self.messages_after_a_pass())

    def messages_after_a_pass(self):
        self.reconcile()
        return [(each['resource_uuid'], each['detail_id'])
                for each in message_api.API().get_all(self.context)]

    def test_no_message_says_that_a_retype_failed_which_a_migration_did(self):
        self.driver = self.make_driver(vmware_snapshot_format='COW')
        volume = self.create(type_id=self.thin['id'])
        self.snapshot(volume)
        self.assertFalse(self.retype(volume, self.eager))
        volume.volume_type_id = self.eager['id']
        volume.save()
        self.assertEqual([], self.messages_after_a_pass())
