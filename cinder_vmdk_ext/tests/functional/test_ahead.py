# SPDX-License-Identifier: Apache-2.0
"""Memory says where a volume's VM is; only the VM says that it is so."""

import time

from cinder_vmdk_ext.tests.functional import backend_case


class AheadTestCase(backend_case.BackendCase):

    def setUp(self):
        super().setUp()
        self.volume = self.create()
        deadline = time.monotonic() + 10
        while not self.moref_of(self.volume) and time.monotonic() < deadline:
            time.sleep(0.02)

    def moref_of(self, volume):
        return self.driver.volumeops.backing_view.moref_of(volume.id)

    def supposing(self, moref):
        """Have memory suppose the volume's VM elsewhere."""
        view = self.driver.volumeops.backing_view
        self.addCleanup(setattr, view, 'moref_of', view.moref_of)
        view.moref_of = lambda uuid: moref

    def calls_of(self, act):
        self.control.reset_journal()
        act()
        return {name: each['calls'] for name, each
                in self.control.journal()['methods'].items()
                if name != 'WaitForUpdatesEx'}

    def extended(self):
        before = self.truth(self.volume).size_gib
        calls = self.calls_of(
            lambda: self.driver.extend_volume(self.volume, before + 1))
        self.assertEqual(before + 1, self.truth(self.volume).size_gib)
        return calls

    def test_the_vm_is_found_and_read_in_one_call(self):
        self.assertEqual({'RetrievePropertiesEx': 1,
                          'ExtendVirtualDisk_Task': 1,
                          # by which the end of the task is heard of
                          'ModifyListView': 1}, self.extended())

    def test_another_vm_is_not_taken_for_it(self):
        other = self.create()
        size = self.truth(other).size_gib
        self.supposing(self.truth(other).vm._moId)
        self.assertEqual(1, self.extended()['FindAllByUuid'])
        self.assertEqual(size, self.truth(other).size_gib)

    def test_a_vm_that_is_gone_is_looked_for(self):
        self.supposing('vm-0')
        self.assertEqual(1, self.extended()['FindAllByUuid'])
