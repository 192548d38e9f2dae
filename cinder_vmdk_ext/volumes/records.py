# SPDX-License-Identifier: Apache-2.0
"""What Cinder's record says of where a volume is, and how it is put right.

Several services may write at once: a record is changed only if it still says
what was read of it, so that nobody undoes what another has just done.
"""

from typing import Any

from cinder.volume import volume_utils

# Of volumes in another state an operation is under way, which itself knows
# where the disk goes.
_AT_REST = frozenset({
    'available', 'in-use', 'error', 'reserved', 'maintenance',
    'error_extending', 'error_restoring', 'error_managing',
    'awaiting-transfer'})
_NOT_MIGRATING = (None, '', 'success', 'error')


def is_at_rest(volume: Any) -> bool:
    """Whether no operation is under way that makes, moves or deletes it."""
    return (volume.status in _AT_REST
            and volume.migration_status in _NOT_MIGRATING)


def on_pool(volume: Any, pool: str) -> dict[str, str]:
    """The fields that say where a volume is, for one on a pool.

    In a cluster two of them name the pool.
    """
    return {field: volume_utils.append_host(
                volume_utils.extract_host(volume[field], 'backend'), pool)
            for field in ('host', 'cluster_name') if volume[field]}


def says(volume: Any, values: dict[str, Any]) -> bool:
    """Whether a record says so already."""
    return all(volume[field] == value for field, value in values.items())


def change(volume: Any, values: dict[str, Any]) -> bool:
    """Change a volume's record at once, if it is as it was read.

    :returns: whether it was changed; False: it differs by now, or is gone
    """
    expected = {field: volume[field]
                for field in ('status', 'migration_status', *values)}
    return bool(volume.conditional_update(values, expected))
