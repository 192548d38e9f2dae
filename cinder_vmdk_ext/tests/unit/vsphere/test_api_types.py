# SPDX-License-Identifier: Apache-2.0
"""The order of the API's fields is that of a vCenter's own schemas."""

import importlib.util
import os
import unittest
from importlib import metadata

from lxml import etree

from cinder_vmdk_ext.tests import vsphere_schemas
from cinder_vmdk_ext.vsphere import api_types
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

XSD = '{http://www.w3.org/2001/XMLSchema}'
SCRIPT = os.path.join(os.path.dirname(__file__), *['..'] * 4, 'tools',
                      'api_types.py')
TYPES = api_types.known()


def script():
    spec = importlib.util.spec_from_file_location('api_types_tool', SCRIPT)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class TypesTestCase(unittest.TestCase):

    def test_inherited_fields_come_first(self):
        self.assertEqual(
            ['key', 'deviceInfo', 'backing'],
            list(TYPES.objects['VirtualDisk'].fields)[:3])
        self.assertLess(
            list(TYPES.objects['VirtualDisk'].fields).index('unitNumber'),
            list(TYPES.objects['VirtualDisk'].fields).index('capacityInKB'))

    def test_a_field_has_its_type_and_number(self):
        fields = TYPES.objects['VirtualMachineConfigSpec'].fields
        self.assertEqual(('name', 'string', False), fields['name'])
        self.assertEqual(('extraConfig', 'OptionValue', True),
                         fields['extraConfig'])

    def test_a_method_has_parameters_and_a_result(self):
        self.assertEqual(['_this', 'folder', 'name', 'spec'],
                         list(TYPES.methods['CloneVM_Task'].parameters))
        self.assertEqual(('returnval', 'ManagedObjectReference', False),
                         TYPES.methods['CloneVM_Task'].result)
        self.assertTrue(TYPES.methods['FindAllByUuid'].result.many)
        self.assertIsNone(TYPES.methods['DestroyView'].result)
        with self.assertRaises(AttributeError):
            TYPES.methods['Break']

    def test_what_is_no_data_object_has_no_fields(self):
        for kind in ('VirtualMachinePowerState', 'string', 'Nothing'):
            self.assertIsNone(TYPES.objects[kind])

    def test_a_type_is_of_the_kind_of_its_bases(self):
        for base in ('VirtualDisk', 'VirtualDevice', 'DynamicData'):
            self.assertIn(base, TYPES.objects['VirtualDisk'].kinds)
        self.assertNotIn('VirtualCdrom', TYPES.objects['VirtualDisk'].kinds)

    def test_the_table_is_what_the_tool_writes(self):
        tool = script()
        with open(tool.OUT) as file:
            lines = file.read().splitlines()
        wanted = f'# pyVmomi {metadata.version("pyvmomi")}'
        if lines[0] != wanted:
            self.skipTest(f'the table is of {lines[0]}, and here is {wanted}')
        self.assertEqual(list(tool.lines()), lines)


class SchemasTestCase(unittest.TestCase):
    """Beside the schemas of vCenter 9.1."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        vsphere_schemas.need()
        cls.own, cls.bases, cls.enums = {}, {}, {'anyURI'}
        cls.methods = {}
        for (service, name), root in vsphere_schemas.documents().items():
            # Its types are those of vim, and vSAN's are another service's.
            if 'vsan' not in name and not (service == 'pbm' and
                                           'pbm' not in name):
                cls.read(root)

    @classmethod
    def read(cls, root):
        cls.enums |= {each.get('name') for each in root.iter(
            f'{XSD}simpleType')}
        for node in root.iter(f'{XSD}complexType'):
            name = node.get('name') or f'{node.getparent().get("name")}#'
            extension = node.find(f'{XSD}complexContent/{XSD}extension')
            if extension is not None:
                cls.bases[name] = cls.local(extension.get('base'))
                node = extension
            cls.own[name] = [
                (each.get('name'), cls.local(each.get('type')),
                 each.get('maxOccurs', '1') != '1')
                for each in node.iterfind(f'{XSD}sequence/{XSD}element')]
        for node in root.iterfind(f'{XSD}element'):
            kind = cls.local(node.get('type') or '')
            if kind.endswith('RequestType'):
                cls.methods[node.get('name')] = kind

    @staticmethod
    def local(name):
        return name.rpartition(':')[2]

    def known(self, fields):
        """Fields, of which enumerations count as strings."""
        return [(field, 'string' if kind in self.enums else kind, many)
                for field, kind, many in fields]

    def fields(self, name):
        base = self.bases.get(name)
        return (self.fields(base) if base else []) + self.known(
            self.own.get(name, ()))

    def test_every_type_has_the_same_fields_in_the_same_order(self):
        compared = 0
        for name in self.own:
            # Neither messages, nor what pyVmomi takes for simple types, nor
            # what it knows of vSAN beyond these schemas.
            if name.endswith(('#', 'RequestType')) or name in (
                    'ManagedObjectReference', 'DynamicArray', 'ArrayOfUri'
                    ) or 'vsan' in name.lower():
                continue
            with self.subTest(name):
                self.assertEqual(self.fields(name), self.known(
                    TYPES.objects[name].fields.values()))
            compared += 1
        self.assertGreater(compared, 3500)

    def test_every_method_has_the_same_parameters_and_result(self):
        self.assertGreater(len(self.methods), 900)
        for name, kind in self.methods.items():
            with self.subTest(name):
                self.assertEqual(self.fields(kind), self.known(
                    TYPES.methods[name].parameters.values()))
                self.assertEqual(self.fields(f'{name}Response#'), self.known(
                    filter(None, [TYPES.methods[name].result])))

    def test_a_wrong_order_is_a_fault_of_the_schemas(self):
        """So that the schemas are a witness at all."""
        right = soap.encode('ReconfigVM_Task', references.Ref(
            'VirtualMachine', 'vm-1'), {'spec': soap.Typed('', {
                'name': 'n', 'annotation': 'a'})})
        self.assertEqual([], vsphere_schemas.faults_of(right))
        root = etree.fromstring(right)
        spec = root.find(f'.//{soap.tag("spec")}')
        spec.append(spec[0])
        self.assertNotEqual([], vsphere_schemas.faults_of(
            etree.tostring(root)))

    def test_a_request_that_is_not_valid_is_reported_at_the_end(self):
        with self.assertRaisesRegex(AssertionError, 'RefreshDatastore'), \
                vsphere_schemas.witness():
            soap.encode('RefreshDatastore',
                        references.Ref('Datastore', 'x'), {})
            soap.encode('RefreshDatastore', None, {})  # without _this


if __name__ == '__main__':
    unittest.main()
