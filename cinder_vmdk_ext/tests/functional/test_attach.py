# SPDX-License-Identifier: Apache-2.0
"""The first attachment makes the disk of a promised volume, once."""

import threading

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.tests.functional import backend_case


class FirstAttachTestCase(backend_case.BackendCase):
    """A promised volume that is attached, by one or by several at once."""

    OPTIONS = {'vmware_lazy_create': True}

    def test_one_makes_the_disk_and_all_get_it(self):
        volume = self.create()
        connector = {'instance': self.instances()[0]._moId,
                     'ip': '127.0.0.1', 'host': 'compute'}
        connected = []

        def attach():
            connected.append(self.driver.initialize_connection(
                self.fresh(volume), connector)['data']['volume'])

        threads = [threading.Thread(target=attach) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([self.truth(volume).vm._moId] * 4, connected)
        self.assertTrue(state.is_backed(self.fresh(volume)))
        self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_a_promised_volume_is_made_at_attach_on_its_pool(self):
        self.driver = self.make_driver(vmware_lazy_create=True)
        volume = self.create('LocalDS_2')
        self.attach(volume)
        self.assert_on('LocalDS_2', volume)
        self.assertTrue(state.is_backed(self.fresh(volume)))


class HalfwayTestCase(backend_case.BackendCase):
    """The vCenter gives a new disk a UUID of its own."""

    VCENTER = backend_case.BackendCase.VCENTER | {'new_disk_uuid': 'ignored'}
    OPTIONS = FirstAttachTestCase.OPTIONS

    def test_what_one_has_left_halfway_the_next_finishes(self):
        volume = self.create()
        connector = {'instance': self.instances()[0]._moId,
                     'ip': '127.0.0.1', 'host': 'compute'}
        # The disk is there, and has not its UUID yet; and so it stays.
        self.control.fault(method='ReconfigVM_Task|Destroy_Task',
                           task_fault={'type': 'InvalidState'})
        self.assertRaises(vmware_exceptions.VimException,
                          self.driver.initialize_connection,
                          self.fresh(volume), connector)
        self.control.reset_faults()
        self.assertNotEqual(volume.id, self.truth(volume).disk.backing.uuid)
        self.driver.initialize_connection(self.fresh(volume), connector)
        self.assertEqual(volume.id, self.truth(volume).disk.backing.uuid)
        self.assertTrue(state.is_backed(self.fresh(volume)))
        self.assertEqual([volume.name], list(self.shadow_vms()))
