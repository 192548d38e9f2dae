# SPDX-License-Identifier: Apache-2.0
"""What is known of a volume's shadow VM without asking the vCenter.

With ``vmware_lazy_create`` a new volume has no shadow VM yet, but its space
is promised. Every cinder-volume process must be able to distinguish "never
created" from "lost". So Cinder's database records the state in the volume's
``provider_id``, which upstream's driver leaves empty.
"""

from typing import Any

PROMISED = 'vmdk-ext:promised'
BACKED = 'vmdk-ext:backed'
DELETING = 'vmdk-ext:deleting'
# os-brick has the vCenter's credentials and may replace the disk. If it is
# broken off, the shadow VM has no disk.
LENT = 'vmdk-ext:lent'

# In these statuses of a volume no operation creates, moves or deletes its
# disk.
_AT_REST = frozenset({
    'available', 'in-use', 'error', 'reserved', 'maintenance',
    'error_extending', 'error_restoring', 'error_managing',
    'error_deleting', 'awaiting-transfer'})
_NOT_MIGRATING = (None, '', 'success', 'error')
# How the migration_status of the destination of a migration begins.
_TARGET = 'target:'


def is_promised(volume: Any) -> bool:
    """Whether the record says that the volume never had a backing."""
    return volume.get('provider_id') == PROMISED


def is_backed(volume: Any) -> bool:
    """Whether the record says that the volume has a backing.

    A volume whose deletion has begun has a backing until it is certain that
    the backing is gone, since a failed delete leaves the disk as it was.
    """
    return volume.get('provider_id') in (BACKED, DELETING, LENT)


def is_unknown(volume: Any) -> bool:
    """Whether nothing says if the volume has a backing.

    Upstream's driver made it, and this one found no backing at its start.
    """
    return (not volume.get('provider_id') and volume.get('status')
            not in ('creating', 'downloading'))


def is_deleting(volume: Any) -> bool:
    """Whether a deletion of the backing has begun."""
    return volume.get('provider_id') == DELETING


def is_lent(volume: Any) -> bool:
    """Whether os-brick may have left the shadow VM without its disk."""
    return volume.get('provider_id') == LENT


def is_at_rest(volume: Any) -> bool:
    """Whether no operation is creating, moving or deleting the disk."""
    return (volume.status in _AT_REST
            and volume.migration_status in _NOT_MIGRATING)


def migrates_from(volume: Any) -> str:
    """The volume of which Cinder makes this one a copy; '': of none.

    Other values of ``migration_status`` stay when a migration has ended.
    """
    mark = str(volume.get('migration_status') or '')
    return mark.partition(_TARGET)[2] if mark.startswith(_TARGET) else ''


def remember(volume: Any, state: str) -> None:
    """Save the state of a volume's backing in the database at once."""
    if hasattr(volume, 'save') and volume['provider_id'] != state:
        volume.provider_id = state
        if state == BACKED:
            # The place of its promise (volumes/datastore_selection.py).
            volume.provider_location = None
        volume.save()
