# SPDX-License-Identifier: Apache-2.0
"""SOAP as a vCenter speaks it: messages, calls, and values in replies.

One encoder writes every request, its elements in the order of the API
(:mod:`cinder_vmdk_ext.vsphere.api_types`). Replies are read in two ways: as
elements, from which the caller takes what it needs (:class:`Client`), and as
objects, for oslo.vmware and upstream's driver
(:mod:`cinder_vmdk_ext.vsphere.suds_client`). The session logs in and handles
calls that fail, so run each call through
``session.invoke_api(client, 'call', ...)``.
"""

import base64
import copy
import datetime
import functools
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from lxml import etree
from oslo_utils import timeutils
from oslo_vmware import exceptions
import requests
import urllib3

from cinder_vmdk_ext.vsphere import api_types
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import transport

VIM = 'urn:vim25'
PBM = 'urn:pbm'
_ENVELOPE = 'http://schemas.xmlsoap.org/soap/envelope/'
XSI = 'http://www.w3.org/2001/XMLSchema-instance'
_XSD = 'http://www.w3.org/2001/XMLSchema'
_NAMESPACES = {'soapenv': _ENVELOPE, 'xsi': XSI, 'xsd': _XSD}
TYPE = f'{{{XSI}}}type'
NIL = f'{{{XSI}}}nil'
_FAULT = f'{{{_ENVELOPE}}}Fault'
_PARSING = {'encoding': 'UTF-8', 'resolve_entities': False,
            'no_network': True, 'huge_tree': True}
# What may come before the envelope. Each part can match in one way only:
# otherwise all would be searched for another end of the XML declaration.
_PROLOG = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*'
    rb'(?:(?:<\?(?:[^?]|\?(?!>))*\?>|<!--(?:[^-]|-(?!->))*-->)\s*)*')
_DOCUMENT_TYPE = b'<!DOCTYPE'
# A prolog that arrives in pieces is searched again after each of them.
_PROLOG_BYTES = 1 << 12


def tag(name: str) -> str:
    """The qualified name of an element of the vSphere API, for lxml."""
    return f'{{{VIM}}}{name}'


# Methods that answer with a reference: to a task, a view, a filter ...
_MAKES = re.compile('Create|.*_Task$')
# Faults that mean: no such session exists (the last three since 9.1).
# Among the details of a fault: the type of the object in its field "object".
OBJECT_TYPE = 'object.type'
_LOST_SESSION = (exceptions.SECURITY_ERROR, exceptions.NOT_AUTHENTICATED,
                 'AuthenticationRequired', 'SessionNotFound', 'InvalidToken')
_MISSING_SET = tag('missingSet')
_ENVELOPE_TAG = f'{{{_ENVELOPE}}}Envelope'
_FAULTS = frozenset({_FAULT, _MISSING_SET})
# Elements within the envelope that may have an element that is asked for:
# the body, the response, the returned value and a filter's updates.
_DEPTH = 4
_PROP_SET = tag('propSet')

READ_SECONDS = transport.READ_SECONDS
# The bytes to parse without a yield: a millisecond's work.
SLICE_BYTES = 1 << 16


class Typed(NamedTuple):
    """A data object to be sent: its vSphere type and its fields, by name.

    The type may be empty if the API declares exactly this type.
    """

    type: str
    fields: dict[str, Any]


class Fault(exceptions.VimFaultException):
    """A fault in the vCenter's own reply."""


class HTTPStatus(requests.HTTPError):
    """The HTTP status of a reply that does not come from a vCenter."""

    def __init__(self, status: int, url: str, body: bytes) -> None:
        """:param body: of the reply; a proxy may explain there what it did"""
        self.status = status
        self.body = body
        super().__init__(f'{url} answers HTTP {status}')


class EmptyReply(exceptions.VimFaultException):
    """A retrieval returned none of the objects that it was asked for.

    A vCenter may reply like this after the session has ended.
    """


def empty_reply(method: str, asked: Sequence[references.Ref]) -> EmptyReply:
    """:param asked: the objects that the reply had to contain"""
    what = f' of {asked[0].type} {asked[0].value}' if asked else ''
    return EmptyReply([exceptions.NOT_AUTHENTICATED],
                      f'{method}: the vCenter returned nothing{what}')


class Client:
    """Calls to one vCenter with the session of an oslo.vmware API session."""

    def __init__(self, https: transport.Transport, *, path: str = '/sdk',
                 cooperative_yield: Callable[[], None] = lambda: None
                 ) -> None:
        """Prepare, without a connection yet.

        :param path: of the service: ``/sdk``, or ``/pbm`` for policies
        :param cooperative_yield: called between the slices of a large reply
        """
        #: Sends the calls; it has the session's cookie.
        self.https = https
        self._url = https.url
        self._path = path
        self._cooperative_yield = cooperative_yield

    def call(self, method: str, this: references.Ref,
             arguments: Mapping[str, Any] | None = None,
             read_seconds: float | None = None,
             headers: Iterable[tuple[str, str]] = ()) -> etree._Element:
        """Invoke a method of the vSphere API.

        :param arguments: by parameter name; None and empty lists are left out
        :param read_seconds: how long to wait for the reply, or for its next
            part; None: the transport's own limit
        :param headers: SOAP headers, name and text
        :returns: the response element; its children are the return values
        :raises VimFaultException: the vCenter's fault, named in fault_list
        :raises VimConnectionException: no complete reply came; whether the
            call was executed is unknown
        :raises AttributeError, TypeError: the API has no such method or field
        """
        return _body(method, self._url,
                     self._post(method, this, arguments, read_seconds,
                                headers))

    def stream(self, method: str, this: references.Ref,
               arguments: Mapping[str, Any] | None, names: Sequence[str],
               read_seconds: float | None = None
               ) -> Iterator[etree._Element]:
        """Invoke a method with a large reply; yields elements as they arrive.

        The reply is never in memory as a whole, and other greenthreads run
        between its slices.

        :param names: names of the elements to yield. Each is yielded when it
            is complete, in the order in which they end, and is emptied when
            the caller asks for the next one
        :raises VimFaultException, VimConnectionException: as :meth:`call`;
            the latter also in the middle of the reply
        """
        reply = self._post(method, this, arguments, read_seconds,
                           whole=False)
        if reply.status != 200:
            _body(method, self._url, reply)
            raise _no_answer(method, self._url, reply.status, reply.data)
        arriving = _Arriving(reply.stream(SLICE_BYTES),
                             self._cooperative_yield)
        try:
            for element in arriving.named(frozenset(map(tag, names))):
                _refuse_fault(method, element)
                if element.tag != _MISSING_SET:
                    yield element
        except (urllib3.exceptions.HTTPError, OSError, ValueError,
                etree.XMLSyntaxError) as error:
            raise exceptions.VimConnectionException(
                f'{method}: the reply of {self._url} broke off ({error})',
                error)
        finally:
            # A connection with half an unread reply cannot be used again.
            if arriving.complete:
                reply.release_conn()
            else:
                reply.close()

    def _post(self, method: str, this: references.Ref,
              arguments: Mapping[str, Any] | None,
              read_seconds: float | None,
              headers: Iterable[tuple[str, str]] = (), whole: bool = True
              ) -> 'urllib3.BaseHTTPResponse':
        body = encode(method, this, arguments or {}, headers)
        try:
            return self.https.request(
                'POST', self._path, body=body, read_seconds=read_seconds,
                whole=whole, headers={
                    'Content-Type': 'text/xml; charset=utf-8',
                    'SOAPAction':
                        f'"{_namespace(method)}/{api_types.VERSION}"'})
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise exceptions.VimConnectionException(
                f'{method}: no reply from {self._url} ({error})', error)

    def close(self) -> None:
        """Close idle connections; the client can go on to be used."""
        self.https.close()


# -- Writing ----------------------------------------------------------------

def encode(method: str, this: Any, arguments: Mapping[str, Any],
           headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The SOAP message of a call, its elements in the order of the API.

    Arguments are strings, numbers, booleans, times, references, lists, data
    objects (:class:`Typed`, or an object whose class has the type's name and
    whose attributes are the fields), or elements that a vCenter sent.

    :param headers: names and texts
    :raises AttributeError: the API has no such method
    :raises TypeError: the API has no such field or type
    """
    namespace = _namespace(method)
    envelope = etree.Element(f'{{{_ENVELOPE}}}Envelope', nsmap=_NAMESPACES)
    header = etree.SubElement(envelope, f'{{{_ENVELOPE}}}Header')
    for name, text in headers:
        # Without a namespace, as oslo.vmware sends it.
        etree.SubElement(header, name).text = text
    body = etree.SubElement(envelope, f'{{{_ENVELOPE}}}Body')
    request = etree.SubElement(body, f'{{{namespace}}}{method}',
                               nsmap={None: namespace})
    _write_fields(request, namespace, method,
                  api_types.known().methods[method].parameters,
                  {'_this': this, **arguments})
    return etree.tostring(envelope, xml_declaration=True, encoding='UTF-8')


def _namespace(name: str) -> str:
    """The namespace of a method or type."""
    return PBM if name.startswith('Pbm') else VIM


def _write_fields(parent: etree._Element, namespace: str, kind: str,
                  fields: Mapping[str, api_types.Field],
                  values: Mapping[str, Any]) -> None:
    unknown = values.keys() - fields.keys()
    if unknown:
        raise TypeError(f'{kind} has no field {", ".join(sorted(unknown))}')
    for name, field in fields.items():
        value = values.get(name)
        if value is None:
            continue
        if type(value) not in (list, tuple):
            _write(parent, f'{{{namespace}}}{name}', field, value)
        elif field.many:
            for each in value:
                _write(parent, f'{{{namespace}}}{name}', field, each)
        elif value:
            raise TypeError(f'{kind} has one {name} at most')


def _write(parent: etree._Element, qualified: str, field: api_types.Field,
           value: Any) -> None:
    if isinstance(value, etree._Element):
        element = copy.deepcopy(value)
        element.tag = qualified
        parent.append(element)
        return
    element = etree.SubElement(parent, qualified)
    if isinstance(value, (str, bool, int, float, datetime.datetime)):
        element.text = _text(value)
        if field.type == api_types.ANY:
            element.set(TYPE, _xsd_type(value))
    elif _is_reference(field, value):
        element.set('type', value._type)
        element.text = value.value
        if field.type == api_types.ANY:
            element.set(TYPE, api_types.REFERENCE)
    else:
        _write_object(element, field, value)


def _is_reference(field: api_types.Field, value: Any) -> bool:
    """Whether a value is a reference, made here or by oslo.vmware."""
    return isinstance(value, references.Ref) or (
        field.type in (api_types.REFERENCE, api_types.ANY)
        and hasattr(value, '_type') and hasattr(value, 'value'))


def _write_object(element: etree._Element, field: api_types.Field,
                  value: Any) -> None:
    if isinstance(value, Typed):
        kind, values = value.type or field.type, value.fields
    else:
        kind = type(value).__name__
        values = {name: each for name, each in vars(value).items()
                  if not name.startswith('_')}
    found = api_types.known().objects[kind]
    if found is None or not (field.type == api_types.ANY
                             or field.type in found.kinds):
        raise TypeError(f'{field.name} is a {kind}, and the API wants a '
                        f'{field.type}')
    if kind != field.type:
        element.set(TYPE, kind)
    _write_fields(element, _namespace(kind), kind, found.fields, values)


def insert(element: etree._Element, qualified: str) -> etree._Element:
    """Add a field, in its place, to a data object that a vCenter sent.

    :param qualified: the field's :func:`tag`
    :returns: the field, without a value
    :raises TypeError: the object's type has no such field
    """
    kind = type_of(element)
    known = api_types.known().objects[kind]
    fields = list(map(tag, known.fields)) if known else []
    if qualified not in fields:
        raise TypeError(f'{kind} has no field '
                        f'{etree.QName(qualified).localname}')
    before = fields[:fields.index(qualified)]
    found = etree.Element(qualified)
    element.insert(sum(child.tag in before for child in element), found)
    return found


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


# -- Replies ----------------------------------------------------------------

def _body(method: str, url: str,
          reply: 'urllib3.BaseHTTPResponse') -> etree._Element:
    # A vCenter answers 200, or 500 with a SOAP fault. Any other status comes
    # from a proxy in between, or from a vCenter that is starting.
    try:
        content = reply.data
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise exceptions.VimConnectionException(
            f'{method}: the reply of {url} broke off ({error})', error)
    if reply.status not in (200, 500):
        raise _no_answer(method, url, reply.status, content)
    return returned(method, url, content)


class _Arriving:
    """A reply that arrives in pieces, as elements that are complete.

    The parser reports the envelope alone, when it begins; below it, the tree
    grows while the pieces arrive. An element is complete as soon as another
    one follows it, or an element around it. A parser that reports the end of
    each element takes half as long again.
    """

    def __init__(self, pieces: Iterable[bytes],
                 cooperative_yield: Callable[[], None]) -> None:
        """:param cooperative_yield: called between two pieces"""
        self._pieces = iter(pieces)
        self._cooperative_yield = cooperative_yield
        self._parser = etree.XMLPullParser(
            events=('start',), tag=_ENVELOPE_TAG, **_PARSING)
        # Whether an element has begun, and what came before it.
        self._begun = False
        self._held = b''
        #: Whether all has been read.
        self.complete = False

    def named(self, tags: frozenset[str]) -> Iterator[etree._Element]:
        """The complete elements of these tags, faults and missing sets.

        Elements within them are not searched. An element is emptied when the
        caller asks for the next one.

        :raises ValueError, XMLSyntaxError: the reply is no SOAP message, or
            not a whole one; or an error of the pieces
        """
        envelope = None
        while envelope is None and not self.complete:
            self._read()
            envelope = next((element for _event, element
                             in self._parser.read_events()), None)
        if envelope is None:
            raise ValueError('it has no envelope')
        yield from self._below(envelope, tags | _FAULTS, _DEPTH)
        while not self.complete:
            self._read()

    def _below(self, parent: etree._Element, tags: frozenset[str],
               depth: int) -> Iterator[etree._Element]:
        child = self._next(parent, None)
        while child is not None:
            if child.tag in tags:
                following = self._next(parent, child)
                yield child
                child.clear()
                child = following
            else:
                if depth:
                    yield from self._below(child, tags, depth - 1)
                child = self._next(parent, child)

    def _next(self, parent: etree._Element, child: etree._Element | None
              ) -> etree._Element | None:
        """The child after this one, or the first; None: there is no other.

        Then the child before it is complete.
        """
        while True:
            if child is not None:
                found = child.getnext()
            else:
                found = parent[0] if len(parent) else None
            if found is not None or self._ended(parent):
                return found
            self._read()

    def _ended(self, element: etree._Element | None) -> bool:
        while element is not None:
            if element.getnext() is not None:
                return True
            element = element.getparent()
        return self.complete

    def _read(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            self._parser.close()
            self.complete = True
            return
        if self._begun:
            self._cooperative_yield()
        else:
            piece = self._held + piece
            self._begun = _has_begun(piece)
            self._held = b'' if self._begun else piece
        if self._begun:
            self._parser.feed(piece)


def _refuse_fault(method: str, element: etree._Element) -> None:
    """Raise the fault of a reply, or of an object in it."""
    if element.tag == _FAULT:
        raise _fault(method, element)
    if element.tag == _MISSING_SET:
        _refuse_lost_session(method, element)
    elif len(element) and element[-1].tag == _MISSING_SET:  # they come last
        for missing in element.iterchildren(_MISSING_SET):
            _refuse_lost_session(method, missing)


def _no_answer(method: str, url: str, status: int, body: bytes) -> Exception:
    found = HTTPStatus(status, url, body)
    return exceptions.VimConnectionException(f'{method}: {found}', found)


def returned(method: str, url: str, content: bytes) -> etree._Element:
    """The response element of a reply.

    :raises VimFaultException: the vCenter's fault
    :raises VimConnectionException: the reply is not a SOAP message
    """
    try:
        if not _has_begun(content):
            raise ValueError('it has no element')
        root = etree.fromstring(content, etree.XMLParser(**_PARSING))
        response = root.find(f'{{{_ENVELOPE}}}Body')[0]
    except (ValueError, etree.XMLSyntaxError, TypeError,
            IndexError) as error:
        raise exceptions.VimConnectionException(
            f'{method}: the reply of {url} is no SOAP message ({error})',
            error)
    if response.tag == _FAULT:
        raise _fault(method, response)
    if _MAKES.match(method) and not response.findtext('*'):
        raise exceptions.VimConnectionException(
            f'{method}: the reply of {url} does not name the new object')
    for missing in response.iter(_MISSING_SET):
        _refuse_lost_session(method, missing)
    return response


def _refuse_lost_session(method: str, missing: etree._Element) -> None:
    """Raise if a vCenter reports a lost session in place of properties.

    :param missing: a MissingProperty or MissingObject
    :raises Fault: NotAuthenticated, as if the vCenter had answered so
    """
    for fault in missing.iterfind(f'{tag("fault")}/{tag("fault")}'):
        if is_lost_session(type_of(fault)):
            raise Fault([exceptions.NOT_AUTHENTICATED],
                        f'{method}: {type_of(fault)} in place of a property')


def is_lost_session(name: str) -> bool:
    """Whether a fault means that the session is not, or no longer, valid."""
    return name.endswith(_LOST_SESSION)


def _has_begun(content: bytes) -> bool:
    """Whether an element begins in the first bytes of a reply.

    Only after that may a parser see them: SOAP has no document type, and one
    could change the content, or have it grow without end.

    :raises ValueError: a document type comes first, or none of both
    """
    prolog = content[:_PROLOG_BYTES]
    found = _PROLOG.match(prolog)
    rest = prolog[found.end() if found else 0:]
    if rest.startswith(_DOCUMENT_TYPE):
        raise ValueError('it has a document type')
    if rest[:1] == b'<' and rest[1:2] not in (b'', b'!', b'?'):
        return True
    if len(content) >= _PROLOG_BYTES:
        raise ValueError(f'no element begins in its first {_PROLOG_BYTES} '
                         'bytes')
    return False


def _fault(method: str, fault: etree._Element
           ) -> exceptions.VimFaultException:
    """The same exception as oslo.vmware raises for this fault."""
    text = fault.findtext('faultstring') or 'no reason given'
    detail = fault.find('detail')
    names = []
    details: dict[str, str] = {}
    for part in detail if detail is not None else ():
        name = type_of(part) or etree.QName(part).localname
        if is_lost_session(name):
            name = exceptions.NOT_AUTHENTICATED
        names.append(name)
        details.update(fault_details(part))
    return Fault(names, f'{method}: {text}', details=details)


def fault_details(fault: etree._Element) -> dict[str, str]:
    """The text of a fault's fields, and the type of the object it names."""
    details = {}
    for child in fault:
        name = etree.QName(child).localname
        details[name] = child.text or ''
        if name == 'object':
            details[OBJECT_TYPE] = child.get('type', '')
    return details


def type_of(element: etree._Element) -> str:
    """The vSphere type in an element's ``xsi:type``, or ''.

    For the fault of a call or task, this is the fault's name.
    """
    return (element.get(TYPE) or '').rpartition(':')[2]


def ref(element: etree._Element) -> references.Ref:
    """The reference that an element holds."""
    return references.Ref(element.get('type', ''), element.text or '')


def value(element: etree._Element) -> Any:
    """A property's value as a Python value, by its ``xsi:type``.

    For data objects, and arrays of them, the element itself is returned.
    """
    return _reader(element.get(TYPE) or '')(element)


@functools.lru_cache(maxsize=1024)
def _reader(typed: str) -> Callable[[etree._Element], Any]:
    """What makes the value of elements with that ``xsi:type``."""
    kind = typed.rpartition(':')[2]
    if kind in SCALARS:
        scalar = SCALARS[kind]
        return lambda element: scalar(element.text or '')
    if kind == 'ManagedObjectReference':
        return ref
    if kind == 'ArrayOfManagedObjectReference':
        return lambda array: [ref(item) for item in array]
    if kind.startswith('ArrayOf'):
        return lambda array: array
    return lambda element: element if len(element) else element.text or ''


def items(array: Any) -> Iterable[etree._Element]:
    """The data objects of an array that :func:`value` returned, if any."""
    return array if isinstance(array, etree._Element) else ()


SCALARS: dict[str, Callable[[str], Any]] = {
    'string': str,
    'anyURI': str,
    'boolean': frozenset({'true', '1'}).__contains__,
    'byte': int,
    'short': int,
    'int': int,
    'long': int,
    'float': float,
    'double': float,
    'base64Binary': base64.b64decode,
    'dateTime': timeutils.parse_isotime,
}


# Code that takes values out of a malformed reply raises these.
MALFORMED = (AttributeError, LookupError, TypeError, ValueError,
             OverflowError)


def malformed(what: str, error: Exception) -> Exception:
    """The error to raise for a reply of the vCenter that cannot be read.

    It replaces :data:`MALFORMED`, and is handled like a reply that did not
    arrive completely.
    """
    return exceptions.VimConnectionException(
        f'{what}: the reply of the vCenter is malformed ({error!r})', error)


def object_content(element: etree._Element,
                   read: Callable[[str, str, etree._Element], Any] | None
                   ) -> tuple[references.Ref, dict[str, Any],
                              list[etree._Element]]:
    """An ObjectContent: the object, its properties, and the missing ones.

    :param read: makes a property's value, from the object's type, the path
        and the element; None: :func:`value`
    """
    about = ref(element[0])
    seen: dict[str, Any] = {}
    missing = []
    for entry in element:
        if entry.tag == _PROP_SET:
            # The simulator's later pages may hold a name without a value.
            if len(entry) > 1:
                path = entry[0].text or ''
                seen[path] = (read(about.type, path, entry[1]) if read
                              else value(entry[1]))
        elif entry.tag == _MISSING_SET:
            missing.append(entry)
    return about, seen, missing
