# SPDX-License-Identifier: Apache-2.0
"""Views whose creation got no reply are found in the session's list."""

import unittest

from oslo_vmware import exceptions

from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import views

MANAGER = references.Ref('ViewManager', 'ViewManager')
MADE = '<returnval type="ListView">{}</returnval>'


def ref(name):
    return references.Ref('ListView', name)


class ViewsTestCase(unittest.TestCase):

    def setUp(self):
        self.client = vcenters.Client(CreateListView=[
            vcenters.SILENT, vcenters.reply(MADE.format('second')),
            vcenters.reply(MADE.format('third'))])
        self.now = 0.0
        self.views = views.Views(lambda: self.now)
        self.listed = [ref('lost')]
        self.reads = 0

    def read(self):
        self.reads += 1
        return self.listed

    def make(self):
        return self.views.make(self.client, MANAGER, 'CreateListView', {},
                               self.read)

    def lose(self):
        self.assertRaises(exceptions.VimConnectionException, self.make)

    def destroyed(self):
        return [this for method, this, _ in self.client.calls
                if method == 'DestroyView']

    def test_a_lost_view_is_destroyed_before_the_next_is_made(self):
        self.lose()
        self.assertEqual(ref('second'), self.make())
        self.assertEqual([ref('lost')], self.destroyed())
        self.make()
        self.assertEqual(1, self.reads, 'listed once for a loss')

    def test_one_that_is_made_after_its_loss_is_destroyed_too(self):
        self.listed = []
        self.lose()
        self.make()
        self.assertEqual(1, self.reads)
        self.now += views.LOOK_SECONDS
        self.listed = [ref('second'), ref('lost')]
        self.views.destroy_lost(self.client, self.read)
        self.assertEqual([ref('lost')], self.destroyed())

    def test_it_is_looked_for_no_longer_than_it_may_come(self):
        self.listed = []
        self.lose()
        for _ in range(3):
            self.now += views.SETTLE_SECONDS
            self.views.destroy_lost(self.client, self.read)
        self.assertEqual(1, self.reads)

    def test_one_that_is_gone_already_is_no_loss(self):
        self.client.answers['DestroyView'] = exceptions.VimFaultException(
            ['ManagedObjectNotFound'], 'gone')
        self.lose()
        self.make()
        self.now += views.SETTLE_SECONDS
        self.views.destroy_lost(self.client, self.read)
        self.now += views.SETTLE_SECONDS
        self.views.destroy_lost(self.client, self.read)
        self.assertEqual(2, self.reads)

    def test_a_view_that_is_in_use_stays(self):
        self.lose()
        self.make()
        self.listed = [ref('second'), ref('not destroyed')]
        self.views.forget(ref('not destroyed'), lost=True)
        self.make()
        self.assertEqual([ref('lost'), ref('not destroyed')],
                         self.destroyed())

    def test_nothing_is_destroyed_while_another_is_being_made(self):
        self.lose()
        self.client.answers['CreateListView'] = vcenters.reply(
            MADE.format('other'))
        inner = []

        def read():
            # It is on the list before its reply has come.
            inner.append(self.views.make(self.client, MANAGER,
                                         'CreateListView', {}, list))
            return [ref('other')]
        self.views.make(self.client, MANAGER, 'CreateListView', {}, read)
        self.assertEqual([ref('other')], inner)
        self.assertEqual([], self.destroyed())

    def test_a_list_that_cannot_be_read_is_read_the_next_time(self):
        self.lose()

        def fail():
            raise vcenters.SILENT
        self.views.make(self.client, MANAGER, 'CreateListView', {}, fail)
        self.make()
        self.assertEqual([ref('lost')], self.destroyed())

    def test_clients_of_one_login_share_them(self):
        other = vcenters.Client()
        self.assertIsNot(views.of(self.client), views.of(other))
        other.https = self.client.https
        self.assertIs(views.of(self.client), views.of(other))


if __name__ == '__main__':
    unittest.main()
