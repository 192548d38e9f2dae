# SPDX-License-Identifier: Apache-2.0
"""The plugin's own, lean way to call the vCenter.

oslo.vmware speaks through suds, which turns every element of a reply into an
object; with many datastores and hosts that costs seconds of CPU. Here lxml
parses the reply and the caller takes what it wants from it. Sessions, logins
and their repetition stay with oslo.vmware: run a call through
``session.invoke_api(client, 'call', ...)`` and its faults are treated as
those of any other call. Instances are safe to share between threads.
"""

import base64
import contextlib
import copy
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from lxml import etree
from oslo_utils import netutils
from oslo_utils import timeutils
from oslo_vmware import exceptions
import requests
import urllib3

VIM = 'urn:vim25'
_ENVELOPE = 'http://schemas.xmlsoap.org/soap/envelope/'
XSI = 'http://www.w3.org/2001/XMLSchema-instance'
_XSD = 'http://www.w3.org/2001/XMLSchema'
_NAMESPACES = {'soapenv': _ENVELOPE, 'xsi': XSI, 'xsd': _XSD, None: VIM}
_TYPE = f'{{{XSI}}}type'
_FAULT = f'{{{_ENVELOPE}}}Fault'
_PARSING = {'encoding': 'UTF-8', 'resolve_entities': False,
            'no_network': True, 'huge_tree': True}
_DOCUMENT_TYPE = re.compile(
    rb'(\xef\xbb\xbf)?\s*((<\?.*?\?>|<!--.*?-->)\s*)*<!DOCTYPE', re.DOTALL)


def tag(name: str) -> str:
    """The qualified name of an element of the vSphere API, for lxml."""
    return f'{{{VIM}}}{name}'


# Methods that answer with a reference: to a task, a view, a filter ...
_MAKES = re.compile('Create|.*_Task$')
# Faults that say: there is no such session (the last three since 9.1).
# Among the details of a fault: the type of the object in its field "object".
OBJECT_TYPE = 'object.type'
_LOST_SESSION = (exceptions.SECURITY_ERROR, exceptions.NOT_AUTHENTICATED,
                 'AuthenticationRequired', 'SessionNotFound', 'InvalidToken')
_MISSING_SET = tag('missingSet')

# By this an administrator of the vCenter knows whose a session is.
USER_AGENT = 'cinder-vmdk-ext'

CONNECT_SECONDS = 20
READ_SECONDS = 120
# What is parsed at a stretch: a millisecond's work.
SLICE_BYTES = 1 << 16


class Ref(NamedTuple):
    """A reference to a managed object."""

    type: str
    value: str


class Typed(NamedTuple):
    """A data object: its vSphere type and its fields in the order of the API.

    The type is written as ``xsi:type``; leave it empty where the API declares
    the very type.
    """

    type: str
    fields: dict[str, Any]


class AnyText(NamedTuple):
    """A string where the API declares ``xsd:anyType``."""

    text: str


class Fault(exceptions.VimFaultException):
    """A fault that the vCenter itself answered with."""


class HTTPStatus(requests.HTTPError):
    """The HTTP status of a reply which is none of a vCenter."""

    def __init__(self, status: int, url: str, body: bytes) -> None:
        """:param body: the words with it; a proxy may say what it did"""
        self.status = status
        self.body = body
        super().__init__(f'{url} answers HTTP {status}')


class EmptyReply(exceptions.VimFaultException):
    """A retrieval that told nothing of the objects that it was asked for.

    So a vCenter may answer where the session has ended.
    """


def empty_reply(method: str, asked: Sequence[Ref]) -> EmptyReply:
    """:param asked: what the reply had to tell of"""
    what = f' of {asked[0].type} {asked[0].value}' if asked else ''
    return EmptyReply([exceptions.NOT_AUTHENTICATED],
                      f'{method}: the vCenter told nothing{what}')


class Client:
    """Calls to one vCenter with the session of an oslo.vmware API session."""

    def __init__(self, host: str, port: int, *, ca_file: str | None = None,
                 insecure: bool = False, cookie: Any = None,
                 pool_size: int = 10, cooperative_yield:
                 Callable[[], None] = lambda: None) -> None:
        """Prepare, without a connection yet.

        :param ca_file: CA bundle that verifies the vCenter; None: the
            system's, unless ``insecure``
        :param cookie: a callable that gives the session cookie's value now
        :param cooperative_yield: called between the slices of a large reply
        """
        self._url = f'https://{netutils.escape_ipv6(host)}:{port}'
        self._cookie = cookie or (lambda: None)
        self._cooperative_yield = cooperative_yield
        self._pool = self._make_pool(host, port, ca_file or not insecure,
                                     pool_size)

    def _make_pool(self, host: str, port: int, verify: str | bool,
                   pool_size: int) -> urllib3.HTTPSConnectionPool:
        # The same authorities as oslo.vmware's own requests go by.
        with requests.Session() as like:
            verify = like.merge_environment_settings(
                self._url, {}, None, verify, None)['verify']
        tls: dict[str, Any] = {'cert_reqs': 'CERT_NONE'}
        if verify:
            tls = {'cert_reqs': 'CERT_REQUIRED',
                   'ca_certs': requests.certs.where()
                   if verify is True else verify}
        return urllib3.HTTPSConnectionPool(
            host, port, maxsize=pool_size, block=False, retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS,
                                    read=READ_SECONDS), **tls)

    def call(self, method: str, this: Ref, arguments: dict[str, Any] | None
             = None, read_seconds: float = READ_SECONDS) -> etree._Element:
        """Invoke a method of the vSphere API.

        :param arguments: by parameter name, in the order of the API; None and
            empty lists are left out
        :returns: the response element; its children are the return values
        :raises VimFaultException: the vCenter's fault, named in fault_list
        :raises VimConnectionException: no complete reply came; whether the
            call was executed is unknown
        """
        return _body(method, self._url,
                     self._post(method, this, arguments, read_seconds))

    def stream(self, method: str, this: Ref, arguments: dict[str, Any] | None,
               names: Sequence[str], read_seconds: float = READ_SECONDS
               ) -> Iterator[etree._Element]:
        """Invoke a method whose reply is large: its elements as they arrive.

        The reply is never in memory as a whole, and other greenthreads run
        between its slices.

        :param names: names of the elements to yield, each when it is complete
            and in the order in which they end; one is emptied once the next
            is asked for
        :raises VimFaultException, VimConnectionException: as :meth:`call`;
            the latter also in the middle
        """
        reply = self._post(method, this, arguments, read_seconds,
                           preload_content=False)
        if reply.status != 200:
            _body(method, self._url, reply)
            raise _no_answer(method, self._url, reply.status, reply.data)
        parser = etree.XMLPullParser(
            events=('end',), tag=[tag(name) for name in names] + [
                _FAULT, _MISSING_SET], **_PARSING)
        complete = False
        begun = False
        try:
            for piece in reply.stream(SLICE_BYTES):
                if not begun:
                    _refuse_document_type(piece)
                    begun = True
                parser.feed(piece)
                for _event, element in parser.read_events():
                    if element.tag == _FAULT:
                        raise _fault(method, element)
                    if element.tag == _MISSING_SET:
                        _refuse_lost_session(method, element)
                        continue
                    yield element
                    element.clear()
                self._cooperative_yield()
            parser.close()
            complete = True
        except (urllib3.exceptions.HTTPError, OSError, ValueError,
                etree.XMLSyntaxError) as error:
            raise exceptions.VimConnectionException(
                f'{method}: the reply of {self._url} broke off ({error})',
                error)
        finally:
            # A connection with half a reply left in it serves nobody.
            if complete:
                reply.release_conn()
            else:
                reply.close()

    def _post(self, method: str, this: Ref, arguments: dict[str, Any] | None,
              read_seconds: float, preload_content: bool = True
              ) -> urllib3.BaseHTTPResponse:
        headers = {'Content-Type': 'text/xml; charset=utf-8',
                   'SOAPAction': '"urn:vim25/6.7"',
                   'User-Agent': USER_AGENT}
        cookie = self._cookie()
        if cookie:
            headers['Cookie'] = f'vmware_soap_session={cookie}'
        try:
            return self._pool.request(
                'POST', '/sdk', body=_envelope(method, this, arguments or {}),
                headers=headers, preload_content=preload_content,
                timeout=urllib3.Timeout(
                    connect=min(CONNECT_SECONDS, read_seconds),
                    read=read_seconds))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise exceptions.VimConnectionException(
                f'{method}: no reply from {self._url} ({error})', error)

    def close(self) -> None:
        """Close idle connections; the client can go on to be used."""
        self._pool.close()


def message(method: str) -> tuple[etree._Element, etree._Element,
                                  etree._Element]:
    """A SOAP message without arguments: envelope, header and request."""
    envelope = etree.Element(f'{{{_ENVELOPE}}}Envelope', nsmap=_NAMESPACES)
    header = etree.SubElement(envelope, f'{{{_ENVELOPE}}}Header')
    body = etree.SubElement(envelope, f'{{{_ENVELOPE}}}Body')
    return envelope, header, etree.SubElement(body, tag(method))


def _envelope(method: str, this: Ref, arguments: dict[str, Any]) -> bytes:
    envelope, _header, request = message(method)
    _write(request, '_this', this)
    for name, value in arguments.items():
        _write(request, name, value)
    return etree.tostring(envelope, xml_declaration=True, encoding='UTF-8')


def _write(parent: etree._Element, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, (list, tuple)) and not isinstance(
            value, (Ref, Typed, AnyText)):
        for item in value:
            _write(parent, name, item)
        return
    if isinstance(value, etree._Element):
        element = copy.deepcopy(value)
        element.tag = tag(name)
        parent.append(element)
        return
    element = etree.SubElement(parent, tag(name))
    if isinstance(value, Ref):
        element.set('type', value.type)
        element.text = value.value
    elif isinstance(value, Typed):
        if value.type:
            element.set(_TYPE, value.type)
        for field, part in value.fields.items():
            _write(element, field, part)
    elif isinstance(value, AnyText):
        element.set(_TYPE, 'xsd:string')
        element.text = value.text
    elif isinstance(value, bool):
        element.text = 'true' if value else 'false'
    else:
        element.text = str(value)


def _body(method: str, url: str,
          reply: urllib3.BaseHTTPResponse) -> etree._Element:
    # A vCenter answers 200, or 500 with a SOAP fault; whatever else comes is
    # from something in between, or from a vCenter that is starting.
    try:
        content = reply.data
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise exceptions.VimConnectionException(
            f'{method}: the reply of {url} broke off ({error})', error)
    if reply.status not in (200, 500):
        raise _no_answer(method, url, reply.status, content)
    return returned(method, url, content)


def _no_answer(method: str, url: str, status: int, body: bytes) -> Exception:
    found = HTTPStatus(status, url, body)
    return exceptions.VimConnectionException(f'{method}: {found}', found)


def returned(method: str, url: str, content: bytes) -> etree._Element:
    """The response element of a reply.

    :raises VimFaultException: the vCenter's fault
    :raises VimConnectionException: it is no SOAP message
    """
    try:
        _refuse_document_type(content)
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
            f'{method}: the reply of {url} does not tell what was made')
    for missing in response.iter(_MISSING_SET):
        _refuse_lost_session(method, missing)
    return response


def _refuse_lost_session(method: str, missing: etree._Element) -> None:
    """A vCenter tells a lost session where it would tell properties.

    :param missing: a MissingProperty or MissingObject
    :raises Fault: NotAuthenticated, as if the vCenter had answered so
    """
    for fault in missing.iterfind(f'{tag("fault")}/{tag("fault")}'):
        if is_lost_session(type_of(fault)):
            raise Fault([exceptions.NOT_AUTHENTICATED],
                        f'{method}: {type_of(fault)} in place of a property')


def is_lost_session(name: str) -> bool:
    """Whether a fault says that the session is none (any more)."""
    return name.endswith(_LOST_SESSION)


def _refuse_document_type(beginning: bytes) -> None:
    """SOAP has none, and what it declares would change what is read."""
    if _DOCUMENT_TYPE.match(beginning):
        raise ValueError('it has a document type')


def _fault(method: str, fault: etree._Element
           ) -> exceptions.VimFaultException:
    """The exception that oslo.vmware raises for the same fault."""
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
    """The vSphere type that an element says it is (``xsi:type``), or ''.

    For a fault, of a call or of a task, this is the fault's name.
    """
    return (element.get(_TYPE) or '').rpartition(':')[2]


def from_suds(moref: Any) -> Ref:
    """A reference of oslo.vmware's as one of ours."""
    return Ref(moref._type, moref.value)


def ref(element: etree._Element) -> Ref:
    """The reference that an element holds."""
    return Ref(element.get('type', ''), element.text or '')


def value(element: etree._Element) -> Any:
    """A property's value as a Python value, by its ``xsi:type``.

    Data objects, and arrays of them, come back as the element itself.
    """
    kind = type_of(element)
    if kind in SCALARS:
        return SCALARS[kind](element.text or '')
    if kind == 'ManagedObjectReference':
        return ref(element)
    if kind == 'ArrayOfManagedObjectReference':
        return [ref(item) for item in element]
    if len(element) == 0 and not kind.startswith('ArrayOf'):
        return element.text or ''  # an enumeration
    return element


def items(array: Any) -> Iterable[etree._Element]:
    """The data objects of an array as :func:`value` gives it, if it is one."""
    return array if isinstance(array, etree._Element) else ()


SCALARS: dict[str, Callable[[str], Any]] = {
    'string': str,
    'anyURI': str,
    'boolean': lambda text: text in ('true', '1'),
    'byte': int,
    'short': int,
    'int': int,
    'long': int,
    'float': float,
    'double': float,
    'base64Binary': base64.b64decode,
    'dateTime': timeutils.parse_isotime,
}


@contextlib.contextmanager
def understood(what: str) -> Iterator[None]:
    """Have a reply that cannot be what it says be the vCenter's error.

    For a block that takes values out of replies, and calls nobody.

    :raises VimConnectionException: as for any reply that did not come whole
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError,
            OverflowError) as error:
        raise exceptions.VimConnectionException(
            f'{what}: what the vCenter replied makes no sense ({error!r})',
            error) from error


def property_spec(kind: str, paths: list[str] | tuple[str, ...]) -> Typed:
    """A PropertySpec for objects of one managed type."""
    return Typed('', {'type': kind, 'all': False, 'pathSet': list(paths)})


def view_filter(view: Ref, paths: Mapping[str, tuple[str, ...]],
                others: Mapping[Ref, tuple[str, ...]] | None = None) -> Typed:
    """A PropertyFilterSpec over the objects of a view, by managed type.

    :param others: paths of single objects, which are in no view
    """
    others = others or {}
    walk = Typed('TraversalSpec', {'name': 'view', 'type': view.type,
                                   'path': 'view', 'skip': False})
    return Typed('', {
        'propSet': [property_spec(kind, names) for kind, names in (
            *paths.items(), *((ref.type, names)
                              for ref, names in others.items()))],
        'objectSet': [Typed('', {'obj': view, 'skip': True,
                                 'selectSet': walk}),
                      *(Typed('', {'obj': ref, 'skip': False})
                        for ref in others)]})
