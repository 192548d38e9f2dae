# SPDX-License-Identifier: Apache-2.0
"""Upstream's datastore selection, answered by the plugin's placement.

Upstream's words (``req``, ``summary``, resource pool, host references) come
in and go out here; behind it only the plugin's own values are used.
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


class Summary(NamedTuple):
    """What callers read of the summary of a chosen datastore."""

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
        """Choose where a disk goes.

        :param req: upstream's keys, and :data:`POOL` (its name), :data:`THIN`
            and :data:`ELSEWHERE`
        :param hosts: host references of which one must be able to use it
        :returns: references of the host and its resource pool, and the
            datastore's summary
        :raises UnknownPool: no datastore belongs to the pool
        :raises NoPlacement: with the reason for each datastore considered
        :raises ProfileNotFoundException: the storage policy does not exist
        """
        # Unlike statistics, a volume is worth waiting for: invoke_api repeats
        # a read that got no reply.
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
        """Claim the space that a disk takes which grows in this block.

        A block that fails has taken nothing.

        :param datastore: its moref
        """
        with self._books.operation():
            self._books.claim(datastore, size_bytes, thin,
                              self._reader.read())
            yield

    def is_datastore_compliant(self, datastore: Any,
                               profile_name: str | None) -> bool:
        """Whether a datastore complies with a storage policy.

        Without a policy every datastore does.

        :raises ProfileNotFoundException: the policy does not exist
        """
        if profile_name is None:
            return True
        self.get_profile_id(profile_name)
        return (datastore.value
                in self._directory.compliant_datastores(profile_name))

    def get_profile_id(self, profile_name: str) -> Any:
        """The PbmProfileId of a storage policy, from the directory.

        Upstream's method, which would ask by itself and keep the answer for
        good, has the last word on one that the directory does not know.

        :raises ProfileNotFoundException: it does not exist
        """
        return (self._directory.policy_id(profile_name)
                or super().get_profile_id(profile_name))

    def requirement(self, req: dict[str, Any],
                    hosts: Any = None) -> model.Requirement:
        """Upstream's request without its pool, as a plain value.

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
            policy=policy, compliant=compliant)


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
    """A datastore as upstream's callers expect its summary."""
    return Summary(datastore.name,
                   references.Ref('Datastore', datastore.moref),
                   datastore.type, datastore.capacity_bytes,
                   datastore.free_bytes)
