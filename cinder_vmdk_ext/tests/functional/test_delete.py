# SPDX-License-Identifier: Apache-2.0
"""A deletion that is repeated, or that failed, ends."""

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.tests.functional import backend_case


class DeleteTestCase(backend_case.BackendCase):
    """A delete can be repeated, whatever became of the first."""

    def test_after_it_was_done_and_nobody_heard(self):
        volume = self.create()
        self.driver.delete_volume(volume)
        self.driver.delete_volume(self.fresh(volume))
        self.assertEqual({}, self.shadow_vms())

    def test_after_it_failed(self):
        volume = self.create()
        self.control.fault(method='Destroy_Task', count=1, task_fault={
            'type': 'InvalidState'})
        self.assertRaises(vmware_exceptions.VimException,
                          self.driver.delete_volume, volume)
        self.driver.delete_volume(self.fresh(volume))
        self.assertEqual({}, self.shadow_vms())
