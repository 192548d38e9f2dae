# SPDX-License-Identifier: Apache-2.0
"""Decides which failed calls to the vCenter may be repeated.

A reply can be lost on its way, so a failed call may have been executed.
"""

import http.client
import re
import ssl
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from oslo_vmware import exceptions
import requests
import urllib3

from cinder_vmdk_ext import exceptions as own_exceptions
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

# These are raised for a call whose reply is missing or not understood.
NO_REPLY = (exceptions.VimConnectionException,
            exceptions.VimSessionOverLoadException)

_READS = re.compile(
    r'(Pbm)?(Retrieve|ContinueRetrieve|CancelRetrieve|Query|Find|Check|Fetch|'
    r'Search|Validate|Wait|List|Get|Current|Has)|get_|read|continue_retrieval|'
    r'cancel_retrieval|find_|is_', re.ASCII)
# Methods that change something, but may be repeated without harm: the second
# call changes nothing more, or the vCenter refuses it with a fault that
# callers take for success (AlreadyExists, DuplicateName), or what they add
# ends with the session.
_HARMLESS = frozenset({
    'CancelTask', 'CancelWaitForUpdates', 'CreateContainerView',
    'CreateFilter', 'CreateFolder', 'CreateListView', 'DestroyView',
    'DestroyPropertyFilter', 'HttpNfcLeaseAbort', 'HttpNfcLeaseProgress',
    'MakeDirectory', 'ModifyListView', 'RefreshDatastore',
    'RefreshDatastoreStorageInfo', 'RefreshStorageInfo', 'SessionIsActive'})

# The texts with which the proxy of a vCenter (Envoy; before 8.0.3 rhttpproxy)
# answers HTTP 503 if it could not pass the call on. It uses every other text
# with 503 also for calls that the vCenter has executed, or for a second
# attempt.
_NOT_PASSED_ON = re.compile(
    rb'\s*no healthy upstream\s*|'
    rb'upstream connect error or disconnect/reset before headers\. '
    rb'reset reason: (remote |local )?connection failure.*|'
    rb'503 Service Unavailable \(Failed to connect to endpoint: .*',
    re.DOTALL)
_NEVER_CONNECTED = (urllib3.exceptions.NewConnectionError,
                    urllib3.exceptions.ConnectTimeoutError,
                    urllib3.exceptions.ProxyError,
                    # Other TLS errors may occur after the call was sent.
                    ssl.SSLCertVerificationError,
                    requests.ConnectTimeout,
                    http.client.CannotSendRequest,
                    http.client.CannotSendHeader)


def is_repeatable(method: str) -> bool:
    """Whether a call may be repeated although it may have been executed.

    :param method: of the vSphere API, or a function of oslo.vmware's
    """
    return method in _HARMLESS or _READS.match(method) is not None


def never_sent(error: Exception) -> bool:
    """Whether a call without a reply has certainly not been executed."""
    for cause in _causes(error):
        if isinstance(cause, _NEVER_CONNECTED):
            return True
        if isinstance(cause, soap.HTTPStatus):
            return _refused_by_proxy(cause)
    return False


def _refused_by_proxy(answer: soap.HTTPStatus) -> bool:
    """Whether a proxy says that it has not passed a call on.

    The proxy answers 404 until a starting vCenter has registered its services
    with it. A vCenter itself never answers 404 to a call.
    """
    return answer.status == 404 or (
        answer.status == 503
        and _NOT_PASSED_ON.fullmatch(answer.body) is not None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and its causes, as three libraries record them."""
    seen: list[BaseException] = []
    left: list[Any] = [error]
    while left:
        one = left.pop()
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        left += [getattr(one, 'cause', None), getattr(one, 'reason', None),
                 one.__cause__, *one.args]


def is_denial(fault: exceptions.VimFaultException) -> bool:
    """Whether the vCenter refused the session, so executed nothing."""
    return any(map(soap.is_lost_session, fault.fault_list))


def is_empty_reply(fault: exceptions.VimFaultException) -> bool:
    """Whether oslo.vmware only guesses a denial from an empty reply.

    A vCenter that denies the session may reply with nothing; or it has no
    such object.
    """
    return isinstance(fault, soap.EmptyReply) or (
        fault.cause is None and not isinstance(fault, soap.Fault))


def specific(fault: exceptions.VimFaultException,
             name_of: Callable[[references.Ref], str] = str) -> Exception:
    """The fault as an exception of its own class, if it has one.

    :param name_of: returns an object's name for an operator
    """
    if exceptions.NO_PERMISSION in fault.fault_list[:1]:
        details = fault.details or {}
        on = denied_object(fault)
        return own_exceptions.PrivilegeMissing(
            fault.msg, details.get('privilegeId', ''),
            name_of(on) if on else '', details)
    found = (exceptions.get_fault_class(fault.fault_list[0])
             if fault.fault_list else None)
    return found(str(fault), details=fault.details) if found else fault


def denied_object(fault: exceptions.VimFaultException
                  ) -> references.Ref | None:
    """The object on which a privilege is missing (NoPermission.object)."""
    details = fault.details or {}
    if not details.get('object'):
        return None
    return references.Ref(
        details.get(soap.OBJECT_TYPE) or _type_by_suds(fault),
        details['object'])


def _type_by_suds(fault: exceptions.VimFaultException) -> str:
    """The object's type, which oslo.vmware leaves out of the details."""
    document = getattr(fault.cause, 'document', None)
    detail = (document.childAtPath('/Envelope/Body/Fault/detail')
              if document is not None else None)
    for part in detail.getChildren() if detail is not None else ():
        on = part.getChild('object')
        if on is not None:
            return str(on.get('type') or '')
    return ''


def in_one_line(error: Exception) -> str:
    """An exception in one line."""
    return ' '.join(str(error).split())


def target(arguments: tuple[Any, ...]) -> str | None:
    """The managed object that a call is about, if its arguments show it."""
    for argument in arguments:
        value = getattr(argument, 'value', None)
        if isinstance(value, str):
            return value
    return None
