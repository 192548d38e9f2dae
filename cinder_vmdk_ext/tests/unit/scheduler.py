# SPDX-License-Identifier: Apache-2.0
"""Cinder's real scheduler code, with the input of a running Cinder."""

import logging

from oslo_serialization import jsonutils
from oslo_utils import timeutils

from cinder.scheduler.filters import capacity_filter
from cinder.scheduler import host_manager
from cinder.scheduler import weights
from cinder.scheduler.weights import capacity

BACKEND = 'cinder-1@vmdk'

# It warns of every pool that it refuses, and here that is thousands.
logging.getLogger('cinder.scheduler').setLevel(logging.CRITICAL)


def pool_states(stats, backend_state=None):
    """The scheduler's view of a backend after it has read its report.

    :param backend_state: the view from an earlier report, to be updated
    """
    if backend_state is None:
        backend_state = host_manager.BackendState(BACKEND, None)
    # A report reaches the scheduler as JSON.
    capability = jsonutils.loads(jsonutils.dumps(stats))
    capability['timestamp'] = timeutils.utcnow()
    backend_state.update_from_volume_capability(capability)
    return backend_state.pools


def request(size_gib, *, thick=False):
    """To create a volume of a size; 0 is to manage one that exists."""
    specs = {'provisioning:type': 'thick'} if thick else {}
    return {'size': size_gib, 'volume_type': {'extra_specs': specs},
            'request_spec': {'volume_id': 'an-id'}}


def extension(from_gib, to_gib):
    return request(from_gib) | {'new_size': to_gib}


def passes(pool, wanted):
    return capacity_filter.CapacityFilter().backend_passes(pool, wanted)


def weigh(pools, wanted):
    """The pools, the one that the scheduler takes first."""
    handler = weights.OrderedHostWeightHandler('cinder.scheduler.weights')
    return [each.obj for each in handler.get_weighed_objects(
        [capacity.CapacityWeigher], list(pools), wanted)]
