# SPDX-License-Identifier: Apache-2.0
"""Names the instances that have volumes, from Cinder's attachments."""

import datetime
from collections.abc import Iterable
from typing import Any

from cinder import context as cinder_context
from cinder import objects

_A_PAGE = 20
# A change may become visible so much later than its time says: clocks differ,
# and a transaction takes a while.
_LATE = datetime.timedelta(seconds=60)


def moref_in(connector: Any) -> str:
    """The instance (moref) of Nova's connector; '': it names none."""
    return (connector or {}).get('instance') or ''


def of(volume: Any) -> Iterable[Any]:
    """A volume's attachments, as a plain list.

    The iterator of Cinder's own list takes ten times as long.
    """
    found = volume.volume_attachment
    return getattr(found, 'objects', found) or ()


def uuids_of(volumes: Iterable[Any]) -> set[str]:
    """The UUIDs of the instances that volumes are attached to."""
    return {each.instance_uuid for volume in volumes
            for each in of(volume) if each.instance_uuid}


def morefs_of(volumes: Iterable[Any]) -> set[str]:
    """The morefs of instances that volumes are attached to, if recorded.

    A connector's moref may be out of date. Who follows such a VM finds out,
    because it has another UUID.
    """
    return {moref_in(each.connector) for volume in volumes
            for each in of(volume) if each.instance_uuid} - {''}


class Recent:
    """Attachments that other services of a cluster have made."""

    def __init__(self) -> None:
        # The latest change that was seen; None: nothing was read yet.
        self._seen_at: Any = None

    def instances(self) -> set[str]:
        """The instances (morefs) of attachments that have changed.

        Makes one query, for the attachments that changed last, and one more
        for each page of changes since the previous call.
        """
        context = cinder_context.get_admin_context()
        found: set[str] = set()
        latest = self._seen_at
        before = latest and latest - _LATE
        offset = 0
        while True:
            page = list(objects.VolumeAttachmentList.get_all(
                context, limit=_A_PAGE, offset=offset,
                sort_keys=['updated_at'], sort_direction=['desc']))
            new = [each for each in page if each.updated_at is not None
                   and (before is None or each.updated_at >= before)]
            if new and not offset:
                latest = new[0].updated_at
            found |= {moref_in(each.connector) for each in new}
            if before is None or len(new) < _A_PAGE:
                # Before the first call, each volume was looked at.
                self._seen_at = latest
                return found - {''}
            offset += len(page)
