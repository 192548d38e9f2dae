# SPDX-License-Identifier: Apache-2.0
"""Checks the vCenter's clock and certificate, which no login needs."""

import contextlib
import datetime
import socket
import ssl
from collections.abc import Callable
from typing import Any

from oslo_utils import timeutils

from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import transport

_SERVICE = references.Ref('ServiceInstance', 'ServiceInstance')
_SECONDS = 10.0


def clock_skew_seconds(
        session: Any, client: soap.Client,
        now: Callable[[], datetime.datetime] = lambda: timeutils.utcnow(
            with_timezone=True)) -> float:
    """How far the vCenter's clock is ahead of ours (CurrentTime).

    :raises VimException, VimConnectionException: as oslo.vmware does
    """
    before = now()
    reply = session.invoke_api(client, 'call', 'CurrentTime', _SERVICE)
    middle = before + (now() - before) / 2
    try:
        theirs = timeutils.parse_isotime(reply[0].text)
    except soap.MALFORMED as error:
        raise soap.malformed('CurrentTime', error) from error
    return (theirs - middle).total_seconds()


def certificate_days(host: str, port: int,
                     trust: transport.Trust) -> float | None:
    """Days until the certificate expires; None: it is not verified.

    :raises OSError: the connection failed
    """
    tls = trust.tls(f'https://{host}:{port}')
    if tls['cert_reqs'] != 'CERT_REQUIRED':
        return None
    context = ssl.create_default_context(cafile=tls.get('ca_certs'),
                                         capath=tls.get('ca_cert_dir'))
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(
            (host.strip('[]'), port), _SECONDS))
        secure = stack.enter_context(context.wrap_socket(
            plain, server_hostname=host.strip('[]')))
        until = (secure.getpeercert() or {})['notAfter']
    return (ssl.cert_time_to_seconds(str(until))
            - timeutils.utcnow_ts(True)) / 86400
