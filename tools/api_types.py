#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the order of fields of the vSphere API, from pyVmomi's tables.

A vCenter refuses a request whose elements are not in the order of its schema.
The driver does not read the vCenter's own description (3 MB at every login),
but this table. Write the table again when pyVmomi supports a newer API. New
fields of the API are always added after the existing ones, and the driver's
requests name their version of the API, so older and newer vCenters understand
them.

Usage: tools/api_types.py [OUT]

Each line is a data object or a method of the services vim and pbm::

    NAME<BASE FIELD=TYPE FIELD=TYPE* ...     a data object, and its base
    NAME(RESULT* PARAMETER=TYPE ...          a method, and what it returns

An asterisk means "any number of". A field without a type is a string.
Enumerations are strings, and so are references in the API's own "links".
"""

import pathlib
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from pyVmomi import VmomiSupport

OUT = (pathlib.Path(__file__).parent.parent / 'cinder_vmdk_ext' / 'vsphere'
       / 'api_types.txt')
NAMESPACES = ('urn:vim25', 'urn:pbm')
# pyVmomi's name of a simple type -> XML Schema's.
SIMPLE = {
    'bool': 'boolean', 'boolean': 'boolean', 'byte': 'byte', 'short': 'short',
    'int': 'int', 'long': 'long', 'float': 'float', 'double': 'double',
    'anyType': 'anyType', 'vmodl.Any': 'anyType',
    'vmodl.Binary': 'base64Binary', 'vmodl.DateTime': 'dateTime',
    'vmodl.DataObject': 'DynamicData', 'vmodl.DynamicData': 'DynamicData',
    'vmodl.ManagedObject': 'ManagedObjectReference',
    'void': '', 'string': 'string', 'vmodl.URI': 'string',
    'vmodl.TypeName': 'string', 'vmodl.MethodName': 'string',
    'vmodl.PropertyPath': 'string'}
FAULT = 'vmodl.MethodFault'
LOCALIZED_FAULT = 'LocalizedMethodFault'
BASE_OF_ALL = 'DynamicData'
# Fields in pyVmomi's tables that a message does not contain.
NOT_SENT = {BASE_OF_ALL: ('dynamicType', 'dynamicProperty'),
            'DynamicArray': ('dynamicType',),
            'MethodFault': ('msg',)}

Entry = tuple[Any, ...]


def served(version: str) -> bool:
    """Whether a version belongs to a service that the driver calls."""
    try:
        return VmomiSupport.GetInternedWsdlNamespace(version) in NAMESPACES
    except KeyError:
        return False


def found(table: dict[str, Entry], name: str) -> Entry | None:
    """An entry by its name; some are spelt with capitals (Vim.Foo)."""
    return table.get(name) or table.get('.'.join(
        part[:1].lower() + part[1:] for part in name.split('.')))


def is_fault(name: str | None) -> bool:
    """Whether a data type is a fault."""
    while name and name != FAULT:
        entry = found(VmomiSupport._dataDefMap, name)
        name = entry[2] if entry else None
    return name == FAULT


def type_name(name: str, flags: int, faults: bool = False) -> str:
    """The WSDL's name of a type, with an asterisk for an array of it.

    :param faults: whether a fault is declared as such; elsewhere it is
        wrapped in a LocalizedMethodFault
    """
    many = '*' if name.endswith('[]') else ''
    name = name.removesuffix('[]')
    if flags & VmomiSupport.F_LINK:
        return f'string{many}'
    if name in SIMPLE:
        return SIMPLE[name] + many
    if is_fault(name) and not faults:
        return LOCALIZED_FAULT + many
    entry = found(VmomiSupport._dataDefMap, name)
    if entry:
        return entry[1] + many
    if found(VmomiSupport._enumDefMap, name):
        return f'string{many}'
    if found(VmomiSupport._managedDefMap, name):
        return f'ManagedObjectReference{many}'
    return f'anyType{many}'


def fields(entries: Any, faults: bool = False) -> Iterator[str]:
    """Fields or parameters in the table's form."""
    for name, kind, _version, flags, *_privileges in entries or ():
        yield f' {name}={type_name(kind, flags, faults)}'.replace(
            '=string', '')


def lines() -> Iterator[str]:
    """The table's lines; the first names pyVmomi's version."""
    yield f'# pyVmomi {metadata.version("pyvmomi")}'
    for entry in sorted(VmomiSupport._dataDefMap.values(),
                        key=lambda entry: entry[1]):
        _vmodl, name, parent, version, properties = entry[:5]
        if served(version):
            base = found(VmomiSupport._dataDefMap, parent or '')
            base_name = base[1] if base else ''
            if name == LOCALIZED_FAULT:
                base_name = BASE_OF_ALL
            sent = [each for each in properties or ()
                    if each[0] not in NOT_SENT.get(name, ())]
            yield f'{name}<{base_name}' + ''.join(
                fields(sent, faults=name == LOCALIZED_FAULT))
    methods: dict[str, Entry] = {}
    for entry in VmomiSupport._managedDefMap.values():
        for method in entry[5] or ():
            if served(method[2]):
                methods.setdefault(method[1], method)
    for name, method in sorted(methods.items()):
        flags, kind = method[4][:2]
        yield (f'{name}({type_name(kind or "void", flags)}'
               + ''.join(fields(method[3])))


def main() -> None:
    """Write the table."""
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    out.write_text('\n'.join(lines()) + '\n')


if __name__ == '__main__':
    main()
