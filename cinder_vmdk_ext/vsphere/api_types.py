# SPDX-License-Identifier: Apache-2.0
"""The data objects and methods of the vSphere API: their fields, in order.

A vCenter refuses a request whose elements are not in the order of its schema.
The order is in ``api_types.txt`` beside this module, which
``tools/api_types.py`` writes from pyVmomi's tables. Reading it from the
vCenter would cost 3 MB and 0.3 s at every login of every backend. That is not
necessary: every request names its version of the API (:data:`VERSION`), and a
newer vCenter answers in that version.
"""

import functools
import importlib.resources
import sys
from typing import NamedTuple

# As in the header SOAPAction; every vCenter since vSphere 6.7 knows it.
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
    # Whether the field may occur more than once.
    many: bool


class Method(NamedTuple):
    """A method of the API."""

    # Parameters by name, ``_this`` first.
    parameters: dict[str, Field]
    # The returned value, if the method returns one.
    result: Field | None


class DataObject(NamedTuple):
    """A type of data objects."""

    # Fields by name, in the order of the API.
    fields: dict[str, Field]
    # The type itself and its base types.
    kinds: frozenset[str]


class Types:
    """The content of a table in the form of ``api_types.txt``.

    A driver uses a small part of it. So only the names are read at once, in a
    few milliseconds, and each entry when it is looked up first.
    """

    def __init__(self, text: str) -> None:
        methods: dict[str, tuple[str, str]] = {}
        objects: dict[str, tuple[str, str]] = {}
        for line in text.splitlines():
            if line.startswith('#'):
                continue
            head, _, rest = line.partition(' ')
            name, of_object, base = head.partition('<')
            if of_object:
                objects[name] = base, rest
            else:
                name, _, kind = head.partition('(')
                methods[name] = kind, rest
        #: Methods by name; looking up another name raises AttributeError.
        self.methods: dict[str, Method] = _Methods(methods)
        #: Data objects by type; None for other types, such as enumerations.
        self.objects: dict[str, DataObject | None] = _Objects(objects)


class _Methods(dict[str, Method]):
    """Methods by name; threads may share it."""

    def __init__(self, lines: dict[str, tuple[str, str]]) -> None:
        """:param lines: by name: the result's type, and the parameters"""
        super().__init__()
        self._lines = lines

    def __missing__(self, name: str) -> Method:
        if name not in self._lines:
            raise AttributeError(f'The vSphere API has no method {name}.')
        kind, parameters = self._lines[name]
        made = self[name] = Method(
            {'_this': _THIS, **_fields(parameters)},
            _field(f'returnval={kind}') if kind else None)
        return made


class _Objects(dict[str, DataObject | None]):
    """Data objects by type, arrays included; threads may share it."""

    def __init__(self, lines: dict[str, tuple[str, str]]) -> None:
        """:param lines: by type: its base, and its own fields"""
        super().__init__()
        self._lines = lines

    def __missing__(self, kind: str) -> DataObject | None:
        if kind in self._lines:
            made = self[kind] = self._derived(kind)
            return made
        if not kind.startswith(_ARRAY):
            return None
        item = kind.removeprefix(_ARRAY)
        item = _SIMPLE_ITEMS.get(item, item)
        return DataObject({item: Field(item, item, True)}, frozenset({kind}))

    def _derived(self, kind: str) -> DataObject:
        base, rest = self._lines[kind]
        fields, kinds = _fields(rest), frozenset({kind})
        if base:
            above = self[base]
            assert above is not None
            fields, kinds = above.fields | fields, above.kinds | kinds
        return DataObject(fields, kinds)


_THIS = Field('_this', REFERENCE, False)


def _fields(text: str) -> dict[str, Field]:
    return {field.name: field for field in map(_field, text.split())}


def _field(text: str) -> Field:
    many = text.endswith('*')
    name, _, kind = text.removesuffix('*').partition('=')
    return Field(sys.intern(name), sys.intern(kind or STRING), many)


@functools.cache
def known() -> Types:
    """The types of vim and pbm; the table is read once."""
    return Types(importlib.resources.files(__package__).joinpath(
        'api_types.txt').read_text('utf-8'))
