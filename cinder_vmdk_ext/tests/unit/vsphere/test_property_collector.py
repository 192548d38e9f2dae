# SPDX-License-Identifier: Apache-2.0
"""Bulk reads make few calls, whatever the vCenter answers."""

import types
import unittest

from oslo_vmware import exceptions
from oslo_vmware import vim_util

from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

PATHS = {'Datastore': ('name', 'summary.capacity')}
GOLD = vcenters.managed('Datastore', 'datastore-1',
                        name=('xsd:string', 'gold'),
                        summary__capacity=('xsd:long', '7'))
LEAD = vcenters.managed('Datastore', 'datastore-2',
                        name=('xsd:string', 'lead'))

DENIED = vcenters.managed('Datastore', 'datastore-9', name=(
    'xsd:string', 'nine')).replace('</objects>', """<missingSet>
    <path>host</path><fault><fault xsi:type="NoPermission">
    <object type="Folder">group-d1</object>
    <privilegeId>System.Read</privilegeId></fault><localizedMessage/></fault>
    </missingSet></objects>""")
GONE = vcenters.managed('Datastore', 'datastore-9').replace(
    '</objects>', """<missingSet><path>name</path><fault>
    <fault xsi:type="ManagedObjectNotFound"/></fault></missingSet>
    </objects>""")


class ReadAllTestCase(unittest.TestCase):

    def read(self, **answers):
        self.session = vcenters.Session()
        self.client = vcenters.Client(**answers)
        return collector.read_all(self.session, self.client, PATHS)

    def test_three_calls_for_all_objects(self):
        found = self.read(RetrievePropertiesEx=vcenters.page(GOLD, LEAD))
        self.assertEqual({
            references.Ref('Datastore', 'datastore-1'): {
                'name': 'gold', 'summary.capacity': 7},
            references.Ref('Datastore', 'datastore-2'): {'name': 'lead'}},
            found)
        self.assertEqual(['CreateContainerView', 'RetrievePropertiesEx',
                          'DestroyView'], self.client.methods)

    def test_the_view_covers_the_whole_inventory(self):
        self.read(RetrievePropertiesEx=vcenters.page())
        _, _, arguments = self.client.calls[0]
        self.assertEqual((references.Ref('Folder', 'group-d1'), ['Datastore'],
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

    def test_an_empty_inventory_is_no_objects(self):
        """The view itself is in it, so the reply is not empty."""
        self.assertEqual({}, self.read(RetrievePropertiesEx=vcenters.page()))

    def test_an_empty_reply_is_a_lost_session(self):
        found = self.read(RetrievePropertiesEx=[vcenters.reply(''),
                                                vcenters.page(GOLD)])
        self.assertEqual((1, 1), (self.session.logins, len(found)))

    def test_an_empty_reply_of_a_good_session_is_an_error(self):
        with self.assertRaisesRegex(exceptions.VimConnectionException,
                                    'nothing of ContainerView view-1'):
            self.read(RetrievePropertiesEx=[vcenters.reply(''),
                                            vcenters.reply('')])

    def test_a_lost_session_is_replaced_once(self):
        found = self.read(RetrievePropertiesEx=[vcenters.LOST,
                                                vcenters.page(GOLD)])
        self.assertEqual((1, 1), (self.session.logins, len(found)))

    def test_a_session_that_another_thread_replaced_begins_it_again(self):
        """Views and tokens end with the session that they are of."""
        for first in (
                {'RetrievePropertiesEx': [
                    exceptions.VimFaultException(['ManagedObjectNotFound'],
                                                 'view-1'),
                    vcenters.page(GOLD)]},
                {'RetrievePropertiesEx': [vcenters.page(LEAD, token='1'),
                                          vcenters.page(GOLD)],
                 'ContinueRetrievePropertiesEx': exceptions.VimFaultException(
                     ['InvalidArgument'], 'token')}):
            found = self.read(**first)
            self.assertEqual([references.Ref('Datastore', 'datastore-1')],
                             list(found))

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

    def test_a_first_page_that_breaks_off_is_cancelled_too(self):
        with self.assertRaises(exceptions.VimConnectionException):
            self.read(RetrievePropertiesEx=vcenters.page(
                '<objects/>', token='7'),
                CancelRetrievePropertiesEx=vcenters.reply(''))
        self.assertIn(('CancelRetrievePropertiesEx', {'token': '7'}), [
            (method, arguments) for method, _, arguments
            in self.client.calls])

    def test_a_denied_property_is_an_error_of_its_object(self):
        with self.assertRaisesRegex(
                exceptions.VimFaultException, 'Datastore datastore-9: host '
                'cannot be read: NoPermission, the privilege System.Read is '
                'missing on Folder group-d1') as caught:
            self.read(RetrievePropertiesEx=vcenters.page(GOLD, DENIED))
        self.assertEqual({'object': 'group-d1', soap.OBJECT_TYPE: 'Folder',
                          'privilegeId': 'System.Read'},
                         caught.exception.details)

    def test_a_denied_property_can_be_kept_beside_the_others(self):
        found = collector.read_all(
            vcenters.Session(), vcenters.Client(
                RetrievePropertiesEx=vcenters.page(GOLD, DENIED)),
            PATHS, keep_unreadable=True)
        denied = found[references.Ref('Datastore', 'datastore-9')]
        self.assertEqual({'name', collector.UNREADABLE}, set(denied))
        self.assertRegex(denied[collector.UNREADABLE]['host'], 'System.Read')

    def test_an_object_that_went_meanwhile_is_left_out(self):
        found = self.read(RetrievePropertiesEx=vcenters.page(GOLD, GONE))
        self.assertEqual([references.Ref('Datastore', 'datastore-1')],
                         list(found))


class ObjectsTestCase(unittest.TestCase):
    """Reads of objects by their references."""

    def setUp(self):
        super().setUp()
        self.session = vcenters.Session()

    def one(self, *answers):
        self.client = vcenters.Client(RetrievePropertiesEx=list(answers))
        return collector.properties(self.session, self.client,
                                    references.Ref('Datastore', 'datastore-1'),
                                    ('name',))

    def many(self, *answers, **more):
        self.client = vcenters.Client(RetrievePropertiesEx=list(answers),
                                      **more)
        return collector.read_objects(
            self.session, self.client, (
                references.Ref('Datastore', f'datastore-{n}') for n in (1, 2)),
            ('name',))

    def test_the_properties_of_one(self):
        self.assertEqual('gold', self.one(vcenters.page(GOLD))['name'])

    def test_one_that_is_unset_has_none(self):
        self.assertEqual({}, self.one(vcenters.page(
            vcenters.managed('Datastore', 'datastore-1'))))

    def test_one_that_is_on_a_later_page_is_found(self):
        self.client = vcenters.Client(
            RetrievePropertiesEx=vcenters.page(LEAD, token='1'),
            ContinueRetrievePropertiesEx=vcenters.page(GOLD))
        self.assertEqual('gold', collector.properties(
            self.session, self.client,
            references.Ref('Datastore', 'datastore-1'),
            ('name',))['name'])

    def test_one_that_the_vcenter_does_not_tell_of_is_an_error(self):
        with self.assertRaises(soap.EmptyReply):
            self.one(vcenters.reply(''))
        with self.assertRaises(soap.EmptyReply):
            self.one(vcenters.page(LEAD))

    def test_one_of_several_that_is_not_told_of_is_an_error(self):
        session, client = self.session, vcenters.Client(
            RetrievePropertiesEx=vcenters.page(LEAD))
        session.vim.service_content.customFieldsManager = vcenters.moref(
            'CustomFieldsManager', 'fields')
        with self.assertRaisesRegex(
                exceptions.VimConnectionException,
                'leaves out CustomFieldsManager fields'):
            collector.read_all(session, client, PATHS,
                               {'customFieldsManager': ('field',)})

    def test_one_that_is_gone_is_told_so_in_both_ways(self):
        gone = vcenters.page(GONE.replace('datastore-9', 'datastore-1'))
        with self.assertRaises(exceptions.VimFaultException) as caught:
            self.one(gone)
        self.assertEqual(['ManagedObjectNotFound'],
                         caught.exception.fault_list)

    def test_many_on_many_pages(self):
        found = self.many(vcenters.page(GOLD, token='1'),
                          ContinueRetrievePropertiesEx=vcenters.page(LEAD))
        self.assertEqual(['gold', 'lead'],
                         [each['name'] for each in found.values()])

    def test_a_further_page_with_nothing_is_no_page(self):
        with self.assertRaises(soap.EmptyReply):
            self.many(vcenters.page(GOLD, token='1'),
                      ContinueRetrievePropertiesEx=vcenters.reply(''))

    def test_of_many_one_that_is_left_out_is_gone(self):
        """As the flag reportMissingObjectsInResults has it."""
        found = self.many(vcenters.page(LEAD))
        self.assertNotIn(references.Ref('Datastore', 'datastore-1'), found)
        spec = self.client.calls[0][2]['specSet']
        self.assertIs(True, spec.fields['reportMissingObjectsInResults'])

    def test_that_all_of_many_are_gone_is_asked_again(self):
        gone = exceptions.VimFaultException(['ManagedObjectNotFound'], '-')
        self.assertEqual({}, self.many(vcenters.reply(''), gone))
        self.assertEqual(2, len(self.client.calls))

    def test_that_all_of_many_are_left_out_is_no_absence(self):
        with self.assertRaises(soap.EmptyReply):
            self.many(vcenters.reply(''), vcenters.reply(''))
        with self.assertRaises(soap.EmptyReply):
            self.many(vcenters.reply(''), vcenters.page(GOLD))

    def test_none_take_no_call(self):
        client = vcenters.Client()
        self.assertEqual({}, collector.read_objects(self.session, client, (),
                                                    ('name',)))
        self.assertEqual([], client.calls)


class CheckTestCase(unittest.TestCase):
    """check(): replies that oslo.vmware's functions read."""

    def check(self, *objects, method='RetrievePropertiesEx', select=None):
        each = types.SimpleNamespace(
            obj=vim_util.get_moref('ds-1', 'Datastore'), skip=False,
            selectSet=select)
        spec = types.SimpleNamespace(objectSet=[each])
        collector.check(method, {'specSet': [spec]}, vcenters.reply(
            f'<returnval>{"".join(objects)}</returnval>' if objects else ''))

    def test_a_refused_property_is_an_error_on_every_page(self):
        for method in ('RetrievePropertiesEx',
                       'ContinueRetrievePropertiesEx'):
            with self.assertRaisesRegex(exceptions.VimFaultException,
                                        'System.Read') as caught:
                self.check(GOLD, DENIED, method=method)
            self.assertEqual(['NoPermission'], caught.exception.fault_list)

    def test_nothing_in_place_of_one_object_is_an_error(self):
        with self.assertRaises(soap.EmptyReply):
            self.check()

    def test_a_traversal_may_lead_to_nothing(self):
        self.check(select='somewhere')


class WholeTestCase(unittest.TestCase):
    """whole(): retrievals that oslo.vmware's functions make."""

    def page(self, objects, token=None):
        made = types.SimpleNamespace(objects=list(objects))
        if token:
            made.token = token
        return made

    def test_all_pages_become_one(self):
        pages = {'1': self.page('b', '2'), '2': self.page('c')}
        asked = []

        def call(method, this, arguments):
            asked.append((method, this))
            return pages[arguments['token']]
        found = collector.whole(call, 'pc', self.page('a', '1'))
        self.assertEqual([('ContinueRetrievePropertiesEx', 'pc')] * 2, asked)
        self.assertEqual(['a', 'b', 'c'], found.objects)
        self.assertFalse(hasattr(found, 'token'))

    def test_a_page_that_does_not_come_cancels_the_rest(self):
        cancelled = []

        def call(method, this, arguments):
            if method == 'ContinueRetrievePropertiesEx':
                raise vcenters.SILENT
            self.assertEqual('CancelRetrievePropertiesEx', method)
            cancelled.append(arguments['token'])
        with self.assertRaises(exceptions.VimConnectionException):
            collector.whole(call, 'pc', self.page('a', '1'))
        self.assertEqual(['1'], cancelled)

    def test_no_result_stays_none(self):
        self.assertIsNone(collector.whole(None, 'pc', None))


if __name__ == '__main__':
    unittest.main()
