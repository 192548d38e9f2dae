# SPDX-License-Identifier: Apache-2.0
"""Replies as objects, in the manner of suds, which oslo.vmware speaks.

oslo.vmware's functions and upstream's operations make data objects, call
methods and read replies through an interface of suds. This is that interface,
as far as they use it: a reply costs a tenth of the processor time. It keeps
nothing between calls, so threads may share it, which suds' own they may not.
"""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from lxml import etree

from cinder_vmdk_ext.vsphere import api_types
from cinder_vmdk_ext.vsphere import property_collector
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import transport

_XSI_NIL = f'{{{soap.XSI}}}nil'


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

    _fields: dict[str, api_types.Field] = {}

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


class _Reference(_Made):
    """A reference to be filled; one of the API's has both fields."""

    _type: str | None = None
    value: str | None = None


class Factory:
    """Makes data objects (suds: ``client.factory``)."""

    def __init__(self) -> None:
        self._classes: dict[str, type[_Made]] = {}

    def create(self, name: str) -> Any:
        """An empty data object of a type, as in ``ns0:VirtualDisk``.

        :raises AttributeError: the API has no such type
        """
        kind = name.rpartition(':')[2]
        if kind == api_types.REFERENCE:
            return _Reference()
        made = self._classes.get(kind)
        if made is None:
            fields = api_types.known().fields(kind)
            if fields is None:
                raise AttributeError(f'The vSphere API has no type {kind}.')
            made = self._classes[kind] = type(kind, (_Made,),
                                              {'_fields': fields})
        return made()


class _Methods:
    """Its attributes are the API's methods (suds: ``client.service``)."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def invoke(this: Any, **arguments: Any) -> Any:
            return self._call(method, this, arguments)
        return invoke


class Cookie(NamedTuple):
    """A cookie of the vCenter's, as oslo.vmware reads it."""

    name: str
    value: str


class SudsClient:
    """Calls with data objects (suds: ``Client``)."""

    def __init__(self, client: soap.Client, https: transport.Transport
                 ) -> None:
        """:param client: makes the calls
        :param https: by this transport
        """
        self._client = client
        self._https = https
        self.factory = Factory()
        self.service = _Methods(self._call)

    @property
    def cookiejar(self) -> list[Cookie]:
        """Holds the session's cookie."""
        cookie = self._https.cookie
        return [Cookie(transport.SESSION_COOKIE, cookie)] if cookie else []

    def _call(self, method: str, this: Any, arguments: dict[str, Any]) -> Any:
        field = api_types.known().result(method)
        found = self._client.call(method, this, arguments)
        property_collector.check(method, arguments, found)
        if field is None:
            return None
        with soap.understood(method):
            values = [decode(each, field.type) for each in found]
        if field.many:
            return values
        result = values[0] if values else None
        if method == property_collector.RETRIEVE:
            # Several callers of oslo.vmware's functions take the first page.
            return property_collector.whole(self.service, this, result)
        return result


def decode(node: etree._Element, declared: str) -> Any:
    """The value of an element, by its ``xsi:type`` or as declared."""
    kind = soap.type_of(node) or declared
    if node.get(_XSI_NIL) in ('true', '1'):
        return None
    if kind == api_types.REFERENCE:
        return soap.ref(node)
    scalar = soap.SCALARS.get(kind)
    if scalar is not None:
        return scalar(node.text or '')
    fields = api_types.known().fields(kind)
    if fields is None and not len(node):
        return node.text or ''  # an enumeration
    return _decode_object(node, kind, fields or {})


def _decode_object(node: etree._Element, kind: str,
                   fields: dict[str, api_types.Field]) -> Value:
    made = _class(kind)()
    values = vars(made)
    for child in node:
        name = child.tag.rpartition('}')[2]
        field = fields.get(name)
        value = decode(child, field.type if field else api_types.ANY)
        if field is not None and field.many:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return made
