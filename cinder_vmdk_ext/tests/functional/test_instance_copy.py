# SPDX-License-Identifier: Apache-2.0
"""A copy of an attached disk, without the instance that has it."""

from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class InstanceCopyTestCase(backend_case.BackendCase):
    """Clones of a volume that is attached to an instance."""

    # The clone; its disk off, its file moved, its disk on the new VM.
    STEPS = (('CloneVM_Task', 0), ('CreateVM_Task', 0),
             ('ReconfigVM_Task', 0), ('MoveVirtualDisk_Task', 0),
             ('ReconfigVM_Task', 1))

    def test_a_clone_of_an_attached_volume_knows_nothing_of_the_instance(self):
        source = self.create(content=content('source'))
        instance = self.attach(source)
        clone = self.new_volume('LocalDS_2')
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assert_on('LocalDS_2', clone)
        vm = self.truth(clone).vm
        self.assertEqual([], [
            device for device in vm.config.hardware.device
            if isinstance(device, vim.vm.device.VirtualEthernetCard)])
        self.assertNotIn(instance.config.instanceUuid, {
            option.value for option in vm.config.extraConfig})
        self.assertEqual(content('source'), self.read(clone, 64 * 1024))

    def test_a_failure_at_any_step_leaves_the_instance_and_nothing_else(self):
        source = self.create(content=content('source'))
        instance = self.attach(source)
        before = self.disk_on(instance, source).backing.fileName
        for method, skip in self.STEPS:
            with self.subTest(f'{method} {skip}'):
                rule = self.control.fault(
                    method=method, skip=skip, count=1,
                    task_fault={'type': 'SystemError'})
                self.assertRaises(
                    vmware_exceptions.VimException,
                    self.driver.create_cloned_volume,
                    self.new_volume('LocalDS_2'), source)
                [found] = [each for each in self.control.faults()
                           if each['id'] == rule['id']]
                self.assertEqual(1, found['hits'])
                self.control.reset_faults()
                self.assertEqual([source.name], list(self.shadow_vms()))
                self.assertEqual(
                    before, self.disk_on(instance, source).backing.fileName)
        self.assertEqual(content('source'), self.read(source, 64 * 1024))
