# SPDX-License-Identifier: Apache-2.0
"""Replies as objects with the interface of suds, which oslo.vmware uses.

oslo.vmware's functions and upstream's operations make data objects, call
methods and read replies through an interface of suds. This module implements
the part of it that they use. A reply costs a tenth of suds' processor time.
Nothing is kept between calls, so threads may share a client, unlike suds'.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from lxml import etree
from oslo_log import log as logging
from oslo_utils import uuidutils
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import api_types
from cinder_vmdk_ext.vsphere import property_collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import transport

LOG = logging.getLogger(__name__)


class Value:
    """A data object; its class has the name of its type.

    An absent field is not an attribute. As with suds, an empty object is
    false, and iteration yields pairs of name and value.
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
    """A data object to fill: all its fields can be read, lists extended."""

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
    """The class of received data objects of a type."""
    found = _classes.get(kind)
    if found is None:
        found = _classes[kind] = type(kind, (Value,), {})
    return found


class _Reference(_Made):
    """A reference to fill; a reference of the API has both fields."""

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
            found = api_types.known().objects[kind]
            if found is None:
                raise AttributeError(f'The vSphere API has no type {kind}.')
            made = self._classes[kind] = type(kind, (_Made,),
                                              {'_fields': found.fields})
        return made()


class Cookie(NamedTuple):
    """A cookie of the vCenter's, as oslo.vmware reads it."""

    name: str
    value: str


class SudsClient:
    """The part of a suds client that oslo.vmware's functions use."""

    def __init__(self, https: transport.Transport) -> None:
        self._https = https
        self.factory = Factory()

    @property
    def cookiejar(self) -> list[Cookie]:
        """Holds the session's cookie."""
        cookie = self._https.cookie
        return [Cookie(transport.SESSION_COOKIE, cookie)] if cookie else []


class Methods:
    """An object whose attributes are API methods (suds: ``client.service``).

    The methods raise the same errors as oslo.vmware's services.
    """

    #: The ids of operations in the vCenter's logs begin with this.
    op_id_prefix = ''

    def __init__(self, client: soap.Client) -> None:
        """:param client: makes the calls"""
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(this: Any, skip_op_id: bool = False,
                 **arguments: Any) -> Any:
            """:param skip_op_id: oslo.vmware sets it for frequent calls"""
            if isinstance(this, str):
                # oslo.vmware names singletons this way.
                this = references.Ref(this, this)
            headers = self._headers()
            if not skip_op_id:
                op_id = f'{self.op_id_prefix}-{uuidutils.generate_uuid()}'
                LOG.debug('%(method)s is called as %(op_id)s.',
                          {'method': name, 'op_id': op_id})
                headers.append(('operationID', op_id))
            return self._call(name, this, arguments, headers)
        return call

    def _headers(self) -> list[tuple[str, str]]:
        """SOAP headers of every call, name and text."""
        return []

    def _call(self, method: str, this: Any, arguments: dict[str, Any],
              headers: Iterable[tuple[str, str]] = ()) -> Any:
        try:
            field = api_types.known().methods[method].result
            found = self._client.call(method, this, arguments,
                                      headers=headers)
        except AttributeError as error:
            raise exceptions.VimAttributeException(str(error), error)
        except TypeError as error:
            raise exceptions.VimException(str(error), error)
        if method in _READS:
            property_collector.check(method, arguments, found)
        if field is None:
            return None
        try:
            values = [decode(each, field.type) for each in found]
        except soap.MALFORMED as error:
            raise soap.malformed(method, error) from error
        if field.many:
            return values
        result = values[0] if values else None
        if method == property_collector.RETRIEVE:
            # Several callers of oslo.vmware's functions read only one page.
            return property_collector.whole(self._call, this, result)
        return result


_READS = (property_collector.RETRIEVE, property_collector.CONTINUE)


def decode(node: etree._Element, declared: str) -> Any:
    """The value of an element, by its ``xsi:type`` or as declared."""
    kind = (node.get(soap.TYPE) or '').rpartition(':')[2] or declared
    if node.get(soap.NIL) in ('true', '1'):
        return None
    if kind == api_types.REFERENCE:
        return references.Ref(node.get('type', ''), node.text or '')
    scalar = soap.SCALARS.get(kind)
    if scalar is not None:
        return scalar(node.text or '')
    found = api_types.known().objects[kind]
    if found is None and not len(node):
        return node.text or ''  # an enumeration
    return _decode_object(node, kind, found.fields if found else {})


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
