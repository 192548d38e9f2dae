#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the WSDL of the vSphere Web Services API, from pyVmomi's type tables.

A vCenter serves its WSDL at /sdk/vimService.wsdl, and oslo.vmware loads it from there. pyVmomi carries the same knowledge as
Python tables: every data type, enumeration and method of the API, with names, types and optionality. This writes them down as
one self-contained document (no imports), so that a SOAP client needs no other file and no network.

Usage: generate.py OUT.wsdl[.gz]
"""
import gzip
import sys
from xml.sax.saxutils import quoteattr

from pyVmomi import VmomiSupport

VIM_NAMESPACE = 'urn:vim25'

# pyVmomi's name of a simple type -> XML Schema's.
SIMPLE_TYPES = {
    'string': 'xsd:string', 'bool': 'xsd:boolean', 'boolean': 'xsd:boolean', 'byte': 'xsd:byte', 'short': 'xsd:short',
    'int': 'xsd:int', 'long': 'xsd:long', 'float': 'xsd:float', 'double': 'xsd:double', 'anyType': 'xsd:anyType',
    'vmodl.Any': 'xsd:anyType', 'vmodl.URI': 'xsd:anyURI', 'vmodl.Binary': 'xsd:base64Binary',
    'vmodl.DateTime': 'xsd:dateTime', 'vmodl.TypeName': 'xsd:string', 'vmodl.MethodName': 'xsd:string',
    'vmodl.PropertyPath': 'xsd:string', 'Link': 'xsd:string',
    'vmodl.DataObject': 'vim25:DynamicData', 'vmodl.DynamicData': 'vim25:DynamicData',
    'vmodl.ManagedObject': 'vim25:ManagedObjectReference',
}

# Simple types of which the API returns arrays as properties: ArrayOf<Name>, its element, its type.
SIMPLE_ARRAYS = [
    ('String', 'string'), ('Int', 'int'), ('Long', 'long'), ('Short', 'short'), ('Byte', 'byte'), ('Boolean', 'boolean'),
    ('Double', 'double'), ('Float', 'float'), ('AnyType', 'anyType'), ('AnyURI', 'anyURI'), ('DateTime', 'dateTime'),
]


# Types of the core, of which the tables say otherwise what they are derived from.
BASES = {'LocalizedMethodFault': 'DynamicData', 'MethodFault': None, 'DynamicProperty': None, 'DynamicArray': None}


# Elements that pyVmomi keeps for itself: they are in no schema, and never sent.
NOT_SENT = {('MethodFault', 'msg'), ('DynamicArray', 'dynamicType')}


def lower_camel(name):
    """The tables spell some references with capitals (Vim.Foo) and some without (vim.foo)."""
    return '.'.join(part[:1].lower() + part[1:] for part in name.split('.'))


def belongs_to_vim(version):
    try:
        return VmomiSupport.GetInternedWsdlNamespace(version) == VIM_NAMESPACE
    except Exception:  # pyVmomi raises KeyError or its own, for versions of other services
        return False


def is_younger(version, than):
    """What is younger than its type is optional, whatever the tables say: older clients do not send it. The schemas count 2.0
    and 2.5 (version1 and version2) as one.
    """
    return version != than and (than, version) != ('vim.version.version1', 'vim.version.version2')


class Tables:
    """pyVmomi's tables, reduced to the vSphere API.

    A data type is (vmodl name, wsdl name, parent, version, properties); a property (name, type, version, flags). A method is
    (mVmodl, wsdl name, version, parameters, (flags, return type, ...), ...).
    """

    def __init__(self):
        self.data = {name: entry for name, entry in VmomiSupport._dataDefMap.items() if belongs_to_vim(entry[3])}
        self.enums = {name: entry for name, entry in VmomiSupport._enumDefMap.items() if belongs_to_vim(entry[2])}
        self.managed = dict(VmomiSupport._managedDefMap)

    @staticmethod
    def find(table, name):
        return table.get(name) or table.get(lower_camel(name))

    def is_fault(self, name):
        while name:
            if name == 'vmodl.MethodFault':
                return True
            entry = self.find(self.data, name)
            name = entry[2] if entry else None
        return False

    def methods(self):
        """{wsdl name: method}, each once, though several managed types inherit it."""
        found = {}
        for entry in self.managed.values():
            for method in entry[5] or []:
                if belongs_to_vim(method[2]):
                    found.setdefault(method[1], method)
        return dict(sorted(found.items()))

    def schema_type(self, name, faults_as_values=False):
        """(XML Schema type, whether it is an array) for a pyVmomi type name.

        A property that holds a fault is declared as LocalizedMethodFault, in which the fault itself is a value.
        """
        is_array = name.endswith('[]')
        name = name.removesuffix('[]')
        if name in SIMPLE_TYPES:
            return SIMPLE_TYPES[name], is_array
        if self.is_fault(name) and not faults_as_values:
            return 'vim25:LocalizedMethodFault', is_array
        entry = self.find(self.data, name) or self.find(self.enums, name)
        if entry:
            return 'vim25:' + entry[1], is_array
        if self.find(self.managed, name):
            return 'vim25:ManagedObjectReference', is_array
        return 'xsd:anyType', is_array


def element(name, schema_type, is_array=False, optional=False):
    occurs = ' minOccurs="0"' if optional else ''
    if is_array:
        occurs += ' maxOccurs="unbounded"'
    return f'<element name={quoteattr(name)} type="{schema_type}"{occurs}/>'


def complex_type(name, content, base=None):
    body = f'<sequence>{content}</sequence>'
    if base:
        body = f'<complexContent><extension base="vim25:{base}">{body}</extension></complexContent>'
    return f'<complexType name="{name}">{body}</complexType>'


class Document:
    """The WSDL, line by line."""

    def __init__(self, tables):
        self.tables = tables
        self.lines = []
        self.type_names = set()

    def add_type(self, name, text):
        if name not in self.type_names:
            self.type_names.add(name)
            self.lines.append(text)

    def add_types(self):
        self.add_type('ManagedObjectReference', (
            '<complexType name="ManagedObjectReference"><simpleContent><extension base="xsd:string">'
            '<attribute name="type" type="xsd:string"/><attribute name="serverGuid" type="xsd:string"/>'
            '</extension></simpleContent></complexType>'))
        self.add_type('DynamicData', complex_type('DynamicData', ''))
        for entry in sorted(self.tables.data.values(), key=lambda entry: entry[1]):
            self.add_data_type(entry)
        for entry in sorted(self.tables.enums.values(), key=lambda entry: entry[1]):
            values = ''.join(f'<enumeration value={quoteattr(value)}/>' for value in entry[3])
            self.add_type(entry[1], (
                f'<simpleType name="{entry[1]}"><restriction base="xsd:string">{values}</restriction></simpleType>'))
        for name in sorted(self.type_names):
            self.add_array(name, name, 'vim25:' + name)
        for suffix, simple in SIMPLE_ARRAYS:
            self.add_array(suffix, simple, 'xsd:' + simple)

    def add_data_type(self, entry):
        name, parent, properties = entry[1], entry[2], entry[4] or []
        content = ''
        for prop in properties:
            if (name, prop[0]) in NOT_SENT:
                continue
            schema_type, is_array = self.tables.schema_type(prop[1], faults_as_values=name == 'LocalizedMethodFault')
            if prop[3] & VmomiSupport.F_LINK:
                schema_type = 'xsd:string'
            optional = prop[3] & VmomiSupport.F_OPTIONAL or is_younger(prop[2], entry[3])
            content += element(prop[0], schema_type, is_array, optional)
        found = self.tables.find(self.tables.data, parent) if parent else None
        base = found[1] if found else 'DynamicData'
        self.add_type(name, complex_type(name, content, BASES.get(name, base)))

    def add_array(self, suffix, item, item_type):
        if suffix.startswith('ArrayOf'):
            return
        name = 'ArrayOf' + suffix[:1].upper() + suffix[1:]
        self.add_type(name, complex_type(name, element(item, item_type, is_array=True, optional=True)))

    def add_messages(self, methods):
        """What goes over the wire: an element for each request and each response."""
        for name, method in methods.items():
            parameters = ''.join(
                element(p[0], *self.tables.schema_type(p[1]), optional=p[3] & VmomiSupport.F_OPTIONAL)
                for p in method[3] or [])
            request = name.removesuffix('_Task') + 'RequestType'
            self.lines.append(complex_type(request, element('_this', 'vim25:ManagedObjectReference') + parameters))
            self.lines.append(f'<element name="{name}" type="vim25:{request}"/>')
            result = method[4]
            returns = ''
            if result and result[1] not in ('void', None):
                returns = element('returnval', *self.tables.schema_type(result[1]),
                                  optional=result[0] & VmomiSupport.F_OPTIONAL)
            self.lines.append(
                f'<element name="{name}Response"><complexType><sequence>{returns}</sequence></complexType></element>')

    def add_service(self, methods):
        for name in methods:
            self.lines.append(f'<message name="{name}RequestMsg"><part name="parameters" element="vim25:{name}"/></message>')
            self.lines.append(
                f'<message name="{name}ResponseMsg"><part name="parameters" element="vim25:{name}Response"/></message>')
        self.lines.append('<portType name="VimPortType">')
        for name in methods:
            self.lines.append(f'<operation name="{name}"><input message="tns:{name}RequestMsg"/>'
                              f'<output message="tns:{name}ResponseMsg"/></operation>')
        self.lines.append('</portType><binding name="VimBinding" type="tns:VimPortType">'
                          '<soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>')
        for name in methods:
            self.lines.append(f'<operation name="{name}"><soap:operation soapAction="urn:vim25/6.0" style="document"/>'
                              '<input><soap:body use="literal"/></input><output><soap:body use="literal"/></output>'
                              '</operation>')
        # The server puts the host by which the client came in place of "localhost".
        self.lines.append('</binding><service name="VimService"><port binding="tns:VimBinding" name="VimPort">'
                          '<soap:address location="https://localhost/sdk/vimService"/></port></service>')

    def text(self):
        methods = self.tables.methods()
        self.lines.append(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<definitions targetNamespace="urn:vim25Service" name="VimService" xmlns="http://schemas.xmlsoap.org/wsdl/" '
            'xmlns:tns="urn:vim25Service" xmlns:vim25="urn:vim25" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/">\n'
            '<types><schema targetNamespace="urn:vim25" elementFormDefault="qualified" '
            'xmlns="http://www.w3.org/2001/XMLSchema" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:vim25="urn:vim25">')
        self.add_types()
        self.add_messages(methods)
        self.lines.append('</schema></types>')
        self.add_service(methods)
        self.lines.append('</definitions>')
        return '\n'.join(self.lines) + '\n'


def main(arguments):
    if len(arguments) != 1:
        print(__doc__.strip().splitlines()[-1], file=sys.stderr)
        return 2
    tables = Tables()
    if not tables.data or not tables.methods():
        print('generate.py: this pyVmomi has no type tables that I know (VmomiSupport._dataDefMap); '
              'install pyvmomi >= 8.0.1', file=sys.stderr)
        return 1
    document = Document(tables).text().encode()
    if arguments[0].endswith('.gz'):
        document = gzip.compress(document, 9, mtime=0)
    with open(arguments[0], 'wb') as out:
        out.write(document)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
