# SPDX-License-Identifier: Apache-2.0
"""Calls over a real socket to a server with any answer."""

import datetime
import itertools
import os
import threading
import time
import unittest
from unittest import mock

from lxml import etree
from oslo_vmware import exceptions

from cinder_vmdk_ext.tests import webserver
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import transport

THIS = references.Ref('ServiceInstance', 'ServiceInstance')
METHOD = 'FindByInventoryPath'
NASTY = 'a<b>&"c\' \u00fc ]]> &amp; \U0001f4be'

MISSING = """<returnval><objects><obj type="SessionManager">s</obj>
    <propSet><name>defaultLocale</name><val xsi:type="xsd:string">en</val>
    </propSet><missingSet><path>sessionList</path><fault>
    <fault xsi:type="{}"><object type="Folder">group-d1</object>
    <privilegeId>System.View</privilegeId></fault><localizedMessage/></fault>
    </missingSet></objects></returnval>"""


def envelope(content):
    return ('<?xml version="1.0" encoding="UTF-8"?>'
            '<soapenv:Envelope'
            ' xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
            ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
            ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
            f'<soapenv:Body>{content}</soapenv:Body></soapenv:Envelope>')


def response(content='', method=METHOD):
    return envelope(f'<{method}Response xmlns="urn:vim25">{content}'
                    f'</{method}Response>')


def fault(detail, text='said no'):
    return envelope(
        '<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>'
        f'{text}</faultstring><detail>{detail}</detail></soapenv:Fault>')


def called(body):
    """The element of the method in a request."""
    return etree.fromstring(body).find('{*}Body')[0]


def argument(body):
    return called(body)[1].text


class ClientCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.server = webserver.WebServer(
            lambda request: request.reply(response()))
        self.server.setUp()
        self.addCleanup(self.server.cleanUp)
        self.client = self.make_client(ca_file=self.server.cert_file)

    def make_client(self, host=webserver.HOST, **options):
        client = soap.Client(transport.Transport(
            host, self.server.port, transport.Trust(**options)))
        self.addCleanup(client.close)
        return client

    def answer(self, body, status=200):
        self.server.answer = lambda request: request.reply(body, status)

    def ask(self, arguments=None, **more):
        return self.client.call(METHOD, THIS, arguments, **more)

    def sent(self):
        """The method's element in the last request."""
        return called(self.server.requests[-1].body)


class CallTestCase(ClientCase):
    """What is sent, and what comes back."""

    def test_a_response_is_returned_with_its_values(self):
        self.answer(response('<returnval>1</returnval>'
                             '<returnval>2</returnval>'))
        self.assertEqual(['1', '2'], [each.text for each in self.ask()])

    def test_the_object_and_the_arguments_go_in_the_order_of_the_api(self):
        self.answer(response('<returnval>x</returnval>'))
        self.client.call('CreateContainerView', THIS, {
            'recursive': True, 'type': ['a', 'b'],
            'container': references.Ref('Folder', 'group-v1')})
        self.assertEqual(
            [('_this', 'ServiceInstance'), ('container', 'group-v1'),
             ('type', 'a'), ('type', 'b'), ('recursive', 'true')],
            [(etree.QName(each).localname, each.text)
             for each in self.sent()])
        self.assertEqual('Folder', self.sent()[1].get('type'))

    def test_what_is_none_or_empty_is_left_out(self):
        self.answer(response('<returnval>x</returnval>'))
        self.client.call('CreateContainerView', THIS, {
            'recursive': False, 'type': [], 'container': None})
        self.assertEqual(['_this', 'recursive'], [
            etree.QName(each).localname for each in self.sent()])

    def test_a_data_object_carries_its_type_where_another_is_declared(self):
        self.answer(response('<returnval>x</returnval>'))
        self.client.call('CreateFilter', THIS, {
            'partialUpdates': True, 'spec': soap.Typed('', {
                'objectSet': soap.Typed('ObjectSpec', {
                    'selectSet': [soap.Typed('TraversalSpec', {
                        'skip': False, 'path': 'view', 'type': 'View'})],
                    'obj': THIS})})})
        spec = self.sent()[1]
        self.assertEqual(['', 'TraversalSpec'],
                         [soap.type_of(each) for each in (spec[0],
                                                          spec[0][1])])
        self.assertEqual(['View', 'view', 'false'],
                         [each.text for each in spec[0][1]])

    def test_a_policys_message_is_in_its_own_namespace(self):
        self.client.call('PbmRetrieveContent', THIS, {'profileIds': [
            soap.Typed('', {'uniqueId': 'u'})]})
        request = self.server.requests[-1]
        self.assertEqual([soap.PBM] * 4, [
            etree.QName(each).namespace for each in called(
                request.body).iter()])
        self.assertEqual('"urn:pbm/6.7"', request.headers['SOAPAction'])

    def test_headers_are_in_no_namespace(self):
        body = soap.encode('Logout', THIS, {}, [('operationID', 'a<b')])
        self.assertEqual('a<b', etree.fromstring(body).findtext(
            './/operationID'))

    def test_what_the_api_does_not_know_is_never_sent(self):
        for method, arguments, words in (
                ('Break', {}, 'no method Break'),
                (METHOD, {'nmae': 1}, 'no field nmae'),
                (METHOD, {'inventoryPath': ['a', 'b']}, 'at most'),
                ('ReconfigVM_Task', {'spec': soap.Typed('', {'x': 1})},
                 'VirtualMachineConfigSpec has no field x'),
                ('ReconfigVM_Task', {'spec': soap.Typed('VirtualDisk', {})},
                 'spec is a VirtualDisk'),
                ('ReconfigVM_Task', {'spec': soap.Typed('Nothing', {})},
                 'spec is a Nothing')):
            with self.assertRaisesRegex((AttributeError, TypeError), words):
                self.client.call(method, THIS, arguments)
        self.assertEqual([], self.server.requests)

    def test_a_field_is_put_where_it_belongs(self):
        backing = etree.fromstring(
            f'<backing xmlns="{soap.VIM}" xmlns:xsi="{soap.XSI}" '
            'xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>f</fileName>'
            '<diskMode>persistent</diskMode><future>1</future>'
            '<contentId>c</contentId></backing>')
        soap.insert(backing, soap.tag('uuid')).text = 'v'
        self.assertEqual(
            ['fileName', 'diskMode', 'uuid', 'future', 'contentId'],
            [etree.QName(each).localname for each in backing])
        self.assertEqual('v', backing[2].text)
        self.assertRaises(TypeError, soap.insert, backing,
                          soap.tag('nothing'))

    def test_any_text_survives_both_ways(self):
        self.server.answer = lambda request: request.reply(response(
            '<returnval>' + argument(request.body)
            .replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
            + '</returnval>'))
        self.assertEqual(NASTY, self.ask({'inventoryPath': NASTY})[0].text)

    def test_threads_get_their_own_replies(self):
        self.server.answer = lambda request: request.reply(response(
            '<returnval>'
            + argument(request.body) + '</returnval>'))
        wrong = []

        def ask(mine):
            for count in range(20):
                wanted = f'{mine}-{count}'
                got = self.ask({'inventoryPath': wanted})[0].text
                if got != wanted:
                    wrong.append((wanted, got))

        threads = [threading.Thread(target=ask, args=(number,))
                   for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([], wrong)


class NoAnswerTestCase(ClientCase):
    """What is no answer is an error of connection, never a result."""

    def assertNoAnswer(self, words, call=None):
        with self.assertRaises(exceptions.VimConnectionException) as caught:
            (call or self.ask)()
        message = str(caught.exception.msg)
        for word in (METHOD, str(self.server.port), words):
            self.assertIn(word, message)
        self.assertEqual(1, len(message.splitlines()), message)

    def test_http_503_of_a_proxy(self):
        self.answer('<html>Service Unavailable</html>', 503)
        self.assertNoAnswer('HTTP 503')

    def test_a_redirection_is_not_followed(self):
        self.answer('', 302)
        self.assertNoAnswer('HTTP 302')

    def test_a_page_of_html(self):
        self.answer('<html><body><h1>Welcome</h1><br></body></html>')
        self.assertNoAnswer('no SOAP message')

    def test_xml_that_is_no_soap(self):
        self.answer('<data><row/></data>')
        self.assertNoAnswer('no SOAP message')

    def test_an_envelope_without_a_body(self):
        self.answer(envelope(''))
        self.assertNoAnswer('no SOAP message')

    def test_nothing_at_all(self):
        self.answer('')
        self.assertNoAnswer('no SOAP message')

    def test_a_reply_that_breaks_off(self):
        def break_off(request):
            request.send_response(200)
            request.send_header('Content-Length', '1000')
            request.end_headers()
            request.wfile.write(envelope('')[:60].encode())
            request.close_connection = True

        self.server.answer = break_off
        self.assertNoAnswer('no reply')

    def test_a_connection_that_is_cut(self):
        def cut(request):
            request.connection.close()
            request.close_connection = True

        self.server.answer = cut
        self.assertNoAnswer('no reply')

    def test_a_vcenter_that_is_silent_for_too_long(self):
        done = threading.Event()
        self.addCleanup(done.set)
        self.server.answer = lambda request: done.wait(20)
        self.assertNoAnswer('no reply', lambda: self.ask(read_seconds=0.2))

    def test_nobody_listens(self):
        client = self.client
        self.server.cleanUp()
        self.assertNoAnswer('no reply', lambda: client.call(METHOD, THIS))
        self.server.setUp()

    def test_a_document_type_is_refused(self):
        """SOAP has none; its entities could grow without end."""
        for before in ('<?xml version="1.0"?>\n<!-- x -->\n',
                       '<?xml version="1.0"?><?a <b>? ?><!-- <a> -c- ?> -->',
                       '<!----><!---->', '  '):
            self.answer(before + '<!DOCTYPE x [<!ENTITY who "me">]>\n'
                        + response('<returnval>&who;</returnval>')
                        .partition('?>')[2])
            self.assertNoAnswer('document type')

    def test_entities_do_not_grow_without_end(self):
        entities = ''.join(
            f'<!ENTITY {name} "{"&" + before + ";"}{"&" + before + ";"}">'
            for before, name in zip('abcdefghijklmnopqrstuvw',
                                    'bcdefghijklmnopqrstuvwx'))
        self.answer(f'<!DOCTYPE x [<!ENTITY a "{"x" * 1000}">{entities}]>'
                    + response('<returnval y="&x;">&x;</returnval>')
                    .partition('?>')[2])
        begun = time.process_time()
        self.assertNoAnswer('document type')
        self.assertLess(time.process_time() - begun, 5)

    def test_files_of_this_machine_are_not_read(self):
        self.answer(f'<!DOCTYPE x [<!ENTITY f SYSTEM "file://{__file__}">]>'
                    + response('<returnval>&f;</returnval>')
                    .partition('?>')[2])
        self.assertNoAnswer('document type')

    def test_a_reply_without_the_reference_that_it_is_to_hold(self):
        for method in ('CreateVM_Task', 'Rename_Task', 'CreateFilter'):
            for content in ('', '<returnval type="Task"/>'):
                self.answer(response(content, method))
                with self.assertRaises(exceptions.VimConnectionException):
                    self.client.call(method, THIS)


class FaultTestCase(ClientCase):
    """A vCenter's fault is named as oslo.vmware names it."""

    def raised(self, body, status=500):
        self.answer(body, status)
        with self.assertRaises(exceptions.VimFaultException) as caught:
            self.ask()
        return caught.exception

    def test_the_fault_is_named_with_its_reason_and_details(self):
        found = self.raised(fault(
            '<NoPermissionFault xmlns="urn:vim25" xsi:type="NoPermission">'
            '<object type="Folder">group-v1</object>'
            '<privilegeId>VirtualMachine.Inventory.Create</privilegeId>'
            '</NoPermissionFault>'))
        self.assertEqual(['NoPermission'], found.fault_list)
        self.assertEqual('VirtualMachine.Inventory.Create',
                         found.details['privilegeId'])
        self.assertIn('said no', str(found))

    def test_a_lost_session_is_told_as_oslo_vmware_tells_it(self):
        for name in ('NotAuthenticated', 'SecurityError',
                     'AuthenticationRequired', 'SessionNotFound',
                     'InvalidToken'):
            found = self.raised(fault(
                f'<{name}Fault xmlns="urn:vim25" xsi:type="{name}"/>'))
            self.assertEqual([exceptions.NOT_AUTHENTICATED],
                             found.fault_list)

    def test_a_type_with_a_prefix(self):
        found = self.raised(fault(
            '<v:NotFoundFault xmlns:v="urn:vim25" xsi:type="v:NotFound"/>'))
        self.assertEqual(['NotFound'], found.fault_list)

    def test_a_fault_without_details(self):
        self.assertEqual([], self.raised(fault('')).fault_list)

    def test_a_fault_with_status_200(self):
        """As some proxies pass it on."""
        found = self.raised(fault('<XFault xmlns="urn:vim25"/>'), 200)
        self.assertEqual(['XFault'], found.fault_list)

    def test_a_lost_session_in_place_of_a_property_is_one(self):
        """As a vCenter reports it: with HTTP 200, within an object."""
        for name in ('NotAuthenticated', 'SessionNotFound', 'InvalidToken'):
            self.answer(response(MISSING.format(name)))
            for call in (self.ask, lambda: list(self.client.stream(
                    METHOD, THIS, None, ('objects',)))):
                with self.assertRaises(soap.Fault) as caught:
                    call()
                self.assertEqual([exceptions.NOT_AUTHENTICATED],
                                 caught.exception.fault_list)

    def test_another_fault_in_place_of_a_property_is_in_the_reply(self):
        self.answer(response(MISSING.format('NoPermission')))
        self.assertEqual(1, len(list(self.ask().iter(
            f'{{{soap.VIM}}}missingSet'))))
        streamed = [each.find(f'{{{soap.VIM}}}missingSet')
                    for each in self.client.stream(METHOD, THIS, None,
                                                   ('objects',))]
        self.assertIsNotNone(streamed[0])


class TlsTestCase(ClientCase):
    """A server whose certificate does not verify is not trusted."""

    def assertRefused(self, **options):
        with self.assertRaises(exceptions.VimConnectionException) as caught:
            self.make_client(**options).call(METHOD, THIS)
        self.assertIn('CERTIFICATE_VERIFY_FAILED', str(caught.exception.msg))
        self.assertEqual([], self.server.requests)

    def test_an_unknown_authority_is_refused_by_default(self):
        self.assertRefused()

    def test_a_ca_file_is_heeded_even_where_insecure_is_set(self):
        """As the options say."""
        webserver.certificate.cache_clear()
        other = webserver.WebServer()
        other.setUp()
        self.addCleanup(other.cleanUp)
        self.assertRefused(ca_file=other.cert_file, insecure=True)

    def test_a_name_that_the_certificate_does_not_hold_is_refused(self):
        client = self.make_client('localhost',
                                  ca_file=self.server.cert_file)
        with self.assertRaises(exceptions.VimConnectionException):
            client.call(METHOD, THIS)
        self.assertEqual([], self.server.requests)

    def test_insecure_is_heeded(self):
        self.make_client(insecure=True).call(METHOD, THIS)
        self.assertEqual(1, len(self.server.requests))

    def test_the_ca_file_verifies(self):
        self.make_client(ca_file=self.server.cert_file).call(METHOD, THIS)

    def test_the_environment_may_name_the_authorities(self):
        """As for oslo.vmware, which goes by requests."""
        with mock.patch.dict(os.environ, {
                'REQUESTS_CA_BUNDLE': self.server.cert_file}):
            client = self.make_client()
        client.call(METHOD, THIS)


class StreamTestCase(ClientCase):
    """Replies too large to be held at once."""

    def stream(self, *names):
        return [each.text for each in self.client.stream(
            METHOD, THIS, None, names)]

    def test_elements_come_one_by_one(self):
        self.answer(response(''.join(
            f'<returnval>{number}</returnval>' for number in range(5000))))
        self.assertEqual([str(number) for number in range(5000)],
                         self.stream('returnval'))

    def test_they_are_whole_wherever_the_pieces_end(self):
        content = response(
            '<returnval><version>1</version><filterSet><filter>f</filter>'
            '<objectSet><obj>a</obj><version>no</version></objectSet>'
            '<!-- --><objectSet><obj>b</obj></objectSet></filterSet>'
            '<truncated>true</truncated></returnval>').encode()
        for size in (1, 2, 3, 7, 50, len(content)):
            arriving = soap._Arriving(
                [content[at:at + size]
                 for at in range(0, len(content), size)], int)
            self.assertEqual(
                [('version', '1'), ('objectSet', 'a'), ('objectSet', 'b'),
                 ('truncated', 'true')],
                [(etree.QName(each).localname,
                  each[0].text if len(each) else each.text)
                 for each in arriving.named(frozenset(map(soap.tag, (
                     'version', 'objectSet', 'truncated'))))], size)
            self.assertTrue(arriving.complete)

    def test_a_reply_that_is_no_soap_message(self):
        self.answer('<html/>')
        self.assertRaises(exceptions.VimConnectionException,
                          self.stream, 'returnval')

    def test_the_connection_is_used_again(self):
        for _ in range(3):
            self.assertEqual([], self.stream('returnval'))
        self.assertEqual(1, len({each.client_address
                                 for each in self.server.requests}))

    def test_a_fault(self):
        self.answer(fault('<XFault xmlns="urn:vim25"/>'), 500)
        self.assertRaises(exceptions.VimFaultException, self.stream, 'x')

    def test_a_reply_that_breaks_off(self):
        self.answer(response('<returnval>1</returnval>')[:-20])
        self.assertRaises(exceptions.VimConnectionException,
                          self.stream, 'returnval')

    def test_an_error_whose_page_breaks_off(self):
        def break_off(request):
            request.send_response(500)
            request.send_header('Content-Length', '1000')
            request.end_headers()
            request.close_connection = True

        self.server.answer = break_off
        self.assertRaises(exceptions.VimConnectionException,
                          self.stream, 'returnval')

    def test_http_503_of_a_proxy(self):
        self.answer('busy', 503)
        self.assertRaises(exceptions.VimConnectionException,
                          self.stream, 'returnval')

    def test_a_document_type_is_refused(self):
        self.answer('<!DOCTYPE x [<!ENTITY who "me">]>'
                    + response('<returnval>&who;</returnval>')
                    .partition('?>')[2])
        self.assertRaises(exceptions.VimConnectionException,
                          self.stream, 'returnval')

    def named(self, pieces):
        """The values of a reply in pieces."""
        return [each.text for each in soap._Arriving(pieces, int).named(
            frozenset({soap.tag('returnval')}))]

    def test_a_document_type_is_refused_wherever_the_pieces_end(self):
        content = response('<returnval>&who;</returnval>').partition('?>')[2]
        for before in ('', '\ufeff', '<?xml version="1.0"?>\n<!-- <a> -->\n',
                       '<?xml version="1.0"?><?a <b>? ?><!-- -c- ?> -->'):
            reply = (before + '<!DOCTYPE x [<!ENTITY who "me">]>'
                     + content).encode()
            ends = len(reply) - len(content)
            for at in range(ends + 1):
                for pieces in ([reply[:at], reply[at:]],
                               [reply[:at], reply[at:at + 1],
                                reply[at + 1:]]):
                    with self.assertRaisesRegex(ValueError, 'document type'):
                        self.named(pieces)

    def test_what_comes_before_the_envelope_is_bounded(self):
        for filler in (b' ', b'<!-- x -->', b'<?x?>', b'<!--', b'<?', b'<!'):
            taken = []
            with self.assertRaises((ValueError, etree.XMLSyntaxError)):
                self.named(filter(None, map(
                    lambda piece: taken.append(piece) or piece,
                    itertools.repeat(filler * 100, 1000))))
            self.assertLess(sum(map(len, taken)), 2 * soap.SLICE_BYTES)

    def test_a_comment_before_the_envelope_may_come_in_pieces(self):
        reply = response('<returnval>1</returnval>').replace(
            '?>', '?>\n<!-- a <!DOCTYPE x> -->\n<?b <!DOCTYPE ?>', 1).encode()
        for size in range(1, 60):
            self.assertEqual(['1'], self.named(
                reply[at:at + size] for at in range(0, len(reply), size)))


class ValueTestCase(unittest.TestCase):
    """Properties as Python values."""

    def value(self, kind, content):
        return soap.value(etree.fromstring(
            f'<val xmlns:xsi="{soap.XSI}" xmlns:xsd="x" xmlns="{soap.VIM}"'
            f' xsi:type="{kind}">{content}</val>'))

    def test_scalars(self):
        for kind, content, expected in (
                ('xsd:string', 'a &amp; b', 'a & b'), ('xsd:string', '', ''),
                ('xsd:boolean', 'true', True), ('xsd:boolean', '0', False),
                ('xsd:int', '-7', -7), ('xsd:long', str(1 << 62), 1 << 62),
                ('xsd:double', '0.5', 0.5), ('xsd:base64Binary', 'AAE=',
                                             b'\0\1'),
                ('HostSystemConnectionState', 'connected', 'connected')):
            self.assertEqual(expected, self.value(kind, content))

    def test_a_time_has_its_zone(self):
        found = self.value('xsd:dateTime', '2026-01-02T03:04:05Z')
        self.assertEqual(datetime.timedelta(0), found.utcoffset())

    def test_references(self):
        self.assertEqual(
            [references.Ref('HostSystem', 'host-1')], self.value(
                'ArrayOfManagedObjectReference',
                '<ManagedObjectReference type="HostSystem">host-1'
                '</ManagedObjectReference>'))

    def test_an_empty_array_is_no_text(self):
        self.assertIsInstance(self.value('ArrayOfDatastoreHostMount', ''),
                              etree._Element)

    def test_a_data_object_is_the_element(self):
        self.assertEqual('5', self.value('DatastoreSummary',
                                         '<capacity>5</capacity>')[0].text)
