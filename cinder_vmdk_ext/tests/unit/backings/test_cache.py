# SPDX-License-Identifier: Apache-2.0
"""The VMs in memory are used only while they are known to be complete."""

import types
import unittest

from lxml import etree

from cinder_vmdk_ext.backings import cache
from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import updates

VM = references.Ref('VirtualMachine', 'vm-1')


class Conversation:
    """A long poll of which the test decides how far it is."""

    def __init__(self, stage):
        self.stage = stage
        self.live = True

    def await_decision(self, seconds):
        pass

    def sink(self, kind):
        return self.stage


class BackingViewTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        stream = types.SimpleNamespace(
            listeners=[], conversation=lambda: self.conversation,
            client=vcenters.Client(),
            probe=lambda: self.calls.append('probe'))
        self.calls = []
        ops = types.SimpleNamespace(
            read_all_backings=lambda: self.calls.append('read') or 'read')
        self.view = cache.BackingView(stream, ops)
        self.assertEqual([self.view], stream.listeners)
        self.stage = self.view.sink()
        self.conversation = Conversation(self.stage)

    def report(self, kind='enter', **values):
        self.stage.update(kind, VM, [
            updates.Change(path, each) for path, each in values.items()])

    def value(self, text):
        return etree.fromstring(f'<val>{text}</val>')

    def uuid(self, text):
        return {'config.instanceUuid': self.value(text)}

    def test_until_all_are_reported_they_are_filling(self):
        self.assertTrue(self.view.filling())
        self.stage.settle()
        self.assertFalse(self.view.filling())

    def test_while_nothing_is_heard_of_the_vcenter_all_are_read(self):
        self.stage.settle()
        self.assertEqual([], self.view.read_backings().all)
        self.conversation.live = False
        self.assertEqual('read', self.view.read_backings())
        self.conversation = None
        self.assertEqual('read', self.view.read_backings())
        # One that has frozen would have a bulk read wait for minutes.
        self.assertEqual(['probe', 'read'] * 2, self.calls)

    def test_a_vm_is_found_by_the_uuid_that_it_has_now(self):
        self.report(**self.uuid('u-1'))
        self.assertIsNone(self.view.moref_of('u-1'))  # not published yet
        self.stage.settle()
        self.assertEqual('vm-1', self.view.moref_of('u-1'))
        self.report('modify', **self.uuid('u-2'))
        self.stage.settle()
        self.assertEqual((None, 'vm-1'), (self.view.moref_of('u-1'),
                                          self.view.moref_of('u-2')))
        self.report('leave')
        self.stage.settle()
        self.assertIsNone(self.view.moref_of('u-2'))

    def test_the_list_is_the_same_object_until_something_changes(self):
        self.report(**self.uuid('u-1'))
        self.stage.settle()
        first = self.view.read_backings()
        self.stage.settle()
        self.assertIs(first, self.view.read_backings())
        self.report('modify', name=self.value('n'))
        self.stage.settle()
        self.assertEqual('n', self.view.read_backings().by_uuid('u-1').name)

    def test_a_vm_that_leaves_is_sought_by_the_watch_list(self):
        kept = []
        self.stage.watch_list = types.SimpleNamespace(keep=kept.append)
        self.report(**self.uuid('u-1'))
        self.stage.settle()
        self.report('leave')
        self.stage.settle()
        self.assertEqual([['vm-1']], [list(left) for left in kept])


if __name__ == '__main__':
    unittest.main()
