# SPDX-License-Identifier: Apache-2.0
"""Bulk reads: few calls, whatever the vCenter answers."""

import unittest

from oslo_vmware import exceptions

from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import soap

PATHS = {'Datastore': ('name', 'summary.capacity')}
GOLD = vcenters.managed('Datastore', 'datastore-1',
                        name=('xsd:string', 'gold'),
                        summary__capacity=('xsd:long', '7'))
LEAD = vcenters.managed('Datastore', 'datastore-2',
                        name=('xsd:string', 'lead'))


class ReadAllTestCase(unittest.TestCase):

    def read(self, **answers):
        self.session = vcenters.Session()
        self.client = vcenters.Client(**answers)
        return collector.read_all(self.session, self.client, PATHS)

    def test_three_calls_for_all_objects(self):
        found = self.read(RetrievePropertiesEx=vcenters.page(GOLD, LEAD))
        self.assertEqual({
            soap.Ref('Datastore', 'datastore-1'): {
                'name': 'gold', 'summary.capacity': 7},
            soap.Ref('Datastore', 'datastore-2'): {'name': 'lead'}}, found)
        self.assertEqual(['CreateContainerView', 'RetrievePropertiesEx',
                          'DestroyView'], self.client.methods)

    def test_the_view_covers_the_whole_inventory(self):
        self.read(RetrievePropertiesEx=vcenters.page())
        _, _, arguments = self.client.calls[0]
        self.assertEqual((soap.Ref('Folder', 'group-d1'), ['Datastore'],
                          True), (arguments['container'], arguments['type'],
                                  arguments['recursive']))

    def test_pages_are_read_to_the_end(self):
        found = self.read(
            RetrievePropertiesEx=vcenters.page(GOLD, token='1'),
            ContinueRetrievePropertiesEx=[vcenters.page(token='2'),
                                          vcenters.page(LEAD)])
        self.assertEqual(2, len(found))
        self.assertEqual({'token': '2'}, self.client.calls[3][2])

    def test_an_object_split_over_pages_is_one(self):
        more = vcenters.managed('Datastore', 'datastore-2',
                                summary__capacity=('xsd:long', '9'))
        found = self.read(
            RetrievePropertiesEx=vcenters.page(LEAD, token='1'),
            ContinueRetrievePropertiesEx=vcenters.page(more))
        self.assertEqual([{'name': 'lead', 'summary.capacity': 9}],
                         list(found.values()))

    def test_a_property_without_a_value_is_left_out(self):
        found = self.read(RetrievePropertiesEx=vcenters.page(
            '<objects><obj type="Datastore">datastore-1</obj><propSet><name>'
            'name</name></propSet></objects>'))
        self.assertEqual([{}], list(found.values()))

    def test_an_empty_reply_is_no_objects(self):
        self.assertEqual({}, self.read(
            RetrievePropertiesEx=vcenters.reply('')))

    def test_a_lost_session_is_replaced_once(self):
        found = self.read(RetrievePropertiesEx=[vcenters.LOST,
                                                vcenters.page(GOLD)])
        self.assertEqual((1, 1), (self.session.logins, len(found)))

    def test_a_session_lost_again_is_an_error(self):
        with self.assertRaises(exceptions.VimFaultException):
            self.read(RetrievePropertiesEx=[vcenters.LOST, vcenters.LOST])
        self.assertEqual(1, self.session.logins)

    def test_silence_is_an_error_at_once(self):
        with self.assertRaises(exceptions.VimConnectionException):
            self.read(CreateContainerView=vcenters.SILENT)
        self.assertEqual((0, 1), (self.session.logins,
                                  len(self.client.calls)))

    def test_the_view_is_destroyed_after_an_error_too(self):
        with self.assertRaises(exceptions.VimConnectionException):
            self.read(RetrievePropertiesEx=vcenters.SILENT)
        self.assertEqual('DestroyView', self.client.methods[-1])

    def test_a_view_that_is_not_destroyed_does_not_matter(self):
        self.assertEqual(1, len(self.read(
            RetrievePropertiesEx=vcenters.page(GOLD),
            DestroyView=vcenters.SILENT)))

    def test_a_retrieval_that_fails_half_way_is_cancelled(self):
        """Those left open add up until the vCenter refuses more."""
        with self.assertRaises(exceptions.VimConnectionException):
            self.read(RetrievePropertiesEx=vcenters.page(GOLD, token='1'),
                      ContinueRetrievePropertiesEx=vcenters.SILENT,
                      CancelRetrievePropertiesEx=vcenters.reply(''))
        self.assertEqual(['CancelRetrievePropertiesEx', 'DestroyView'],
                         self.client.methods[-2:])
