# SPDX-License-Identifier: Apache-2.0
"""The services of a vCenter as oslo.vmware knows them: vim and pbm.

Methods are attributes, as in ``session.vim.Login(...)``. What is beneath is
the plugin's own (:mod:`cinder_vmdk_ext.vsphere.suds_client`), of which threads
may share an instance; suds, which oslo.vmware brings along, is not used.
"""

import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from oslo_vmware import exceptions
from oslo_vmware import pbm
from oslo_vmware import service
from oslo_vmware import vim

from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import suds_client
from cinder_vmdk_ext.vsphere import transport


class _Service(service.Service):
    """A SOAP service of oslo.vmware, whose instances threads may share."""

    _path = '/sdk'

    def __init__(self, https: transport.Transport, *,
                 op_id_prefix: str = 'vmdk-ext') -> None:
        """Prepare, without a call.

        :param https: by what the vCenter is reached
        """
        # In place of oslo.vmware's, which reads a WSDL. All attributes are
        # set: others are taken for SOAP methods.
        self.wsdl_url = None
        self.soap_url = https.url + self._path
        self.op_id_prefix = op_id_prefix
        self._service_content = None
        self._vc_session_cookie = None
        self._https = https
        self._of_call = threading.local()
        self.client = suds_client.SudsClient(
            soap.Client(https, path=self._path, headers=self._headers), https)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        request: Callable[..., Any] = super().__getattr__(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return request(*args, **kwargs)
            except exceptions.VimException as error:
                # oslo.vmware wraps what it does not expect.
                if isinstance(error.cause, exceptions.VimConnectionException):
                    raise error.cause
                raise
        return call

    @property
    def service_content(self) -> Any:
        """What the service consists of (ServiceInstance.content); kept."""
        return super().service_content

    def get_http_cookie(self) -> str | None:
        """The value of the session's cookie, as the vCenter set it."""
        return self._https.cookie

    def _set_soap_headers(self, op_id: str | None) -> None:
        # oslo.vmware's goes into the options that all calls share.
        self._of_call.op_id = op_id

    def _headers(self) -> Iterator[tuple[str, str]]:
        op_id = getattr(self._of_call, 'op_id', None)
        if op_id:
            yield 'operationID', op_id


class Vim(_Service, vim.Vim):
    """The vSphere API (``/sdk``)."""


class Pbm(_Service, pbm.Pbm):
    """The storage policy API (``/pbm``)."""

    _path = '/pbm'

    def _headers(self) -> Iterator[tuple[str, str]]:
        # The quotes belong to the HTTP cookie, not to its value.
        key = self._https.session_key
        if key:
            yield 'vcSessionCookie', key
        yield from super()._headers()

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
