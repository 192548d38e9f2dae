# SPDX-License-Identifier: Apache-2.0
"""Implements upstream's datastore selection by the plugin's placement.

It translates upstream's values (``req``, ``summary``, references of resource
pools and hosts) to and from the plugin's own; all other modules of
``scheduling/`` use only the plugin's own.
"""

import contextlib
import dataclasses
import operator
import random
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging

from cinder.volume.drivers.vmware import datastore as upstream
from cinder.volume.drivers.vmware import exceptions as upstream_errors

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.scheduling import reservations
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import storage_policies

LOG = logging.getLogger(__name__)

# Keys that the plugin adds to upstream's ``req``.
POOL = 'pool'
THIN = 'thinProvisioned'
ELSEWHERE = 'poolOfAnotherBackend'
WITHIN_RATIO = 'withinOverSubscriptionRatio'
RESERVATION = 'reservation'


class Summary(NamedTuple):
    """The properties of a chosen datastore's summary that callers read."""

    name: str
    datastore: Any
    type: str
    capacity: int
    freeSpace: int
    accessible: bool = True
    maintenanceMode: str = 'normal'


class DatastoreSelector(upstream.DatastoreSelector):
    """Chooses by :func:`cinder_vmdk_ext.scheduling.placement.place`."""

    def __init__(self, vops: Any, session: Any, max_objects: int,
                 ds_regex: Any = None, *,
                 reader: inventory_reader.InventorySource,
                 directory: storage_policies.PolicyDirectory,
                 settings: model.Settings,
                 books: reservations.Reservations) -> None:
        super().__init__(vops, session, max_objects, ds_regex=ds_regex)
        self._books = books
        self._reader = reader
        self._directory = directory
        self._settings = settings

    def select_datastore(self, req: dict[str, Any], hosts: Any = None
                         ) -> tuple[Any, Any, Summary]:
        """Choose the datastore and the host for a disk, and claim the space.

        :param req: upstream's keys, and :data:`POOL` (the pool's name),
            :data:`THIN`, :data:`ELSEWHERE`, :data:`WITHIN_RATIO` and
            :data:`RESERVATION`
        :param hosts: references of hosts, at least one of which must be able
            to use the datastore
        :returns: references of the host and its resource pool, and the
            datastore's summary
        :raises UnknownPool: no datastore belongs to the pool
        :raises NoPlacement: with the reason for each datastore considered
        :raises ProfileNotFoundException: the storage policy does not exist
        """
        # An operation on a volume may wait, unlike a report: invoke_api
        # repeats a read that got no reply.
        seen = self._session.invoke_api(self._reader, 'read')
        requirement = self.requirement(req, hosts)
        if POOL in req:
            requirement = dataclasses.replace(
                requirement, pinned=pinned(req[POOL], seen, self._settings))
        LOG.debug('Looking for a datastore for %s.', requirement)
        settings = (self._settings.elsewhere() if req.get(ELSEWHERE)
                    else self._settings)
        chosen = self._books.place(requirement, seen, settings,
                                   random.choice)
        if not isinstance(chosen, model.Placement):
            raise exceptions.NoPlacement(str(requirement), chosen)
        LOG.debug('Chose datastore %(datastore)s and host %(host)s for '
                  '%(requirement)s.',
                  {'datastore': chosen.datastore.name,
                   'host': chosen.host.name, 'requirement': requirement})
        return (references.Ref('HostSystem', chosen.host.moref),
                references.Ref('ResourcePool', chosen.resource_pool),
                summary(chosen.datastore))

    @contextlib.contextmanager
    def growing(self, datastore: str, size_bytes: int,
                thin: bool) -> Iterator[None]:
        """Claim the space for a disk that grows in this block.

        If the block fails, the claim is cancelled, unless the outcome is
        unknown.

        :param datastore: moref of the disk's datastore
        :param size_bytes: by how much it grows
        """
        with self._books.operation():
            self._books.claim(datastore, size_bytes, thin,
                              self._reader.read())
            yield

    def is_datastore_compliant(self, datastore: Any,
                               profile_name: str | None) -> bool:
        """Whether a datastore complies with a storage policy.

        Every datastore does if ``profile_name`` is None.

        :raises ProfileNotFoundException: the policy does not exist
        """
        if profile_name is None:
            return True
        self.get_profile_id(profile_name)
        return (datastore.value
                in self._directory.compliant_datastores(profile_name))

    def get_profile_id(self, profile_name: str) -> Any:
        """The PbmProfileId of a storage policy, from the directory.

        Upstream's method is called only for a policy that the directory does
        not know, because it keeps each answer for ever.

        :raises UnknownPolicy: it does not exist
        """
        found = self._directory.policy_id(profile_name)
        if found is not None:
            return found
        try:
            return super().get_profile_id(profile_name)
        except upstream_errors.ProfileNotFoundException:
            raise exceptions.UnknownPolicy(profile_name) from None

    def requirement(self, req: dict[str, Any],
                    hosts: Any = None) -> model.Requirement:
        """Convert upstream's request, without its pool, to a plain value.

        See :meth:`select_datastore`.

        :raises ProfileNotFoundException: the storage policy does not exist
        """
        policy = req.get(self.PROFILE_NAME)
        compliant = None
        if policy is not None:
            self.get_profile_id(policy)
            compliant = self._directory.compliant_datastores(policy)
        types = req.get(self.HARD_AFFINITY_DS_TYPE)
        return model.Requirement(
            size_bytes=req[self.SIZE_BYTES],
            thin=req.get(THIN, False),
            hosts=frozenset(host.value for host in hosts)
            if hosts else None,
            excluded=frozenset(req.get(self.HARD_ANTI_AFFINITY_DS) or ()),
            types=frozenset(types) if types is not None else None,
            policy=policy, compliant=compliant,
            reservation=req.get(RESERVATION),
            within_ratio=req.get(WITHIN_RATIO, False))


def pinned(pool: str, inventory: model.Inventory,
           settings: model.Settings) -> frozenset[str] | None:
    """The datastores (morefs) of a pool; None: any.

    :raises UnknownPool: no datastore belongs to it
    """
    found = pool_names.resolve(pool, inventory, settings)
    if found is not None:
        return frozenset(map(operator.attrgetter('moref'), found.datastores))
    if settings.stands_for_backend(pool):
        return None  # the single pool that upstream's driver reports
    known = {each.name: 'there'
             for each in pool_names.listed(inventory, settings)}
    raise exceptions.UnknownPool(
        pool, known | pool_stats.ineligible_names(inventory, settings))


def summary(datastore: model.Datastore) -> Summary:
    """A datastore's summary, in the form that upstream's callers read."""
    return Summary(datastore.name,
                   references.Ref('Datastore', datastore.moref),
                   datastore.type, datastore.capacity_bytes,
                   datastore.free_bytes)
