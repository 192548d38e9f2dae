# SPDX-License-Identifier: Apache-2.0
"""Relinks that are refused before a disk is read from the vCenter."""

import contextlib
import types
import unittest

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext.volumes import relink

OWN = '11111111-0000-0000-0000-000000000000'


class RelinkTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.missing = None
        self.disks = [shadow.ScannedDisk('datastore-1', 'x/x.vmdk')]
        self.relink = relink.Relink(
            types.SimpleNamespace(volumeops=types.SimpleNamespace(
                missing_file=lambda vm: self.missing)),
            types.SimpleNamespace(inventory=model.Inventory), None, None,
            lambda: types.SimpleNamespace(disks=lambda morefs: self.disks),
            contextlib.nullcontext)

    def refused(self, *machines, vm='vm-1', kind=exceptions.RelinkRefused,
                provider_id=state.BACKED, **record):
        name = f'volume-{OWN}'
        with self.assertRaises(kind) as caught:
            self.relink.plan(
                {'id': OWN, 'name': name, 'size': 1,
                 'provider_id': provider_id},
                compare.Evidence((compare.Volume(OWN, name, 'ds', **record),),
                                 (), machines, ()), vm=vm)
        return str(caught.exception)

    def test_a_vm_is_named_by_reference_path_or_a_name_of_its_own(self):
        machines = [compare.Machine(f'vm-{number}', 'alike', f'/DC/{number}/x')
                    for number in (1, 2)]
        why = self.refused(*machines, vm='alike',
                           kind=exceptions.UnknownObject)
        self.assertIn('2 VMs have the name', why)
        self.assertIn('vm-1, vm-2', why)
        self.assertIn('there is no VM', self.refused(
            *machines, vm='vm-3', kind=exceptions.UnknownObject))
        self.disks = []
        for vm in 'vm-2', 'DC/2/x':
            self.assertIn('(vm-2) has 0 disks', self.refused(*machines,
                                                             vm=vm))

    def test_a_volume_that_is_not_lost_keeps_its_vm(self):
        own = compare.Machine('vm-9', f'volume-{OWN}', uuid=OWN)
        self.assertIn('not lost: volume-1', self.refused(
            own, compare.Machine('vm-1', 'x')))

    def test_a_volume_at_work_is_left_alone(self):
        self.assertIn('is extending; wait', self.refused(
            compare.Machine('vm-1', 'x'),
            status='extending', at_rest=False))

    def test_a_volume_that_never_had_a_disk_gets_none(self):
        self.assertIn('never had a disk', self.refused(
            compare.Machine('vm-1', 'x'), provider_id=state.PROMISED))

    def test_its_own_vm_without_the_file_is_no_answer(self):
        self.missing = '[ds] x.vmdk'
        self.assertIn('is gone', self.refused(
            compare.Machine('vm-1', f'volume-{OWN}', uuid=OWN)))


if __name__ == '__main__':
    unittest.main()
