# SPDX-License-Identifier: Apache-2.0
"""Requests are held to the schema, and the schema is that of a vCenter.

The reference is the WSDL of vCenter 9.1 (vcf-api-specs): xsd:sequence, minOccurs. A vCenter's deserializer says "Unexpected element
tag ... seen".
"""

import gzip
import pathlib
import tarfile
import unittest

from lxml import etree
from pyVmomi import vim
import requests

from simulator.conformance import vcenter_case

ROOT = pathlib.Path(__file__).resolve().parents[2]
WSDL91 = ROOT.parent / 'shared' / 'fixtures' / 'wsdl91' / 'wsdl-9.1.0.0.tar.gz'
XSD = '{http://www.w3.org/2001/XMLSchema}'


class SchemaCase(vcenter_case.VCenterCase):

    flags = {'ds': 1, 'vm': 1, 'cluster': 1, 'standalone_host': 0}

    def send(self, text):
        """:returns: the reply to a request, of which pyVmomi could send only what is right"""
        return requests.post(
            f'https://{self.vcenter.host}:{self.vcenter.port}/sdk', verify=self.vcenter.cacert, timeout=60,
            headers={'Cookie': self.client._stub.cookie.split(';')[0], 'Content-Type': 'text/xml; charset=utf-8'},
            data='<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
                 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns="urn:vim25">'
                 f'<soapenv:Body>{text}</soapenv:Body></soapenv:Envelope>')

    def reconfigure(self, spec):
        vm = self.all(vim.VirtualMachine)[0]
        return self.send(f'<ReconfigVM_Task><_this type="VirtualMachine">{vm._moId}</_this><spec>{spec}</spec></ReconfigVM_Task>')

    def create_folder(self, content):
        return self.send(f'<CreateFolder><_this type="Folder">{self.datacenter.vmFolder._moId}</_this>{content}</CreateFolder>')


class RefusalCase(SchemaCase):

    def refused(self, reply, words):
        self.assertEqual(500, reply.status_code, reply.text)
        fault = etree.fromstring(reply.content).find('.//{http://schemas.xmlsoap.org/soap/envelope/}Fault')
        self.assertEqual('ServerFaultCode', fault.findtext('faultcode'))
        self.assertIn(words, fault.findtext('faultstring'))
        self.assertEqual('InvalidRequestFault', etree.QName(fault.find('detail')[0]).localname)


class RequestsTestCase(RefusalCase):

    def test_elements_in_order_are_taken(self):
        reply = self.reconfigure('<name>in order</name><annotation>words</annotation>')
        self.assertEqual(200, reply.status_code, reply.text)

    def test_elements_out_of_order_are_refused(self):
        self.refused(self.reconfigure('<annotation>words</annotation><name>out of order</name>'),
                     'Unexpected element tag "name" seen')
        self.assertNotIn('out of order', [vm.name for vm in self.all(vim.VirtualMachine)])

    def test_elements_of_a_base_type_come_first(self):
        device = '<device xsi:type="VirtualDisk">{}</device>'
        change = f'<deviceChange><operation>edit</operation>{device}</deviceChange>'
        self.refused(self.reconfigure(change.format('<key>1</key><capacityInKB>1</capacityInKB><unitNumber>0</unitNumber>')),
                     'Unexpected element tag "unitNumber" seen')

    def test_an_unknown_element_is_refused(self):
        self.refused(self.create_folder('<name>colourful</name><colour>red</colour>'), 'Unexpected element tag "colour" seen')

    def test_an_element_twice_is_refused(self):
        self.refused(self.create_folder('<name>one</name><name>two</name>'), 'Unexpected element tag "name" seen')

    def test_a_required_element_that_is_missing_is_refused(self):
        self.refused(self.create_folder(''), 'Required property name is missing')


class LocalizedMethodFaultTestCase(RefusalCase):
    """core-types.xsd of vCenter 9.1: LocalizedMethodFault extends DynamicData by `fault`, once, and `localizedMessage`, at most once.
    HttpNfcLeaseAbort takes one; replies hold them in TaskInfo.error and MissingProperty.fault.
    """

    FAULT = '<fault xsi:type="SystemError"><reason>no matter</reason></fault>'
    WORDS = '<localizedMessage>words</localizedMessage>'

    def abort(self, content):
        return self.send('<HttpNfcLeaseAbort><_this type="HttpNfcLease">session[none]</_this>'
                         f'<fault>{content}</fault></HttpNfcLeaseAbort>')

    def test_words_may_be_missing(self):
        for content in self.FAULT + self.WORDS, self.FAULT:
            self.assertIn('ManagedObjectNotFound', self.abort(content).text)

    def test_the_fault_may_not(self):
        for content in self.WORDS, '':
            self.refused(self.abort(content), 'Required property fault is missing')

    def test_the_fault_comes_before_the_words_and_once(self):
        self.refused(self.abort(self.WORDS + self.FAULT), 'Required property fault is missing')
        self.refused(self.abort(self.FAULT + self.FAULT), 'Unexpected element tag "fault" seen')

    def test_replies_hold_it_so(self):
        folder = self.datacenter.vmFolder
        task = folder.Rename_Task('')
        self.assertIsInstance(self.fault_of(task), vim.fault.InvalidName)
        reply = self.send(
            f'<RetrievePropertiesEx><_this type="PropertyCollector">{self.content.propertyCollector._moId}</_this><specSet><propSet>'
            f'<type>Task</type><pathSet>info.error</pathSet></propSet><objectSet><obj type="Task">{task._moId}</obj></objectSet>'
            '</specSet><options/></RetrievePropertiesEx>')
        error = etree.fromstring(reply.content).find('.//{*}propSet/{*}val')
        self.assertEqual('LocalizedMethodFault', error.get('{http://www.w3.org/2001/XMLSchema-instance}type').rpartition(':')[2])
        self.assertEqual(['fault', 'localizedMessage'], [etree.QName(each).localname for each in error])
        self.assertEqual('InvalidName', error[0].get('{http://www.w3.org/2001/XMLSchema-instance}type').rpartition(':')[2])


class LenientRequestsTestCase(SchemaCase):

    lenient = 'schema'

    def test_elements_out_of_order_are_taken(self):
        self.assertEqual(200, self.reconfigure('<annotation>words</annotation><name>out of order</name>').status_code)


@unittest.skipUnless(WSDL91.exists(), f'{WSDL91.name} is not beside the repository, in shared/fixtures')
class Wsdl91TestCase(unittest.TestCase):
    """The WSDL that is served against the schemas of vCenter 9.1."""

    @classmethod
    def setUpClass(cls):
        cls.theirs = {}
        with tarfile.open(WSDL91) as archive:
            for member in archive.getmembers():
                path = pathlib.PurePath(member.name)
                if path.parent.name == 'vim' and path.suffix == '.xsd' and not path.name.startswith('vsan'):
                    cls.theirs |= cls.types(etree.fromstring(archive.extractfile(member).read()))
        text = gzip.open(ROOT / 'simulator' / 'vimservice' / 'vimService.wsdl.gz').read()
        cls.ours = cls.types(etree.fromstring(text))

    @staticmethod
    def types(schema):
        """:returns: complex type -> (base, [(element, type, minOccurs, maxOccurs), ...])"""
        found = {}
        for kind in schema.iter(XSD + 'complexType'):
            if kind.get('name'):
                extension = kind.find(f'.//{XSD}extension')
                found[kind.get('name')] = (
                    None if extension is None else extension.get('base').rpartition(':')[2],
                    [(each.get('name'), each.get('type').rpartition(':')[2], each.get('minOccurs', '1'),
                      each.get('maxOccurs', '1')) for each in kind.iter(XSD + 'element')])
        return found

    def test_LocalizedMethodFault_and_MethodFault_are_theirs(self):
        base, elements = self.theirs['LocalizedMethodFault']
        self.assertEqual(('DynamicData', [('fault', 'MethodFault', '1', '1'), ('localizedMessage', 'string', '0', '1')]),
                         (base, elements))
        for name in 'LocalizedMethodFault', 'MethodFault':
            self.assertEqual(self.theirs[name], self.ours[name])

    def test_every_type_of_both_has_the_same_base_and_elements(self):
        both = self.ours.keys() & self.theirs.keys()
        self.assertGreater(len(both), 4800)
        differ = {}
        for name in both:
            base, elements = self.theirs[name]
            known = {each[0] for each in elements}
            # Elements that only this WSDL has are those of other services, which share the names of types.
            ours = [each for each in self.ours[name][1] if each[0] in known or 'vsan' not in name.lower()]
            if (base, elements) != (self.ours[name][0], ours):
                differ[name] = (elements, ours)
        self.assertEqual({}, differ)
