# SPDX-License-Identifier: Apache-2.0
"""The services of a vCenter as oslo.vmware knows them: vim and pbm.

Methods are attributes, as in ``session.vim.Login(...)``. They are implemented
by the plugin's own :mod:`cinder_vmdk_ext.vsphere.suds_client`, whose instances
threads may share. The library suds, on which oslo.vmware depends, is not used.
"""

import functools
from typing import Any

from oslo_vmware import exceptions
from oslo_vmware import pbm
from oslo_vmware import service
from oslo_vmware import vim

from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import suds_client
from cinder_vmdk_ext.vsphere import transport


class _Service(suds_client.Methods, service.Service):
    """A SOAP service of oslo.vmware, whose instances threads may share."""

    _path = '/sdk'

    def __init__(self, https: transport.Transport, *,
                 op_id_prefix: str = 'vmdk-ext') -> None:
        """Prepare, without a call.

        :param https: the transport to the vCenter
        """
        # Replaces oslo.vmware's, which reads a WSDL. Every attribute is set
        # here, because an unset one counts as a SOAP method.
        super().__init__(soap.Client(https, path=self._path))
        self.wsdl_url = None
        self.soap_url = https.url + self._path
        self.op_id_prefix = op_id_prefix
        self._vc_session_cookie = None
        self._https = https
        self.client = suds_client.SudsClient(https)

    @functools.cached_property
    def service_content(self) -> Any:
        """The ServiceContent (ServiceInstance.content); read once."""
        return self.retrieve_service_content()

    def get_http_cookie(self) -> str | None:
        """The value of the session's cookie, as the vCenter set it."""
        return self._https.cookie


class Vim(_Service, vim.Vim):
    """The vSphere API (``/sdk``)."""


class Pbm(_Service, pbm.Pbm):
    """The storage policy API (``/pbm``)."""

    _path = '/pbm'

    def _headers(self) -> list[tuple[str, str]]:
        # The quotes belong to the HTTP cookie, not to its value.
        key = self._https.session_key
        return [('vcSessionCookie', key)] if key else []

    def retrieve_service_content(self) -> Any:
        """The service's content (PbmRetrieveServiceContent).

        :raises VimConnectionException: the vCenter does not return it
        """
        found = super().retrieve_service_content()
        if found is None:
            raise exceptions.VimConnectionException(
                f'{self.soap_url} does not say what it consists of')
        return found
