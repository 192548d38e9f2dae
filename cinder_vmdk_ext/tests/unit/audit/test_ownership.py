# SPDX-License-Identifier: Apache-2.0
"""Evidence for and against a volume's ownership of a disk."""

import dataclasses
import unittest

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import ownership
from cinder_vmdk_ext import names

OWN, OTHER, GONE = (f'{digit * 8}-0000-0000-0000-000000000000'
                    for digit in '123')
VOLUME = compare.Volume(OWN, f'volume-{OWN}', 'ds')
RECORDS = (VOLUME, compare.Volume(OTHER, f'volume-{OTHER}', 'ds'))


def vm(moref='vm-1', name='x', **more):
    return compare.Machine(moref, name, **{
        'ours': True, 'deployment': 'this', 'disks': ('[ds] x/x.vmdk',)}
        | more)


def judge(machine=None, others=(), volume=VOLUME, **more):
    found = {'disk': '[ds] x/x.vmdk', 'path': 'x/x.vmdk',
             'disk_uuid': GONE, 'size_gib': 1, 'machine': machine} | more
    return ownership.judge(
        compare.Evidence(RECORDS, (), tuple(filter(None, (machine, *others))),
                         (), deployment='this'),
        volume, 1, ownership.Candidate(**found))


class OwnershipTestCase(unittest.TestCase):

    def test_each_sign_shows_it(self):
        for machine, more in (
                (vm(uuid=OWN), {}), (vm(name=f'volume-{OWN}'), {}),
                (vm(quarantined=OWN), {}), (vm(), {'disk_uuid': OWN}),
                (None, {'disk_uuid': OWN}),
                (None, {'path': f'volume-{OWN}/volume-{OWN}.vmdk'})):
            with self.subTest(machine=machine, **more):
                found = judge(machine, **more)
                self.assertEqual((1, '', ()), (
                    len(found.shown_by), found.refusal, found.doubts))

    def test_without_a_sign_the_uuid_of_the_disk_has_to_be_accepted(self):
        for machine in None, vm():
            doubt, = judge(machine).doubts
            self.assertEqual(GONE, doubt.value)

    def test_a_mark_alone_may_be_that_of_a_copy(self):
        doubt, = judge(vm(volume_id=OWN)).doubts
        self.assertIn('which a copy of its VM has too', doubt.why)
        self.assertEqual((), judge(vm(volume_id=OWN, uuid=OWN)).doubts)

    def test_what_an_operation_left_is_in_doubt_whatever_shows_it(self):
        for machine, why in (
                (vm(replaced=OWN), 'older'),
                (vm(name=f'volume-{OWN}-retype-0123abcd'), 'incomplete')):
            doubt, = judge(machine, disk_uuid=OWN).doubts
            self.assertIn(why, doubt.why)

    def test_another_size_has_to_be_accepted(self):
        for size_gib, words in ((3, 'it is extended'), (1, 'stays larger')):
            doubt, = ownership.judge(
                compare.Evidence(RECORDS, (), (), ()), VOLUME, size_gib,
                ownership.Candidate('[ds] x', 'x', OWN, 2)).doubts
            self.assertEqual('2GiB', doubt.value)
            self.assertIn(words, doubt.why)

    def test_what_is_anothers_is_refused_whatever_shows_it(self):
        for machine, more, why in (
                (vm(deployment='that'), {}, 'another deployment'),
                (None, {'of_deployment': names.digest('that')},
                 'another deployment'),
                (vm(snapshot_id=GONE), {}, 'holds the snapshot'),
                (vm(ours=False), {}, "not a volume's VM"),
                (vm(uuid=OTHER), {}, 'instance UUID is that of'),
                (vm(name=f'volume-{OTHER}'), {}, 'name is that of'),
                (vm(volume_id=GONE), {}, 'mark of volume'),
                (None, {'path': f'volume-{OTHER}/x.vmdk'}, 'path is that')):
            with self.subTest(why):
                self.assertIn(why, judge(
                    machine, **{'disk_uuid': OWN} | more).refusal)

    def test_a_disk_that_another_vm_uses_is_refused(self):
        for user in (vm('vm-2', 'web'), vm('vm-2', 'web', disks=(), files=(
                ('[ds] x/x.vmdk', 1),))):
            self.assertIn('web (vm-2) also uses its disk', judge(
                others=[user], disk_uuid=OWN).refusal)

    def test_a_disk_of_an_instance_is_the_volumes_only_if_it_is_shown(self):
        attached = dataclasses.replace(VOLUME, attached_to=(GONE,))
        instance = vm('vm-2', 'web', uuid=GONE, ours=False)
        for more, refused in (({}, True), ({'disk_uuid': OWN}, False),
                              ({'disk_uuid': OWN, 'is_delta': True}, True),
                              ({'attached_in': frozenset({GONE})}, False)):
            with self.subTest(**more):
                self.assertEqual(refused, "instance's own" in judge(
                    others=[instance], volume=attached, **more).refusal)

    def test_one_of_a_chain_is_refused(self):
        for more in ({'beside': ('x/x.vmdk', 'x/x-000001.vmdk')},
                     {'path': 'x/x-000002.vmdk'}):
            self.assertIn('chain', judge(disk_uuid=OWN, **more).refusal)
        self.assertEqual('', judge(disk_uuid=OWN, beside=(
            'x/x.vmdk', 'x/x-flat.vmdk', 'x/y-000001.vmdk')).refusal)

    def test_a_delta_has_the_uuid_of_its_base(self):
        self.assertEqual('', judge(vm(uuid=OWN), disk_uuid=OTHER,
                                   is_delta=True).refusal)
        self.assertIn('UUID is that of', judge(vm(uuid=OWN),
                                               disk_uuid=OTHER).refusal)
