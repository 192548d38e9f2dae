# SPDX-License-Identifier: Apache-2.0
"""The data objects and methods of the vSphere API: their fields, in order.

A vCenter refuses a request whose elements are not in the order of its schema.
The order is in ``api_types.txt`` beside this module, which
``tools/api_types.py`` writes from pyVmomi's tables. It is not read from the
vCenter, which would cost 3 MB and 0.3 s at every login of every backend. It
need not be: every request names the version of the API that it is written in
(:data:`VERSION`), and a vCenter of a later one answers in that version.
"""

import functools
import importlib.resources
import sys
from typing import NamedTuple

# As SOAPAction has it; from vSphere 6.7 on all vCenters know it.
VERSION = '6.7'
ANY = 'anyType'
STRING = 'string'
REFERENCE = 'ManagedObjectReference'
_ARRAY = 'ArrayOf'
_SIMPLE_ITEMS = {'String': 'string', 'Int': 'int', 'Long': 'long',
                 'Short': 'short', 'Byte': 'byte', 'Boolean': 'boolean',
                 'Double': 'double', 'Float': 'float', 'AnyType': ANY,
                 'AnyURI': 'anyURI', 'DateTime': 'dateTime',
                 'Base64Binary': 'base64Binary'}


class Field(NamedTuple):
    """A field of a data object, or a parameter of a method."""

    name: str
    type: str
    # Whether it may occur more than once.
    many: bool


class Types:
    """What a table in the form of ``api_types.txt`` says."""

    def __init__(self, text: str) -> None:
        self._objects: dict[str, str] = {}
        self._methods: dict[str, str] = {}
        self._fields: dict[str, dict[str, Field]] = {}
        for line in text.splitlines():
            if line.startswith('#'):
                continue
            head, _, rest = line.partition(' ')
            name, of_object, base = head.partition('<')
            if of_object:
                self._objects[name] = f'{base} {rest}'
            else:
                name, _, result = head.partition('(')
                self._methods[name] = f'{result} {rest}'

    def fields(self, kind: str) -> dict[str, Field] | None:
        """Fields of a data object by name, in the order of the API.

        :returns: None for what is no data object, such as an enumeration
        """
        found = self._fields.get(kind)
        if found is None:
            found = self._read(kind)
            if found is not None:
                self._fields[kind] = found
        return found

    def _read(self, kind: str) -> dict[str, Field] | None:
        if kind.startswith(_ARRAY):
            item = kind.removeprefix(_ARRAY)
            item = _SIMPLE_ITEMS.get(item, item)
            return {item: Field(item, item, True)}
        text = self._objects.get(kind)
        if text is None:
            return None
        base, _, rest = text.partition(' ')
        return {**((base and self.fields(base)) or {}), **_fields(rest)}

    def is_kind_of(self, kind: str, base: str) -> bool:
        """Whether a data object is of a type, or of one derived from it."""
        while kind and kind != base:
            kind = self._objects.get(kind, '').partition(' ')[0]
        return bool(kind)

    def parameters(self, method: str) -> dict[str, Field]:
        """Parameters of a method by name, ``_this`` first.

        :raises AttributeError: there is no such method
        """
        return {'_this': Field('_this', REFERENCE, False),
                **_fields(self._method(method).partition(' ')[2])}

    def result(self, method: str) -> Field | None:
        """What a method returns, if anything.

        :raises AttributeError: there is no such method
        """
        kind = self._method(method).partition(' ')[0]
        return _field(f'returnval={kind}') if kind else None

    def _method(self, name: str) -> str:
        try:
            return self._methods[name]
        except KeyError:
            raise AttributeError(
                f'The vSphere API has no method {name}.') from None


def _fields(text: str) -> dict[str, Field]:
    return {field.name: field for field in map(_field, text.split())}


def _field(text: str) -> Field:
    many = text.endswith('*')
    name, _, kind = text.removesuffix('*').partition('=')
    return Field(sys.intern(name), sys.intern(kind or STRING), many)


@functools.cache
def known() -> Types:
    """Those of the services vim and pbm; read once, in a few milliseconds."""
    return Types(importlib.resources.files(__package__).joinpath(
        'api_types.txt').read_text('utf-8'))
