# SPDX-License-Identifier: Apache-2.0
"""Bulk reads through the vCenter's PropertyCollector."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from lxml import etree
from oslo_log import log as logging
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import soap

LOG = logging.getLogger(__name__)

Properties = dict[soap.Ref, dict[str, Any]]
Value = Callable[[str, str, etree._Element], Any]


def any_value(kind: str, path: str, element: etree._Element) -> Any:
    """A property of an object of a type, as Python has it."""
    return soap.value(element)


def read_all(session: Any, client: soap.Client,
             paths: Mapping[str, tuple[str, ...]],
             managers: Mapping[str, tuple[str, ...]] | None = None,
             value: Value = any_value) -> Properties:
    """Properties of all objects of some types, wherever they are.

    Takes three calls (CreateContainerView, RetrievePropertiesEx,
    DestroyView), whatever the size, unless the vCenter itself splits the
    reply into pages. A session that was lost is replaced once, at once; a
    vCenter that does not answer is an error at once, since oslo.vmware's own
    repetition would wait for it without end.

    :param paths: property paths by managed type
    :param managers: and those of objects that the ServiceContent names, by
        their names there
    :param value: makes a value of what was read, as it comes
    :returns: ``{reference: {path: value}}``; absent properties are left out
    :raises VimFaultException, VimConnectionException: as oslo.vmware does
    """
    try:
        return _read(session, client, paths, managers or {}, value)
    except exceptions.VimFaultException as fault:
        if exceptions.NOT_AUTHENTICATED not in fault.fault_list:
            raise
    # It has just answered, so this login does not wait for ever.
    session._create_session()
    return _read(session, client, paths, managers or {}, value)


def _read(session: Any, client: soap.Client,
          paths: Mapping[str, tuple[str, ...]],
          managers: Mapping[str, tuple[str, ...]],
          value: Value) -> Properties:
    content = session.vim.service_content
    reply = client.call(
        'CreateContainerView', soap.from_suds(content.viewManager), {
            'container': soap.from_suds(content.rootFolder),
            'type': list(paths), 'recursive': True})
    with soap.understood('CreateContainerView'):
        view = soap.ref(reply[0])
    try:
        return _retrieve(client, soap.from_suds(content.propertyCollector),
                         soap.view_filter(view, paths,
                                          named(content, managers)), value)
    finally:
        try:
            client.call('DestroyView', view)
        except exceptions.VMwareDriverException as error:
            # It goes with the session at the latest.
            LOG.debug('View %s was not destroyed: %s', view.value, error)


def named(content: Any, managers: Mapping[str, tuple[str, ...]]
          ) -> dict[soap.Ref, tuple[str, ...]]:
    """Objects by the names that a ServiceContent has for them."""
    found = ((getattr(content, name, None), paths)
             for name, paths in managers.items())
    return {soap.from_suds(ref): paths for ref, paths in found if ref}


def _retrieve(client: soap.Client, property_collector: soap.Ref,
              filter_spec: soap.Typed, value: Value) -> Properties:
    found: Properties = {}
    token = _take(client, 'RetrievePropertiesEx', property_collector, {
        'specSet': filter_spec, 'options': soap.Typed('', {})}, found, value)
    while token is not None:
        this = token
        try:
            token = _take(client, 'ContinueRetrievePropertiesEx',
                          property_collector, {'token': this}, found, value)
        except exceptions.VMwareDriverException:
            _cancel(client, property_collector, this)
            raise
    return found


def _take(client: soap.Client, method: str, property_collector: soap.Ref,
          arguments: dict[str, Any], found: Properties,
          value: Value) -> str | None:
    """Take the objects of a reply as they come; its token, if any."""
    token = None
    for part in client.stream(method, property_collector, arguments,
                              ('objects', 'token')):
        if part.getparent().tag == _RETURNED:
            with soap.understood(method):
                token = _part(part, found, value) or token
    return token


def _cancel(client: soap.Client, property_collector: soap.Ref,
            token: str) -> None:
    # Retrievals left open add up in the vCenter until it refuses more.
    try:
        client.call('CancelRetrievePropertiesEx', property_collector,
                    {'token': token})
    except exceptions.VMwareDriverException as error:
        LOG.debug('A retrieval was not cancelled: %s', error)


def collect(reply: etree._Element, found: Properties) -> str | None:
    """Add the objects of a RetrievePropertiesEx reply; its token, if any."""
    token = None
    with soap.understood('RetrievePropertiesEx'):
        for result in reply:
            for part in result:
                token = _part(part, found, any_value) or token
    return token


def _part(part: etree._Element, found: Properties, value: Value
          ) -> str | None:
    """Add an object of a RetrieveResult; or its token."""
    kind = etree.QName(part).localname
    if kind == 'token':
        return part.text
    if kind == 'objects':
        about = soap.ref(part[0])
        properties = found.setdefault(about, {})
        for entry in part.iterfind(f'{{{soap.VIM}}}propSet'):
            # The simulator's later pages may hold a name alone.
            if len(entry) > 1:
                path = entry[0].text or ''
                properties[path] = value(about.type, path, entry[1])
    return None


_RETURNED = f'{{{soap.VIM}}}returnval'
