# SPDX-License-Identifier: Apache-2.0
"""The types and methods of the vSphere API, as a vCenter describes them.

A vCenter serves its description (WSDL and XML Schema). Of it only what a
message needs is kept: which fields a type has, in which order, of which type.
"""

import hashlib
import sys
from collections.abc import Callable
from collections.abc import Iterator
from typing import NamedTuple
from urllib import parse

from lxml import etree

_XSD = '{http://www.w3.org/2001/XMLSchema}'
_WSDL = '{http://schemas.xmlsoap.org/wsdl/}'
_IMPORTS = {f'{_WSDL}import': 'location', f'{_XSD}import': 'schemaLocation',
            f'{_XSD}include': 'schemaLocation'}
ANY = 'anyType'


class Field(NamedTuple):
    """A field of a data object, or a parameter of a method."""

    name: str
    type: str
    # Whether it may occur more than once.
    many: bool


class Schema:
    """What is known of the API's types and methods."""

    def __init__(self) -> None:
        self._own: dict[str, tuple[Field, ...]] = {}
        self._bases: dict[str, str] = {}
        # Element -> the complex type that describes its content.
        self._elements: dict[str, str] = {}
        self._fields: dict[str, dict[str, Field]] = {}

    def fields(self, kind: str) -> dict[str, Field] | None:
        """Fields of a data object by name, in the order of the API.

        :returns: None for what is no data object
        """
        found = self._fields.get(kind)
        if found is None and kind in self._own:
            base = self._bases.get(kind)
            found = dict((base and self.fields(base)) or {})
            found.update((field.name, field) for field in self._own[kind])
            self._fields[kind] = found
        return found

    def parameters(self, method: str) -> dict[str, Field]:
        """Parameters of a method by name, ``_this`` first.

        :raises AttributeError: there is no such method
        """
        try:
            return self.fields(self._elements[method]) or {}
        except KeyError:
            raise AttributeError(
                f'The vCenter has no method {method}.') from None

    def result(self, method: str) -> Field | None:
        """What a method returns, if anything."""
        kind = self._elements.get(f'{method}Response', '')
        return (self.fields(kind) or {}).get('returnval')

    def add(self, document: etree._Element) -> None:
        """Take what a document describes."""
        for node in document.iter(f'{_XSD}complexType', f'{_XSD}element'):
            name = sys.intern(node.get('name') or '')
            if node.tag == f'{_XSD}complexType':
                if name:
                    self._add_type(name, node)
            elif node.getparent().tag == f'{_XSD}schema':
                inner = node.find(f'{_XSD}complexType')
                self._elements[name] = _local(node.get('type') or name)
                if inner is not None:
                    self._elements[name] = f'{name}#'
                    self._add_type(f'{name}#', inner)

    def _add_type(self, name: str, node: etree._Element) -> None:
        extension = node.find(f'{_XSD}complexContent/{_XSD}extension')
        if extension is not None:
            self._bases[name] = _local(extension.get('base') or '')
            node = extension
        sequence = node.find(f'{_XSD}sequence')
        if sequence is None and extension is None and len(node):
            return  # text with attributes: a reference
        self._own[name] = tuple(
            Field(sys.intern(each.get('name') or _local(each.get('ref', ''))),
                  sys.intern(_local(each.get('type') or ANY)),
                  each.get('maxOccurs', '1') != '1')
            for each in (sequence if sequence is not None else ())
            if each.tag == f'{_XSD}element')


def _local(name: str) -> str:
    return name.rpartition(':')[2]


# By the digest of what was read: sessions in turn have the same.
_KNOWN: dict[str, Schema] = {}


def load(url: str, fetch: Callable[[str], bytes]) -> Schema:
    """The description at a URL and in the documents that it imports.

    :param fetch: gives the document at a URL
    :raises XMLSyntaxError: one is no XML
    """
    documents = list(_documents(url, fetch))
    digest = hashlib.sha256(b'\0'.join(documents)).hexdigest()
    if digest not in _KNOWN:
        made = Schema()
        for document in documents:
            made.add(_parse(document))
        _KNOWN.clear()
        _KNOWN[digest] = made
    return _KNOWN[digest]


def _documents(url: str, fetch: Callable[[str], bytes]) -> Iterator[bytes]:
    seen = {url}
    left = [url]
    while left:
        here = left.pop()
        document = fetch(here)
        yield document
        for target in _imports(document):
            there = parse.urljoin(here, target)
            if there not in seen:
                seen.add(there)
                left.append(there)


def _imports(document: bytes) -> Iterator[str]:
    for node in _parse(document).iter(*_IMPORTS):
        target = node.get(_IMPORTS[node.tag])
        if target:
            yield target


def _parse(document: bytes) -> etree._Element:
    return etree.fromstring(document, etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=True))
