# SPDX-License-Identifier: Apache-2.0
"""Data objects become XML, and come back in the form of suds."""

import datetime
import types
import unittest

from lxml import etree
from oslo_vmware import exceptions
from oslo_vmware import vim_util

from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import suds_client

REPLY = '''<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema"><e:Body>%s</e:Body>
</e:Envelope>'''
FAULT = REPLY % '''<e:Fault><faultcode>x</faultcode>
<faultstring>no</faultstring><detail><DuplicateNameFault xmlns="urn:vim25"
xsi:type="DuplicateName"><object type="Folder">group-v3</object>
</DuplicateNameFault></detail></e:Fault>'''
VM = vim_util.get_moref('vm-1', 'VirtualMachine')
TASK = ('<ReconfigVM_TaskResponse xmlns="urn:vim25"><returnval type="Task">'
        'task-1</returnval></ReconfigVM_TaskResponse>')


class Https:
    """Keeps what is sent and gives the prepared reply."""

    url = 'https://vc:443'
    cookie = None

    def __init__(self):
        self.sent = []
        self.reply = ''

    def request(self, method, path, *, body, **options):
        self.sent.append(etree.fromstring(body))
        return types.SimpleNamespace(status=200, data=self.reply.encode())


class SudsCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.https = Https()
        self.client = suds_client.SudsClient(self.https)
        self.create = self.client.factory.create
        self.service = suds_client.Methods(soap.Client(self.https))
        self.service.op_id_prefix = 'op'

    def returns(self, inside):
        self.https.reply = REPLY % inside

    def sent(self, spec):
        """The spec as it was sent."""
        self.returns(TASK)
        self.service.ReconfigVM_Task(VM, spec=spec)
        return self.https.sent[-1].find(f'.//{soap.tag("spec")}')


class WriteTestCase(SudsCase):

    def test_fields_are_in_the_order_of_the_api(self):
        disk = self.create('ns0:VirtualDisk')
        disk.capacityInKB, disk.controllerKey, disk.key = 5, 1000, 1
        change = self.create('ns0:VirtualDeviceConfigSpec')
        change.device = disk
        spec = self.create('ns0:VirtualMachineConfigSpec')
        spec.memoryHotAddEnabled, spec.deviceChange, spec.name = (
            True, [change], 'n')
        node = self.sent(spec)
        self.assertEqual(['name', 'memoryHotAddEnabled', 'deviceChange'],
                         [etree.QName(each).localname for each in node])
        self.assertEqual(['1', '1000', '5'], [
            each.text for each in node[2][0]])
        self.assertEqual('true', node[1].text)

    def test_a_type_is_named_where_another_is_declared(self):
        change = self.create('ns0:VirtualDeviceConfigSpec')
        change.device = self.create('ns0:VirtualDisk')
        spec = self.create('ns0:VirtualMachineConfigSpec')
        spec.deviceChange.append(change)
        [node] = self.sent(spec)
        self.assertEqual(['', 'VirtualDisk'],
                         [soap.type_of(each) for each in (node, node[0])])

    def test_a_value_of_any_type_names_its_own(self):
        spec = self.create('ns0:VirtualMachineConfigSpec')
        for value in ('text', True, 7, 1 << 40, 0.5):
            option = self.create('ns0:OptionValue')
            option.key, option.value = 'k', value
            spec.extraConfig.append(option)
        self.assertEqual(
            ['xsd:string', 'xsd:boolean', 'xsd:int', 'xsd:long',
             'xsd:double'],
            [each[1].get(soap.TYPE) for each in self.sent(spec)])

    def test_a_reference_of_whatever_make_has_its_type_as_an_attribute(self):
        made = self.create('ns0:ManagedObjectReference')
        made._type, made.value = 'Datastore', 'datastore-9'
        for ref in (made, references.Ref('Datastore', 'datastore-9'),
                    vim_util.get_moref('datastore-9', 'Datastore')):
            self.returns('<RefreshDatastoreResponse xmlns="urn:vim25"/>')
            self.service.RefreshDatastore(ref)
            node = self.https.sent[-1].find(f'.//{soap.tag("_this")}')
            self.assertEqual(('Datastore', 'datastore-9'),
                             (node.get('type'), node.text))

    def test_headers_are_those_of_the_call(self):
        self.sent(self.create('ns0:VirtualMachineConfigSpec'))
        self.assertRegex(self.https.sent[-1].findtext('.//operationID'),
                         '^op-[0-9a-f-]{36}$')
        self.returns(TASK)
        self.service.ReconfigVM_Task(VM, skip_op_id=True)
        self.assertIsNone(self.https.sent[-1].find('.//operationID'))

    def test_a_field_that_there_is_not_is_an_error(self):
        spec = self.create('ns0:VirtualMachineConfigSpec')
        spec.nmae = 'n'
        with self.assertRaisesRegex(exceptions.VimException,
                                    'ConfigSpec has no field nmae'):
            self.sent(spec)

    def test_a_method_or_type_that_there_is_not_is_an_error(self):
        with self.assertRaisesRegex(exceptions.VimAttributeException,
                                    'no method Break'):
            self.service.Break(VM)
        with self.assertRaisesRegex(AttributeError, 'no type Nothing'):
            self.create('ns0:Nothing')
        self.assertEqual([], self.https.sent)


class ReadTestCase(SudsCase):

    def made(self, inside, kind='VirtualMachineConfigInfo'):
        return suds_client.decode(etree.fromstring(
            f'<val xmlns="{soap.VIM}" xmlns:xsi="{soap.XSI}" xmlns:xsd="x">'
            f'{inside}</val>'), kind)

    def test_an_object_has_what_was_told_and_nothing_else(self):
        found = self.made('<name>n</name><template>true</template>')
        self.assertEqual('VirtualMachineConfigInfo', type(found).__name__)
        self.assertEqual(('n', True), (found.name, found.template))
        self.assertFalse(hasattr(found, 'extraConfig'))
        self.assertIn('name', found)
        self.assertEqual([('name', 'n'), ('template', True)], list(found))

    def test_what_may_occur_often_is_a_list_also_if_it_occurs_once(self):
        found = self.made('<device xsi:type="VirtualDisk"><key>1</key>'
                          '<capacityInKB>9</capacityInKB></device>',
                          'VirtualHardware')
        self.assertEqual('VirtualDisk', type(found.device[0]).__name__)
        self.assertEqual(9, found.device[0].capacityInKB)

    def test_an_array_holds_a_list_of_its_elements(self):
        for kind, item, name in (
                ('ArrayOfVirtualDevice', '<VirtualDevice><key>1</key>'
                 '</VirtualDevice>', 'VirtualDevice'),
                ('ArrayOfString', '<string>x</string>', 'string')):
            found = self.made(item, kind)
            self.assertEqual(1, len(getattr(found, name)))

    def test_a_value_of_any_type_is_of_the_type_it_names(self):
        found = self.made(
            '<extraConfig xsi:type="OptionValue"><key>a</key>'
            '<value xsi:type="xsd:int">3</value></extraConfig>'
            '<extraConfig><key>b</key><value xsi:type="xsd:dateTime">'
            '2026-01-02T03:04:05Z</value></extraConfig>')
        self.assertEqual(3, found.extraConfig[0].value)
        self.assertIsInstance(found.extraConfig[1].value, datetime.datetime)

    def test_a_field_that_a_newer_vcenter_adds_is_read_as_it_says(self):
        found = self.made('<brandNew xsi:type="xsd:int">3</brandNew>'
                          '<newer>text</newer>')
        self.assertEqual((3, 'text'), (found.brandNew, found.newer))

    def test_a_method_that_returns_many_returns_a_list(self):
        find = self.service.FindAllByUuid
        self.returns('<FindAllByUuidResponse xmlns="urn:vim25"/>')
        self.assertEqual([], find(VM, uuid='u'))
        self.returns('<FindAllByUuidResponse xmlns="urn:vim25"><returnval '
                     'type="VirtualMachine">vm-1</returnval>'
                     '</FindAllByUuidResponse>')
        [found] = find(VM, uuid='u')
        self.assertEqual(references.Ref('VirtualMachine', 'vm-1'), found)
        self.assertEqual(('VirtualMachine', 'vm-1'),
                         (vim_util.get_moref_type(found),
                          vim_util.get_moref_value(found)))

    def test_a_fault_is_that_of_oslo_vmware(self):
        self.https.reply = FAULT
        with self.assertRaises(exceptions.VimFaultException) as caught:
            self.service.Destroy_Task(VM)
        self.assertEqual(['DuplicateName'], caught.exception.fault_list)
        self.assertEqual('group-v3', caught.exception.details['object'])

    def test_what_is_no_soap_or_makes_no_sense_is_no_reply(self):
        for reply in ('<html>gateway', REPLY % (
                '<QueryVirtualDiskFragmentationResponse xmlns="urn:vim25">'
                '<returnval>x</returnval>'
                '</QueryVirtualDiskFragmentationResponse>')):
            self.https.reply = reply
            with self.assertRaises(exceptions.VimConnectionException):
                self.service.QueryVirtualDiskFragmentation(VM, name='x')

    def test_only_a_retrieval_is_looked_through_for_what_is_missing(self):
        """A fault in another method's reply is a value like any other."""
        missing = ('<returnval><obj type="Datastore">d</obj><missingSet>'
                   '<path>host</path><fault><fault xsi:type="NoPermission"/>'
                   '<localizedMessage/></fault></missingSet></returnval>')
        self.returns('<QueryConfigOptionResponse xmlns="urn:vim25">'
                     f'{missing}</QueryConfigOptionResponse>')
        self.assertIsNotNone(self.service.QueryConfigOption(VM))
        self.returns('<RetrievePropertiesExResponse xmlns="urn:vim25">'
                     f'<returnval><objects>{missing[11:-12]}</objects>'
                     '</returnval></RetrievePropertiesExResponse>')
        with self.assertRaises(exceptions.VimFaultException):
            self.service.RetrievePropertiesEx(VM)

    def test_the_sessions_cookie_is_in_the_jar(self):
        self.assertEqual([], list(self.client.cookiejar))
        self.https.cookie = '"x"'
        self.assertEqual([('vmware_soap_session', '"x"')],
                         [(each.name, each.value)
                          for each in self.client.cookiejar])


if __name__ == '__main__':
    unittest.main()
