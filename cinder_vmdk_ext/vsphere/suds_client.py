# SPDX-License-Identifier: Apache-2.0
"""A SOAP client for the vSphere API in the place of oslo.vmware's suds.

oslo.vmware's functions and upstream's operations make data objects, call
methods and read replies through an interface of suds. This is that interface,
as far as they use it, on lxml: a reply costs a tenth of the processor time,
and the API's description a twentieth. It keeps nothing between calls, so
threads may share it.
"""

import datetime
import types
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from lxml import etree
from oslo_vmware import exceptions
from oslo_vmware import vim_util
import requests
from suds import transport as suds_transport

from cinder_vmdk_ext.vsphere import property_collector
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import wsdl

_XSI_TYPE = f'{{{soap.XSI}}}type'
_XSI_NIL = f'{{{soap.XSI}}}nil'
_REFERENCE = 'ManagedObjectReference'
_HEADERS = {'Content-Type': 'text/xml; charset=utf-8',
            'SOAPAction': '"urn:vim25/6.7"'}


class Value:
    """A data object: its type's name is that of its class.

    What is absent is no attribute. As with suds it is false if it is empty,
    and iterates over pairs of name and value.
    """

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(list(vars(self).items()))

    def __len__(self) -> int:
        return len(vars(self))

    def __contains__(self, name: str) -> bool:
        return name in vars(self)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __repr__(self) -> str:
        inside = ', '.join(f'{name}={value!r}' for name, value in self)
        return f'{type(self).__name__}({inside})'


class _Made(Value):
    """A data object to be filled: any field can be read, a list added to."""

    _fields: dict[str, wsdl.Field] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            field = type(self)._fields[name]
        except KeyError:
            raise AttributeError(
                f'{type(self).__name__} has no field {name}') from None
        if not field.many:
            return None
        setattr(self, name, [])
        return vars(self)[name]


_classes: dict[str, type[Value]] = {}


def _class(kind: str) -> type[Value]:
    """The class of the data objects of a type that are received."""
    found = _classes.get(kind)
    if found is None:
        found = _classes[kind] = type(kind, (Value,), {})
    return found


class Factory:
    """Makes data objects (suds: ``client.factory``)."""

    def __init__(self, known: wsdl.Schema) -> None:
        self._schema = known
        self._classes: dict[str, type[_Made]] = {}

    def create(self, name: str) -> Any:
        """An empty data object of a type, as in ``ns0:VirtualDisk``.

        :raises AttributeError: the vCenter has no such type
        """
        kind = name.rpartition(':')[2]
        made = self._classes.get(kind)
        if made is None:
            fields = self._schema.fields(kind)
            if kind == _REFERENCE:
                return vim_util.get_moref(None, None)
            if fields is None:
                raise AttributeError(f'The vCenter has no type {kind}.')
            made = type(kind, (_Made,), {'_fields': fields})
            self._classes[kind] = made
        return made()


class _Methods:
    """Its attributes are the API's methods (suds: ``client.service``)."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def invoke(this: Any, **arguments: Any) -> Any:
            return self._call(method, this, arguments)
        return invoke


class SudsClient:
    """Calls with data objects (suds: ``Client``)."""

    def __init__(self, wsdl_url: str, location: str, transport: Any,
                 headers: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Read the vCenter's description of its API.

        :param transport: exchanges messages, as suds' do
        :param headers: gives the SOAP headers of a call, name and text
        :raises RequestException: the description cannot be had
        """
        self.options = types.SimpleNamespace(transport=transport)
        self._location = location
        self._headers = headers
        try:
            self._schema = wsdl.load(wsdl_url, self._fetch)
        except etree.XMLSyntaxError as error:
            raise requests.exceptions.InvalidSchema(
                f'{wsdl_url} is no description of an API ({error})') from error
        self._coder = Coder(self._schema)
        self.factory = Factory(self._schema)
        self.service = _Methods(self._call)

    def _fetch(self, url: str) -> bytes:
        return self.options.transport.open(suds_transport.Request(url)).read()

    @property
    def cookiejar(self) -> Any:
        """Where the session's cookie is."""
        return self.options.transport.cookiejar

    def _call(self, method: str, this: Any, arguments: dict[str, Any]) -> Any:
        parameters = self._schema.parameters(method)
        request = suds_transport.Request(
            self._location, self._message(method, parameters,
                                          {'_this': this} | arguments))
        request.headers = dict(_HEADERS)
        reply = self.options.transport.send(request)
        found = _returned(method, self._location, reply)
        property_collector.check(method, arguments, found)
        field = self._schema.result(method)
        if field is None:
            return None
        values = [self._coder.decode(each, field.type) for each in found]
        if field.many:
            return values
        result = values[0] if values else None
        if method == property_collector.RETRIEVE:
            # Several callers of oslo.vmware's functions take the first page.
            return property_collector.whole(self.service, this, result)
        return result

    def _message(self, method: str, parameters: dict[str, wsdl.Field],
                 arguments: dict[str, Any]) -> bytes:
        envelope, header, request = soap.message(method)
        for name, text in self._headers():
            etree.SubElement(header, soap.tag(name)).text = text
        self._coder.encode_fields(request, method, parameters, arguments)
        return etree.tostring(envelope, xml_declaration=True,
                              encoding='UTF-8')


def _returned(method: str, location: str, reply: Any) -> etree._Element:
    try:
        return soap.returned(method, location, reply.message)
    except exceptions.VimConnectionException as error:
        # For oslo.vmware's handling of what its library raises.
        raise requests.exceptions.ContentDecodingError(str(error)) from error


class Coder:
    """Turns data objects into XML and back."""

    def __init__(self, known: wsdl.Schema) -> None:
        self._schema = known

    # -- Writing ------------------------------------------------------------

    def encode_fields(self, parent: etree._Element, kind: str,
                      fields: dict[str, wsdl.Field],
                      values: dict[str, Any]) -> None:
        """Write fields in the order of the API.

        :raises TypeError: there is no such field
        """
        unknown = [name for name in values
                   if name not in fields and not _private(name)]
        if unknown:
            raise TypeError(f'{kind} has no field {", ".join(unknown)}')
        for name, field in fields.items():
            value = values.get(name)
            if isinstance(value, (list, tuple)):
                for each in value:
                    self._encode(parent, field, each)
            elif value is not None:
                self._encode(parent, field, value)

    def _encode(self, parent: etree._Element, field: wsdl.Field,
                value: Any) -> None:
        node = etree.SubElement(parent, soap.tag(field.name))
        if isinstance(value, (str, bool, int, float, datetime.datetime)):
            node.text = _text(value)
            if field.type == wsdl.ANY:
                node.set(_XSI_TYPE, _xsd_type(value))
            return
        if hasattr(value, '_type') and hasattr(value, 'value'):
            node.set('type', value._type)
            node.text = value.value
            if field.type == wsdl.ANY:
                node.set(_XSI_TYPE, _REFERENCE)
            return
        kind = type(value).__name__
        fields = self._schema.fields(kind)
        if fields is None:
            raise TypeError(f'{field.name} is a {kind}, of which the vCenter '
                            'does not know')
        if kind != field.type:
            node.set(_XSI_TYPE, kind)
        self.encode_fields(node, kind, fields, vars(value))

    # -- Reading ------------------------------------------------------------

    def decode(self, node: etree._Element, declared: str) -> Any:
        """The value of an element, by its ``xsi:type`` or as declared."""
        kind = (node.get(_XSI_TYPE) or declared).rpartition(':')[2]
        if node.get(_XSI_NIL) in ('true', '1'):
            return None
        if kind == _REFERENCE:
            return vim_util.get_moref(node.text or '', node.get('type'))
        scalar = soap.SCALARS.get(kind)
        if scalar is not None:
            return scalar(node.text or '')
        fields = self._schema.fields(kind)
        if fields is None and not len(node):
            return node.text or ''  # an enumeration
        return self._decode_object(node, kind, fields or {})

    def _decode_object(self, node: etree._Element, kind: str,
                       fields: dict[str, wsdl.Field]) -> Value:
        made = _class(kind)()
        values = vars(made)
        for child in node:
            name = child.tag.rpartition('}')[2]
            field = fields.get(name)
            value = self.decode(child, field.type if field else wsdl.ANY)
            if field is not None and field.many:
                values.setdefault(name, []).append(value)
            else:
                values[name] = value
        return made


def _private(name: str) -> bool:
    return name.startswith('_') and name != '_this'


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return str(value)


def _xsd_type(value: Any) -> str:
    if isinstance(value, bool):
        return 'xsd:boolean'
    if isinstance(value, int):
        return 'xsd:int' if -1 << 31 <= value < 1 << 31 else 'xsd:long'
    if isinstance(value, float):
        return 'xsd:double'
    return ('xsd:dateTime' if isinstance(value, datetime.datetime)
            else 'xsd:string')
