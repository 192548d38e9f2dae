# SPDX-License-Identifier: Apache-2.0
"""A clone is on its pool, has its type, and has its source's content."""

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class CloneTestCase(backend_case.BackendCase):
    """Full and linked clones of volumes."""

    def test_a_full_clone_has_the_form_of_its_own_type(self):
        source = self.create('LocalDS_0', content=content('source'))
        other = self.volume_type('fast', vmdk_type='eagerZeroedThick',
                                 adapter_type='paraVirtual')
        clone = self.new_volume('LocalDS_2', 2, other['id'])
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assert_on('LocalDS_2', clone)
        truth = self.truth(clone)
        self.assertEqual('eagerZeroedThick', truth.provisioning)
        self.assertEqual('ParaVirtualSCSIController', truth.adapter)
        self.assertEqual(2, truth.size_gib)
        self.assertEqual(content('source'), self.read(clone, 64 * 1024))

    def test_a_full_clone_takes_one_copy(self):
        source = self.create(content=content('source'))
        clone = self.new_volume('LocalDS_2')
        self.control.reset_journal()
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        calls = self.control.journal()['methods']
        self.assertEqual(1, calls['CloneVM_Task']['calls'])
        self.assertNotIn('MoveVirtualDisk_Task', calls)
        self.assertNotIn('CreateVM_Task', calls)

    def test_a_linked_clone_is_a_delta_of_its_source(self):
        type_id = self.volume_type('linked', clone_type='linked')['id']
        source = self.create(content=content('source'))
        clone = self.new_volume(type_id=type_id)
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assert_on('LocalDS_1', clone)
        self.assertIsNotNone(self.truth(clone).disk.backing.parent)
        self.assertEqual(content('source'), self.read(clone, 64 * 1024))

    def test_a_linked_clone_to_another_pool_becomes_a_full_one(self):
        type_id = self.volume_type('linked', clone_type='linked')['id']
        source = self.create(content=content('source'))
        clone = self.new_volume('LocalDS_2', type_id=type_id)
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assert_on('LocalDS_2', clone)
        self.assertIsNone(self.truth(clone).disk.backing.parent)

    def test_a_clone_of_a_promised_volume_is_promised(self):
        self.driver = self.make_driver(vmware_lazy_create=True)
        source = self.create()
        clone = self.new_volume('LocalDS_2')
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assertTrue(state.is_promised(clone))
        self.assertEqual({}, self.shadow_vms())

    def test_a_copy_that_fails_half_way_leaves_nothing(self):
        source = self.create()
        clone = self.new_volume('LocalDS_2')
        self.control.fault(method='ReconfigVM_Task', count=1, task_fault={
            'type': 'InvalidState'})
        self.assertRaises(vmware_exceptions.VimException,
                          self.driver.create_cloned_volume, clone, source)
        self.assertEqual([source.name], list(self.shadow_vms()))
