# SPDX-License-Identifier: Apache-2.0
"""Volumes that exist in Cinder only, until they are first used.

With ``vmware_lazy_create`` a new volume has no shadow VM yet. Its space is
promised all the same, and "never made" must be told apart from "lost" for
certain, by any cinder-volume process; so the volume's ``provider_id``, which
upstream's driver leaves empty, records it in Cinder's database.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

PROMISED = 'vmdk-ext:promised'
BACKED = 'vmdk-ext:backed'
DELETING = 'vmdk-ext:deleting'


def promised_gib(host: str | None, cluster_name: str | None
                 ) -> Mapping[str, int]:
    """GiB of a backend's volumes that have no backing yet, by pool name.

    One query, whose result holds those volumes alone.
    """
    filters = {'provider_id': PROMISED}
    if cluster_name:
        filters['cluster_name'] = cluster_name
    elif host:
        filters['host'] = host
    sizes: Counter[str] = Counter()
    for volume in objects.VolumeList.get_all(
            cinder_context.get_admin_context(), filters=filters):
        sizes[volume_utils.extract_host(volume.host, 'pool',
                                        True) or ''] += volume.size
    return sizes


def is_promised(volume: Any) -> bool:
    """Whether the volume is known never to have had a backing."""
    return _get(volume, 'provider_id') == PROMISED


def is_backed(volume: Any) -> bool:
    """Whether the volume is known to have been given a backing."""
    return _get(volume, 'provider_id') == BACKED


def remember(volume: Any, state: str) -> None:
    """Write down, at once, what is known of a volume's backing."""
    if hasattr(volume, 'save') and volume['provider_id'] != state:
        volume.provider_id = state
        volume.save()


def _get(volume: Any, field: str) -> Any:
    try:
        return volume[field]
    except KeyError:
        return None
