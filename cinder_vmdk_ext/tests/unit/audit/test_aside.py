# SPDX-License-Identifier: Apache-2.0
"""The records of objects in quarantine."""

import datetime
import unittest

from cinder_vmdk_ext.audit import aside
from cinder_vmdk_ext.audit import compare

RECORD = aside.Record('orphan', 'no record', '20261128T075200Z', 'group-v3',
                      'volume-1', 'uuid-1', {'cinder.volume.id': '1'})


def vm(moref='vm-1', **more):
    return compare.Machine(moref, f'quarantined-{moref}', **{
        'path': '/DC/vm/OpenStack/Quarantine/x', 'quarantined': 'owner',
        'quarantine_record': RECORD.as_text(), 'deployment': 'ours'} | more)


def items(*machines, files=(), deployment='ours'):
    return aside.items(compare.Evidence((), (), machines, tuple(files),
                                        deployment=deployment))


class AsideTestCase(unittest.TestCase):

    def test_a_record_survives_its_text(self):
        self.assertEqual(RECORD, aside.of_text(RECORD.as_text()))

    def test_text_that_is_no_record_is_unknown(self):
        for text in ('', 'x', '[]', '{"kind": "a", "surprise": 1}'):
            self.assertIsNone(aside.of_text(text), text)

    def test_an_item_knows_when_and_what_it_was(self):
        item, = items(vm())
        self.assertEqual(('volume-1', True), (item.name, item.mine))
        self.assertEqual(datetime.datetime(
            2026, 11, 28, 7, 52, tzinfo=datetime.timezone.utc), item.at)

    def test_anothers_is_no_item_and_without_a_mark_all_are_anothers(self):
        self.assertEqual([], items(vm(deployment='theirs')))
        self.assertEqual([], items(vm(), deployment=''))

    def test_the_unmarked_is_an_item_that_is_not_ours(self):
        item, = items(vm(deployment=''))
        self.assertFalse(item.mine)

    def test_a_folder_says_it_for_templates_and_files(self):
        folder = RECORD.folder_name('ours')
        machine = vm(template=True, deployment='', quarantine_record='',
                     path=f'/DC/vm/OpenStack/Quarantine/{folder}/x')
        file = compare.File('ds', f'openstack-quarantine/{folder}/a b/c.vmdk')
        self.assertEqual(
            [('orphan', 'group-v3', True), ('orphan', 'a b/c.vmdk', True)],
            sorted([(each.record.kind, each.record.origin, each.mine)
                    for each in items(machine, files=[file])], reverse=True))
        self.assertEqual([], items(machine, files=[file],
                                   deployment='theirs'))

    def test_who_uses_its_files_is_named(self):
        disk = '[ds] x/x.vmdk'
        item, = items(vm(disks=(disk,)), compare.Machine(
            'vm-9', 'user', files=((disk, 1),)))
        self.assertEqual(('user (vm-9)',), item.users)

    def test_a_long_name_is_not_cut_where_it_is_kept_nowhere_else(self):
        name = 'x' * 70
        self.assertEqual(name, aside.aside_template_name(name))
        self.assertEqual('quarantined-y', aside.aside_template_name('y'))
        self.assertEqual(79, len(aside.aside_name(name)))
