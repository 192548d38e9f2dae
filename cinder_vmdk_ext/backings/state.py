# SPDX-License-Identifier: Apache-2.0
"""What is known of a volume's shadow VM without asking the vCenter.

With ``vmware_lazy_create`` a new volume has no shadow VM yet. Its space is
promised all the same, and "never made" must be distinguished from "lost"
reliably, by any cinder-volume process; so the volume's ``provider_id``, which
upstream's driver leaves empty, records it in Cinder's database.
"""

from typing import Any

PROMISED = 'vmdk-ext:promised'
BACKED = 'vmdk-ext:backed'
DELETING = 'vmdk-ext:deleting'

# The statuses of a volume in which no operation is under way that creates,
# moves or deletes its disk.
_AT_REST = frozenset({
    'available', 'in-use', 'error', 'reserved', 'maintenance',
    'error_extending', 'error_restoring', 'error_managing',
    'error_deleting', 'awaiting-transfer'})
_NOT_MIGRATING = (None, '', 'success', 'error')


def is_promised(volume: Any) -> bool:
    """Whether the volume is known never to have had a backing."""
    return volume.get('provider_id') == PROMISED


def is_backed(volume: Any) -> bool:
    """Whether the volume is known to have been given a backing.

    One whose deletion has begun has one, until it is certain that it has
    none: a delete that fails leaves the disk as it was.
    """
    return volume.get('provider_id') in (BACKED, DELETING)


def is_deleting(volume: Any) -> bool:
    """Whether a deletion of the backing has begun."""
    return volume.get('provider_id') == DELETING


def is_at_rest(volume: Any) -> bool:
    """Whether no operation is under way that creates, moves or deletes it."""
    return (volume.status in _AT_REST
            and volume.migration_status in _NOT_MIGRATING)


def remember(volume: Any, state: str) -> None:
    """Write down, at once, what is known of a volume's backing."""
    if hasattr(volume, 'save') and volume['provider_id'] != state:
        volume.provider_id = state
        if state == BACKED:
            # Where its space was promised (volumes/datastore_selection.py).
            volume.provider_location = None
        volume.save()
