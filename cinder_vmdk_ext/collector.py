# SPDX-License-Identifier: Apache-2.0
"""Bulk reads through the vCenter's PropertyCollector."""

from collections.abc import Mapping
from typing import Any

from lxml import etree
from oslo_log import log as logging
from oslo_vmware import exceptions

from cinder_vmdk_ext import soap

LOG = logging.getLogger(__name__)

Properties = dict[soap.Ref, dict[str, Any]]


def read_all(session: Any, client: soap.Client,
             paths: Mapping[str, tuple[str, ...]],
             managers: Mapping[str, tuple[str, ...]] | None = None
             ) -> Properties:
    """Properties of all objects of some types, wherever they are.

    Takes three calls (CreateContainerView, RetrievePropertiesEx,
    DestroyView), whatever the size, unless the vCenter itself splits the
    reply into pages. A session that was lost is replaced once, at once; a
    vCenter that does not answer is an error at once, since oslo.vmware's own
    repetition would wait for it without end.

    :param paths: property paths by managed type
    :param managers: and those of objects that the ServiceContent names, by
        their names there
    :returns: ``{reference: {path: value}}``; absent properties are left out
    :raises VimFaultException, VimConnectionException: as oslo.vmware does
    """
    try:
        return _read(session, client, paths, managers or {})
    except exceptions.VimFaultException as fault:
        if exceptions.NOT_AUTHENTICATED not in fault.fault_list:
            raise
    # It has just answered, so this login does not wait for ever.
    session._create_session()
    return _read(session, client, paths, managers or {})


def _read(session: Any, client: soap.Client,
          paths: Mapping[str, tuple[str, ...]],
          managers: Mapping[str, tuple[str, ...]]) -> Properties:
    content = session.vim.service_content
    reply = client.call(
        'CreateContainerView', soap.from_suds(content.viewManager), {
            'container': soap.from_suds(content.rootFolder),
            'type': list(paths), 'recursive': True})
    view = soap.ref(reply[0])
    try:
        return _retrieve(client, soap.from_suds(content.propertyCollector),
                         soap.view_filter(view, paths,
                                          named(content, managers)))
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
              filter_spec: soap.Typed) -> Properties:
    found: Properties = {}
    reply = client.call('RetrievePropertiesEx', property_collector, {
        'specSet': filter_spec, 'options': soap.Typed('', {})})
    while (token := collect(reply, found)) is not None:
        try:
            reply = client.call('ContinueRetrievePropertiesEx',
                                property_collector, {'token': token})
        except exceptions.VMwareDriverException:
            _cancel(client, property_collector, token)
            raise
    return found


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
    for result in reply:
        for part in result:
            kind = etree.QName(part).localname
            if kind == 'token':
                token = part.text
            elif kind == 'objects':
                properties = found.setdefault(soap.ref(part[0]), {})
                for entry in part.iterfind(f'{{{soap.VIM}}}propSet'):
                    # The simulator's later pages may hold a name alone.
                    if len(entry) > 1:
                        properties[entry[0].text or ''] = soap.value(entry[1])
    return token
