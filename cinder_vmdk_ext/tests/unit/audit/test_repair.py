# SPDX-License-Identifier: Apache-2.0
"""Corrections are refused where a volume's own disk is not certain.

tests/functional/disaster_drill.py carries out each of them.
"""

import types
import unittest
from unittest import mock

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import repair
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import virtual_devices as devices

ID = '11111111-2222-3333-4444-555555555555'
EVIDENCE = compare.Evidence((), (), (), ())


def finding(cause):
    return compare.Finding('changed', 'volume', 'name', ID, ID, 'gold', 0,
                           None, 'detail', machine='vm-1', cause=cause)


class RepairTestCase(unittest.TestCase):

    def setUp(self):
        self.backend = mock.Mock()
        self.api = mock.Mock()
        self.repair = repair.Correction(self.backend, lambda: self.api)
        self.record = types.SimpleNamespace(
            id=ID, migration_status=None, volume_attachment=[])

    def refused(self, cause, why):
        with self.assertRaisesRegex(exceptions.RepairRefused, why):
            self.repair.mend(finding(cause), self.record, EVIDENCE)

    def test_no_disk_is_removed_if_none_or_two_have_the_volumes_uuid(self):
        for uuids in (['a', 'b'], [ID, ID]):
            with mock.patch.object(devices, 'disks', return_value=[
                    types.SimpleNamespace(uuid=each) for each in uuids]):
                self.refused('foreign-disk', 'have its UUID')
        self.backend.volumeops.remove_disk.assert_not_called()

    def test_a_disk_with_snapshots_or_a_parent_is_not_extended(self):
        for disk, snapshots in ((types.SimpleNamespace(parent=None), True),
                                (types.SimpleNamespace(parent='x'), False)):
            self.backend.volumeops.examine.return_value = disk, snapshots
            self.refused('small', 'extends no disk')
        self.backend.replacement.grow.assert_not_called()

    def test_a_migration_under_way_is_left_to_cinder(self):
        self.record.migration_status = 'migrating'
        self.refused('status', 'its migration is migrating')

    def test_a_volume_without_its_disk_gets_the_status_error(self):
        self.repair.mend(finding('status'), self.record, EVIDENCE)
        self.api.reset.assert_called_once_with(ID, 'error')


if __name__ == '__main__':
    unittest.main()
