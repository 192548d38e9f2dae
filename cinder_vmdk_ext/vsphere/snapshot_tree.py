# SPDX-License-Identifier: Apache-2.0
"""A VM's tree of snapshots (the property ``VirtualMachine.snapshot``).

After a revert, or after the first snapshot was deleted, the tree may have
several roots.
"""

import datetime
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from lxml import etree

from cinder_vmdk_ext.vsphere import soap

_ROOT = soap.tag('rootSnapshotList')
_CHILD = soap.tag('childSnapshotList')
_MOREF = soap.tag('snapshot')
_NAME = soap.tag('name')
_DESCRIPTION = soap.tag('description')
_CREATE_TIME = soap.tag('createTime')
_CURRENT = soap.tag('currentSnapshot')


class Node(NamedTuple):
    """One snapshot (vSphere: VirtualMachineSnapshotTree)."""

    moref: str
    name: str
    description: str
    # Number of snapshots from the root to this one, itself included.
    depth: int
    create_time: str

    @property
    def created_at(self) -> datetime.datetime | None:
        """When it was taken; None: the vCenter does not say.

        :raises VimConnectionException: its value is not a time
        """
        if not self.create_time:
            return None
        try:
            found: datetime.datetime = soap.SCALARS['dateTime'](
                self.create_time)
        except soap.MALFORMED as error:
            raise soap.malformed('VirtualMachineSnapshotTree.createTime',
                                 error) from error
        return found


def nodes(tree: Any) -> list[Node]:
    """All snapshots in a VM's tree, parents before their children.

    :param tree: the property ``snapshot``; a value that is no element is an
        empty tree
    """
    return list(_below(tree, 1)) if isinstance(tree, etree._Element) else []


def current(tree: Any) -> Node | None:
    """The snapshot on which the VM's present state is based, if any."""
    found = nodes(tree)
    moref = tree.findtext(_CURRENT) if found else None
    return next((node for node in found if node.moref == moref), None)


def _below(element: etree._Element, depth: int) -> Iterator[Node]:
    for child in element.iterchildren(_ROOT, _CHILD):
        yield Node(child.findtext(_MOREF) or '', child.findtext(_NAME) or '',
                   child.findtext(_DESCRIPTION) or '', depth,
                   child.findtext(_CREATE_TIME) or '')
        yield from _below(child, depth + 1)
