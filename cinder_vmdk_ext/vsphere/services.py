# SPDX-License-Identifier: Apache-2.0
"""oslo.vmware's SOAP services, safe for threads and for silent servers.

suds keeps what belongs to one call in objects that all calls share, so with
native threads one could be handed another's reply. Each client made here is
given what it lacks; nothing of suds or oslo.vmware is changed for others.
"""

import io
import secrets
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from xml.sax import saxutils

from oslo_vmware import exceptions
from oslo_vmware import pbm
from oslo_vmware import service
from oslo_vmware import vim
import requests
from suds.bindings import multiref
from suds import plugin
from suds.sax import element

from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import suds_client

# Documents of the vCenter's WSDL, which several sessions in turn may need.
_DOCUMENTS = service.MemoryCache()

# What a vCenter answers a call with: a reply, or a SOAP fault.
_ANSWERS = (200, 202, 204, 500)


class Transport(service.RequestsTransport):
    """HTTP exchanges with time limits, whose status is heeded.

    :param timeouts_seconds: for the connection, and for the reply
    :param secret: what :attr:`stand_in` stands for in a message; suds writes
        messages to its debug log, and there it shall not be found
    """

    verify: str | bool

    def __init__(self, timeouts_seconds: tuple[float, float],
                 secret: str = '', **kwargs: Any) -> None:
        super().__init__(connection_timeout=timeouts_seconds, **kwargs)
        self.session.headers['User-Agent'] = soap.USER_AGENT
        self._secret = saxutils.escape(secret).encode()
        self.stand_in = secrets.token_hex(16) if secret else ''

    def open(self, request: Any) -> io.BytesIO:
        """Fetch a document, such as the WSDL."""
        reply = self.session.get(request.url, verify=self.verify,
                                 timeout=self._connection_timeout)
        reply.raise_for_status()
        return io.BytesIO(reply.content)

    def send(self, request: Any) -> Any:
        """Post a message; an HTTP status that is no answer is an error.

        :raises requests.HTTPError: the proxy before a vCenter that is
            starting, for example, answers 503
        """
        if self._secret:
            request.message = request.message.replace(
                self.stand_in.encode(), self._secret)
        if self.session.trust_env:
            self._read_environment(request.url)
        reply = super().send(request)
        if reply.code not in _ANSWERS:
            raise soap.HTTPStatus(reply.code, request.url, reply.message)
        return reply

    def _read_environment(self, url: str) -> None:
        """Take proxies and authorities from the environment, once.

        requests looks for them at every call, for a millisecond.
        """
        found = self.session.merge_environment_settings(
            url, {}, None, self.verify, None)
        self.session.proxies.update(found['proxies'])
        self.verify = found['verify']
        self.session.trust_env = False


class PolicyTransport(Transport):
    """Exchanges whose replies suds reads.

    Of what is no SOAP message it makes None, which would pass for nothing
    being there.
    """

    def send(self, request: Any) -> Any:
        """As :class:`Transport`.

        :raises Unintelligible: the reply is no SOAP message, or has no body
        """
        reply = super().send(request)
        if reply.code == 200:
            try:
                soap.returned('Call', request.url, reply.message)
            except exceptions.VimConnectionException as error:
                raise Unintelligible(str(error)) from error
            except exceptions.VimFaultException:
                pass  # suds tells it
        return reply


class Unintelligible(requests.RequestException):
    """A reply which is none of a vCenter."""


class _MultiRefPerCall:
    """Stands where suds has one MultiRef for all calls of a client."""

    def process(self, body: Any) -> Any:
        return multiref.MultiRef().process(body)


class _PrivateHeaders(plugin.MessagePlugin):
    """Writes SOAP headers that belong to one call into its message."""

    def __init__(self, headers: Callable[[], Iterable[tuple[str, str]]]
                 ) -> None:
        self._headers = headers

    def marshalled(self, context: Any) -> None:
        header = context.envelope.getChild('Header')
        for name, text in self._headers():
            header.append(element.Element(name).setText(text))


class _Service(service.Service):
    """A SOAP service of oslo.vmware, whose instances threads may share."""

    def __init__(self, soap_url: str, wsdl_url: str, transport: Transport,
                 *, op_id_prefix: str = 'vmdk-ext',
                 cookie: Callable[[], str | None] = lambda: None) -> None:
        """Read the WSDL.

        :param cookie: gives the session that each call's header is to name
        :raises VimConnectionException: there is no WSDL to be had
        """
        # In place of oslo.vmware's, which waits for the WSDL without a limit.
        # All attributes are set: others are taken for SOAP methods.
        self.wsdl_url = wsdl_url
        self.soap_url = soap_url
        self.op_id_prefix = op_id_prefix
        self._service_content = None
        self._vc_session_cookie = None
        self._cookie = cookie
        self._call = threading.local()
        try:
            self.client = self._make_client(transport)
        except requests.RequestException as error:
            raise exceptions.VimConnectionException(
                f'{wsdl_url} cannot be read', error)

    def _make_client(self, transport: Transport) -> Any:
        made = service.CompatibilitySudsClient(
            self.wsdl_url, transport=transport, location=self.soap_url,
            plugins=[_PrivateHeaders(self._private_headers),
                     service.ServiceMessagePlugin()],
            cache=_DOCUMENTS)
        for binding in _bindings(made):
            binding.multiref = _MultiRefPerCall()
        return made

    def _set_soap_headers(self, op_id: str | None) -> None:
        # oslo.vmware's goes into the options that all calls share.
        self._call.op_id = op_id

    def _private_headers(self) -> Iterator[tuple[str, str]]:
        cookie = self._cookie()
        if cookie:
            # The quotes belong to the HTTP cookie, not to its value.
            yield 'vcSessionCookie', cookie.strip('"')
        if self._call.op_id:
            yield 'operationID', self._call.op_id


class Vim(_Service, vim.Vim):
    """The vSphere API (``/sdk``), without suds: it is what is called much."""

    def _make_client(self, transport: Transport) -> suds_client.SudsClient:
        return suds_client.SudsClient(self.wsdl_url, self.soap_url, transport,
                                      self._private_headers)


class Pbm(_Service, pbm.Pbm):
    """The storage policy API (``/pbm``)."""

    @property
    def service_content(self) -> Any:
        """What the service consists of (PbmRetrieveServiceContent).

        :raises VimConnectionException: the vCenter does not tell
        """
        found = super().service_content
        if found is None:
            raise exceptions.VimConnectionException(
                f'{self.soap_url} does not tell what it consists of')
        return found


def base_url(scheme: str, host: str, port: int) -> str:
    """The URL of a vCenter, also for an address of IPv6."""
    return service.Service.build_base_url(scheme, host, port)


def _bindings(client: Any) -> Iterator[Any]:
    for offered in client.wsdl.services:
        for port in offered.ports:
            for method in port.methods.values():
                yield method.binding.input
                yield method.binding.output
