# SPDX-License-Identifier: Apache-2.0
"""The tree of a VM's snapshots."""

import datetime
import unittest

from oslo_vmware import exceptions

from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import snapshot_tree


def node(moref, name, *children, kind='childSnapshotList', text='', time=''):
    """A VirtualMachineSnapshotTree."""
    return (f'<{kind}><snapshot type="VirtualMachineSnapshot">{moref}'
            f'</snapshot><vm type="VirtualMachine">vm-1</vm><name>{name}'
            f'</name><description>{text}</description>'
            f'<createTime>{time}</createTime>'
            + ''.join(children) + f'</{kind}>')


def root(*arguments, **options):
    return node(*arguments, kind='rootSnapshotList', **options)


def tree(*roots, current='snapshot-2'):
    return vcenters.reply(
        '<currentSnapshot type="VirtualMachineSnapshot">'
        f'{current}</currentSnapshot>' + ''.join(roots))


TREE = tree(
    root('snapshot-1', 'a', node('snapshot-2', 'b', text='of b'),
         node('snapshot-3', 'b')),
    root('snapshot-4', 'c', time='2026-11-28T03:00:00.5Z'))


class SnapshotTreeTestCase(unittest.TestCase):

    def test_parents_come_before_their_children_in_every_root(self):
        self.assertEqual(
            [('snapshot-1', 'a', 1), ('snapshot-2', 'b', 2),
             ('snapshot-3', 'b', 2), ('snapshot-4', 'c', 1)],
            [(each.moref, each.name, each.depth)
             for each in snapshot_tree.nodes(TREE)])

    def test_description_and_time_are_read(self):
        found = snapshot_tree.nodes(TREE)
        self.assertEqual('of b', found[1].description)
        self.assertIsNone(found[1].created_at)
        self.assertEqual(datetime.datetime(
            2026, 11, 28, 3, 0, 0, 500000, datetime.timezone.utc),
            found[3].created_at)

    def test_a_time_that_is_none_is_a_malformed_reply(self):
        found = snapshot_tree.nodes(tree(root('snapshot-1', 'a', time='x')))
        with self.assertRaises(exceptions.VimConnectionException):
            found[0].created_at

    def test_the_current_snapshot_is_told_with_its_depth(self):
        self.assertEqual(('snapshot-2', 2),
                         (snapshot_tree.current(TREE).moref,
                          snapshot_tree.current(TREE).depth))

    def test_a_vm_without_snapshots_has_no_tree(self):
        for none in (None, '', vcenters.reply('')):
            self.assertEqual([], snapshot_tree.nodes(none))
            self.assertIsNone(snapshot_tree.current(none))


if __name__ == '__main__':
    unittest.main()
