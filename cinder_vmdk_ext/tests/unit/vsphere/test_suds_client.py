# SPDX-License-Identifier: Apache-2.0
"""Data objects go into XML and come back as upstream's code expects them."""

import datetime
import types
import unittest

from lxml import etree
from oslo_vmware import exceptions
from oslo_vmware import vim_util
import requests

from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import suds_client
from cinder_vmdk_ext.vsphere import wsdl as vsphere_wsdl

WSDL = b'''<definitions xmlns="http://schemas.xmlsoap.org/wsdl/">
<types><schema targetNamespace="urn:vim25"
 xmlns="http://www.w3.org/2001/XMLSchema"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:vim25="urn:vim25">
<complexType name="ManagedObjectReference"><simpleContent>
 <extension base="xsd:string"><attribute name="type" type="xsd:string"/>
 </extension></simpleContent></complexType>
<complexType name="Device"><sequence>
 <element name="key" type="xsd:int"/>
 <element name="label" type="xsd:string" minOccurs="0"/></sequence>
</complexType>
<complexType name="Disk"><complexContent><extension base="vim25:Device">
 <sequence><element name="size" type="xsd:long"/></sequence></extension>
 </complexContent></complexType>
<complexType name="Option"><sequence>
 <element name="key" type="xsd:string"/>
 <element name="value" type="xsd:anyType"/></sequence></complexType>
<complexType name="Spec"><sequence>
 <element name="name" type="xsd:string" minOccurs="0"/>
 <element name="device" type="vim25:Device" maxOccurs="unbounded"/>
 <element name="option" type="vim25:Option" maxOccurs="unbounded"/>
 <element name="host" type="vim25:ManagedObjectReference"/>
 <element name="on" type="xsd:boolean"/></sequence></complexType>
<complexType name="MakeRequestType"><sequence>
 <element name="_this" type="vim25:ManagedObjectReference"/>
 <element name="spec" type="vim25:Spec"/></sequence></complexType>
<element name="Make" type="vim25:MakeRequestType"/>
<element name="MakeResponse"><complexType><sequence>
 <element name="returnval" type="vim25:Spec"/></sequence></complexType>
</element>
<complexType name="FindRequestType"><sequence>
 <element name="_this" type="vim25:ManagedObjectReference"/></sequence>
</complexType>
<element name="Find" type="vim25:FindRequestType"/>
<element name="FindResponse"><complexType><sequence>
 <element name="returnval" type="vim25:ManagedObjectReference"
  maxOccurs="unbounded"/></sequence></complexType></element>
</schema></types></definitions>'''

REPLY = '''<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema"><e:Body>%s</e:Body>
</e:Envelope>'''
FAULT = REPLY % '''<e:Fault><faultcode>x</faultcode>
<faultstring>no</faultstring><detail><DuplicateNameFault xmlns="urn:vim25"
xsi:type="DuplicateName"><object type="Folder">group-v3</object>
</DuplicateNameFault></detail></e:Fault>'''
THIS = vim_util.get_moref('folder-1', 'Folder')


class Transport:
    """Keeps what is sent and gives what it is told to."""

    cookiejar = ()

    def __init__(self, wsdl=WSDL):
        self.wsdl = wsdl
        self.opened = []
        self.sent = []
        self.reply = ''

    def open(self, request):
        self.opened.append(request.url)
        document = (self.wsdl if isinstance(self.wsdl, bytes)
                    else self.wsdl[request.url])
        return types.SimpleNamespace(read=lambda: document)

    def send(self, request):
        self.sent.append(etree.fromstring(request.message))
        return types.SimpleNamespace(code=200, message=self.reply.encode())


class LeanCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.transport = Transport()
        self.client = suds_client.SudsClient(
            'https://vc/sdk/vimService.wsdl', 'https://vc/sdk',
            self.transport, lambda: [('operationID', 'op-1')])

    def returns(self, inside):
        self.transport.reply = REPLY % inside

    def sent(self, spec):
        """The spec as it was sent."""
        self.returns('<MakeResponse xmlns="urn:vim25"/>')
        self.client.service.Make(THIS, spec=spec)
        return self.transport.sent[-1].find(f'.//{{{soap.VIM}}}spec')


class WriteTestCase(LeanCase):

    def test_fields_are_in_the_order_of_the_api(self):
        disk = self.client.factory.create('ns0:Disk')
        disk.size, disk.label, disk.key = 5, 'x', 1
        spec = self.client.factory.create('ns0:Spec')
        spec.on, spec.device, spec.name = True, [disk], 'n'
        node = self.sent(spec)
        self.assertEqual(['name', 'device', 'on'],
                         [etree.QName(each).localname for each in node])
        self.assertEqual(['1', 'x', '5'], [each.text for each in node[1]])
        self.assertEqual('true', node[2].text)

    def test_a_type_is_named_where_another_is_declared(self):
        spec = self.client.factory.create('ns0:Spec')
        spec.device.append(self.client.factory.create('ns0:Disk'))
        spec.device.append(self.client.factory.create('ns0:Device'))
        self.assertEqual(['Disk', None],
                         [each.get(f'{{{soap.XSI}}}type')
                          for each in self.sent(spec)])

    def test_a_value_of_any_type_names_its_own(self):
        spec = self.client.factory.create('ns0:Spec')
        for value in ('text', True, 7, 1 << 40):
            option = self.client.factory.create('ns0:Option')
            option.key, option.value = 'k', value
            spec.option.append(option)
        self.assertEqual(
            ['xsd:string', 'xsd:boolean', 'xsd:int', 'xsd:long'],
            [each[1].get(f'{{{soap.XSI}}}type') for each in self.sent(spec)])

    def test_a_reference_has_its_type_as_an_attribute(self):
        spec = self.client.factory.create('ns0:Spec')
        spec.host = vim_util.get_moref('host-9', 'HostSystem')
        node = self.sent(spec)[0]
        self.assertEqual(('HostSystem', 'host-9'),
                         (node.get('type'), node.text))

    def test_headers_are_those_of_the_call(self):
        self.sent(self.client.factory.create('ns0:Spec'))
        self.assertEqual('op-1', self.transport.sent[-1].findtext(
            f'.//{{{soap.VIM}}}operationID'))

    def test_a_field_that_there_is_not_is_an_error(self):
        spec = self.client.factory.create('ns0:Spec')
        spec.nmae = 'n'
        with self.assertRaisesRegex(TypeError, 'Spec has no field nmae'):
            self.sent(spec)

    def test_a_method_or_type_that_there_is_not_is_an_error(self):
        with self.assertRaisesRegex(AttributeError, 'no method Break'):
            self.client.service.Break(THIS)
        with self.assertRaisesRegex(AttributeError, 'no type Nothing'):
            self.client.factory.create('ns0:Nothing')


class ReadTestCase(LeanCase):

    def made(self, inside):
        self.returns('<MakeResponse xmlns="urn:vim25"><returnval>'
                     f'{inside}</returnval></MakeResponse>')
        return self.client.service.Make(THIS, spec=None)

    def test_an_object_has_what_was_told_and_nothing_else(self):
        found = self.made('<name>n</name><on>true</on>')
        self.assertEqual('Spec', type(found).__name__)
        self.assertEqual(('n', True), (found.name, found.on))
        self.assertFalse(hasattr(found, 'device'))
        self.assertIn('name', found)
        self.assertEqual([('name', 'n'), ('on', True)], list(found))

    def test_what_may_occur_often_is_a_list_also_if_it_occurs_once(self):
        found = self.made('<device xsi:type="Disk"><key>1</key>'
                          '<size>9</size></device>')
        self.assertEqual('Disk', type(found.device[0]).__name__)
        self.assertEqual(9, found.device[0].size)

    def test_a_value_of_any_type_is_of_the_type_it_names(self):
        found = self.made(
            '<option><key>a</key><value xsi:type="xsd:int">3</value></option>'
            '<option><key>b</key><value xsi:type="xsd:dateTime">'
            '2026-01-02T03:04:05Z</value></option>')
        self.assertEqual(3, found.option[0].value)
        self.assertIsInstance(found.option[1].value, datetime.datetime)

    def test_a_method_that_returns_many_returns_a_list(self):
        self.returns('<FindResponse xmlns="urn:vim25"/>')
        self.assertEqual([], self.client.service.Find(THIS))
        self.returns('<FindResponse xmlns="urn:vim25"><returnval '
                     'type="VirtualMachine">vm-1</returnval></FindResponse>')
        found = self.client.service.Find(THIS)
        self.assertEqual(['vm-1'], [vim_util.get_moref_value(each)
                                    for each in found])

    def test_a_fault_is_that_of_oslo_vmware(self):
        self.transport.reply = FAULT
        with self.assertRaises(exceptions.VimFaultException) as caught:
            self.client.service.Find(THIS)
        self.assertEqual(['DuplicateName'], caught.exception.fault_list)
        self.assertEqual('group-v3', caught.exception.details['object'])

    def test_what_is_no_soap_is_no_reply(self):
        self.transport.reply = '<html>gateway'
        with self.assertRaises(requests.RequestException):
            self.client.service.Find(THIS)


class SchemaTestCase(unittest.TestCase):

    def test_documents_that_are_imported_are_read_too(self):
        first = (b'<definitions xmlns="http://schemas.xmlsoap.org/wsdl/">'
                 b'<import location="vim.wsdl"/></definitions>')
        transport = Transport({'https://vc/a/service.wsdl': first,
                               'https://vc/a/vim.wsdl': WSDL})
        client = suds_client.SudsClient('https://vc/a/service.wsdl',
                                        'https://vc/sdk', transport, list)
        self.assertEqual(2, len(transport.opened))
        self.assertEqual('Disk',
                         type(client.factory.create('ns0:Disk')).__name__)

    def test_inherited_fields_come_first(self):
        known = vsphere_wsdl.load('u', lambda url: WSDL)
        self.assertEqual(['key', 'label', 'size'], list(known.fields('Disk')))

    def test_a_description_is_parsed_once(self):
        self.assertIs(vsphere_wsdl.load('a', lambda url: WSDL),
                      vsphere_wsdl.load('b', lambda url: WSDL))

    def test_what_is_no_description_is_an_error(self):
        with self.assertRaises(requests.RequestException):
            suds_client.SudsClient('https://vc/x', 'https://vc/sdk',
                                   Transport(b'not XML'), list)


if __name__ == '__main__':
    unittest.main()
