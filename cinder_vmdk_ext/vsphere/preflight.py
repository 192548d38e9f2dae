# SPDX-License-Identifier: Apache-2.0
"""Reports a wrong address or certificate of the vCenter before the login.

oslo.vmware repeats a login without a connection for ever. So it would never
report a wrong address or an untrusted certificate.
"""

import ssl
from collections.abc import Callable
from typing import Any

from oslo_vmware import exceptions as vmware_exceptions
import urllib3

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

_SERVICE = references.Ref('ServiceInstance', 'ServiceInstance')
_SECONDS = 30
# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_OTHER_NAME = (62, 64)
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_NOT_NOW = (9, 10)


def check(make_client: Callable[[], soap.Client], configuration: Any) -> None:
    """Ask the vCenter who it is (RetrieveServiceContent; needs no login).

    :raises InvalidSettings: naming the option that is wrong
    """
    address = (f'{configuration.vmware_host_ip}:'
               f'{configuration.vmware_host_port}')
    try:
        client = make_client()
        try:
            client.call('RetrieveServiceContent', _SERVICE,
                        read_seconds=_SECONDS)
        finally:
            client.close()
    except vmware_exceptions.VimConnectionException as error:
        raise _unreachable(address, error, configuration) from None
    except OSError as error:  # the CA bundle is read on its first use
        raise _untrusted(address, error, configuration) from None
    except vmware_exceptions.VimFaultException as fault:
        raise exceptions.InvalidSettings(
            'vmware_host_ip', f'{address} does not answer as a vCenter does '
            f'({fault.msg})', 'set it to the address of a vCenter') from None


def refused_login(fault: vmware_exceptions.VimFaultException,
                  configuration: Any) -> Exception:
    """The error for a login that the vCenter refused; without the password."""
    user = configuration.vmware_host_username
    if 'InvalidLogin' in fault.fault_list:
        return exceptions.InvalidSettings(
            'vmware_host_username', f'the vCenter refuses the user {user!r} '
            'with the password in vmware_host_password',
            'correct the one or the other (a $ is written $$ in cinder.conf)')
    if vmware_exceptions.NO_PERMISSION in fault.fault_list:
        return exceptions.InvalidSettings(
            'vmware_host_username', f'the user {user!r} may not log in',
            'give the user a role in the vCenter')
    return fault


def _unreachable(address: str, error: Any, configuration: Any) -> Exception:
    cause = error.cause
    if isinstance(cause, (urllib3.exceptions.SSLError, ssl.SSLError)):
        return _insecure(address, cause, configuration)
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return exceptions.InvalidSettings(
            'vmware_host_ip',
            f'the name {configuration.vmware_host_ip!r} cannot be resolved',
            'correct it, or the name service of this machine')
    if cause is None or isinstance(cause, urllib3.exceptions.ProtocolError):
        return exceptions.InvalidSettings(
            'vmware_host_ip',
            f'{address} does not answer as a vCenter does ({error.msg})',
            'correct it or vmware_host_port')
    return exceptions.InvalidSettings(
        'vmware_host_ip', f'{address} cannot be reached ({cause})',
        'correct it or vmware_host_port, or start the vCenter')


def _insecure(address: str, cause: Exception,
              configuration: Any) -> Exception:
    found = next((error for error in (cause, *cause.args)
                  if isinstance(error, ssl.SSLError)), None)
    if found is None or found.library != 'SSL':  # the CA file is at fault
        return _untrusted(address, cause, configuration)
    if not isinstance(found, ssl.SSLCertVerificationError):
        return exceptions.InvalidSettings(
            'vmware_host_port',
            f'{address} does not speak TLS as a vCenter does ({cause})',
            'correct it or vmware_host_ip')
    if found.verify_code in _OTHER_NAME:
        return exceptions.InvalidSettings(
            'vmware_host_ip', f'the certificate of {address} is for another '
            f'name ({cause})', 'set it to a name in the certificate')
    if found.verify_code in _NOT_NOW:
        return exceptions.InvalidSettings(
            'vmware_host_ip', f'the certificate of {address}, or of the '
            f'authority behind it, is not valid at this time ({cause})',
            'renew it on the vCenter (Administration > Certificates), or '
            "correct this machine's clock")
    return _untrusted(address, cause, configuration)


def _untrusted(address: str, cause: Exception,
               configuration: Any) -> Exception:
    ca_file = configuration.vmware_ca_file
    if ca_file:
        problem = (f'the certificate of {address} does not verify with '
                   f'{ca_file!r} ({cause})')
    else:
        problem = (f'the certificate of {address} does not verify with the '
                   f"system's authorities ({cause})")
    return exceptions.InvalidSettings(
        'vmware_ca_file', problem,
        "set it to a file with the certificate of the vCenter's authority")
