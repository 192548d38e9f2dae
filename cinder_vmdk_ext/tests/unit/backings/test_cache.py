# SPDX-License-Identifier: Apache-2.0
"""The VMs in memory are used only while they are known to be complete."""

import threading
import types
import unittest

from lxml import etree

from cinder_vmdk_ext.backings import cache
from cinder_vmdk_ext.backings import members
from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import updates

VM = references.Ref('VirtualMachine', 'vm-1')


class Conversation:
    """A long poll of which the test decides how far it is."""

    def __init__(self, stage):
        self.stage = stage
        self.live = True
        self.idle_seconds = 0.0

    def await_decision(self, seconds):
        pass

    def sink(self, kind):
        return self.stage


class BackingViewTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        stream = types.SimpleNamespace(
            listeners=[], conversation=lambda: self.conversation,
            client=vcenters.Client(), clock=lambda: self.now,
            probe=lambda: self.calls.append('probe'))
        self.calls = []
        self.now = 1000.0
        ops = types.SimpleNamespace(
            read_all_backings=lambda: self.calls.append('read') or 'read')
        self.view = cache.BackingView(stream, ops)
        self.assertEqual([self.view], stream.listeners)
        self.stage = self.view.sink(None)
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

    def test_as_long_as_vms_are_reported_no_other_read_is_made(self):
        found = []
        reader = threading.Thread(
            target=lambda: found.append(self.view.read_backings()))
        self.conversation.idle_seconds = cache.FILL_SECONDS - 1
        reader.start()
        self.report(**self.uuid('u-1'))
        self.stage.settle()
        reader.join(60)
        self.assertEqual('vm-1', found[0].by_uuid('u-1').moref)
        self.assertEqual([], self.calls)

    def test_vms_that_are_not_reported_are_read(self):
        self.conversation.idle_seconds = cache.FILL_SECONDS
        self.assertEqual('read', self.view.read_backings())

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

    def test_one_that_came_and_went_is_deleted_no_longer(self):
        self.stage.settle()
        self.stage.watch_list = members.WatchList(vcenters.Client())
        self.stage.members = object()
        for kinds in (['enter', 'leave'], ['leave']):
            self.stage.watch_list.doom('vm-1')
            for kind in kinds:
                self.report(kind, **self.uuid('u-1'))
            self.stage.settle()
            self.assertEqual({}, self.stage.watch_list._doomed)

    def test_what_cannot_be_read_is_forgotten_with_the_vm(self):
        self.stage.update('enter', VM, [
            updates.Change('name', None, 'name cannot be read')])
        self.stage.settle()
        self.assertEqual({'vm-1'}, self.stage._warned)
        self.report('leave')
        self.stage.settle()
        self.assertEqual(set(), self.stage._warned)

    def test_what_is_reported_is_new_no_longer(self):
        found = []
        self.stage.on_reported = found.extend
        self.report(**self.uuid('u-1'))
        self.stage.settle()
        self.report('leave')
        self.stage.settle()
        [(none, vm), (before, gone)] = found
        self.assertEqual((None, 'u-1', vm, None),
                         (none, vm.uuid, before, gone))

    def seek(self, still_there, at_once=False, **marks):
        """Have a VM leave; returns what asked, and the echoes' functions.

        :param at_once: before its first report is settled
        """
        asked, echoes = [], []

        def keep(left):
            asked.append(list(left))
            return set(still_there), set(left) - set(still_there)
        self.stage.settle()  # the first report is complete
        self.stage.watch_list = types.SimpleNamespace(keep=keep)
        self.stage.on_lost = self.view._note_lost
        self.stage.members = types.SimpleNamespace(echo=echoes.append)
        self.report(**self.uuid('u-1'), **(marks or self.marked('v-1')))
        if not at_once:
            self.stage.settle()
        self.report('leave')
        self.stage.settle()
        return asked, echoes

    @staticmethod
    def marked(volume_id):
        return {'config.extraConfig["cinder.volume.id"]': etree.fromstring(
            f'<val xmlns="urn:vim25"><key>cinder.volume.id</key>'
            f'<value>{volume_id}</value></val>')}

    def test_a_vm_that_vanished_is_sought_after_pauses_for_a_day(self):
        self.seek(())
        self.assertEqual({}, self.view.lost_backings())
        begun, sought_at = self.now, []
        while self.now < begun + 3 * 86400:
            self.now += cache.FIRST_PAUSE_SECONDS
            if self.view.lost_backings() == {'u-1': 'v-1'}:
                sought_at.append((self.now - begun) / 60)
        self.assertEqual([1, 3, 7, 15, 31, 63, 127, 255, 511, 1023],
                         sought_at)

    def test_an_instance_that_vanished_is_sought_at_once(self):
        noticed = []
        self.view._on_move = lambda: noticed.append(True)
        self.seek((), name=self.value('an instance'))
        self.assertEqual([True], noticed)
        self.assertEqual({'u-1': ''}, self.view.lost_backings())
        self.assertEqual({}, self.view.lost_backings())
        self.now += cache.FIRST_PAUSE_SECONDS
        self.assertEqual({'u-1': ''}, self.view.lost_backings())
        self.now += cache.FIRST_PAUSE_SECONDS
        self.assertEqual({}, self.view.lost_backings())

    def test_a_vm_that_was_moved_out_at_once_is_sought(self):
        asked, echoes = self.seek(['vm-1'], at_once=True)
        self.assertEqual([['vm-1']], asked)
        self.report(**self.uuid('u-1'), name=self.value('elsewhere'))
        self.stage.settle()
        [echo] = echoes
        echo()
        self.assertEqual('elsewhere', self.view.read_backings().by_uuid(
            'u-1').name)

    def test_a_vm_that_returned_or_has_no_volume_is_not_sought(self):
        self.seek(())
        self.view.forget_lost(['u-1', 'unknown'])
        self.now += cache.FIRST_PAUSE_SECONDS
        self.assertEqual({}, self.view.lost_backings())
        self.seek(())
        self.report(**self.uuid('u-1'))
        self.stage.settle()
        self.now += cache.FIRST_PAUSE_SECONDS
        self.assertEqual({}, self.view.lost_backings())

    def test_a_vm_that_is_gone_is_forgotten_at_once(self):
        self.assertEqual(([['vm-1']], []), self.seek(()))
        self.assertIsNone(self.view.moref_of('u-1'))

    def test_a_vm_that_was_moved_out_is_known_all_the_time(self):
        _asked, [echo] = self.seek(['vm-1'])
        self.assertEqual('vm-1', self.view.moref_of('u-1'))
        self.report(**self.uuid('u-1'), name=self.value('elsewhere'))
        self.stage.settle()
        echo()
        self.assertEqual('elsewhere', self.view.read_backings().by_uuid(
            'u-1').name)

    def test_a_vm_that_was_moved_and_destroyed_is_forgotten(self):
        _asked, [echo] = self.seek(['vm-1'])
        echo()
        self.assertIsNone(self.view.moref_of('u-1'))
        self.assertEqual([], self.view.read_backings().all)


if __name__ == '__main__':
    unittest.main()
