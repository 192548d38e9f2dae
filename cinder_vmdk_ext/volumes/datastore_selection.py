# SPDX-License-Identifier: Apache-2.0
"""Selects the datastore for a volume's disk by the volume's pool and type.

Upstream selects datastores deep inside its methods, where it knows neither
the volume nor its pool. So their requirements are put into the operation
(:class:`cinder_vmdk_ext.operation.Selection`) before upstream is called, and
are added to upstream's request when it selects.

Cinder knows a pool by its name. After a datastore was renamed or removed, a
newer datastore may have its name. So the ``provider_location`` of a promised
volume, which upstream's driver leaves empty, records the identity of the pool
that promises its space.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from typing import NamedTuple

from oslo_utils import units

from cinder import context as cinder_context
from cinder.volume import volume_types
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext import operation
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.scheduling import qos_specs
from cinder_vmdk_ext.scheduling import selector
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.vsphere import storage_policies

# Where a volume type that an operation has read keeps its QoS specs, and the
# datastores that can reserve what these ask for.
_QOS_SPECS = 'vmdk_ext_qos_specs'
_RESERVATION = 'vmdk_ext_reservation'


class Needs(NamedTuple):
    """What a volume type asks of a datastore beside space."""

    policy: str | None  # the storage policy's name
    reservation: model.Reservation | None


def missed(needs: Needs | None, host: Any = None) -> str:
    """What a pool lacks that does not meet the needs, for a log line.

    :param host: the instance's, that could not use the pool; None: none
    """
    policy, reservation = needs or (None, None)
    reasons = []
    if policy is not None:
        reasons.append(f'does not comply with storage policy {policy!r}')
    if reservation is not None:
        reasons.append(f'cannot have {reservation}')
    if host is not None:
        reasons.append("is out of reach of the instance's host")
    return ' or '.join(reasons)


def read_type(type_id: str) -> dict[str, Any]:
    """A volume type (volume_types.get_volume_type).

    An operation reads it once: a query takes milliseconds, and upstream's
    methods and ours ask for its specs many times.

    :raises VolumeTypeNotFound: Cinder has no such type
    """
    known = operation.current().types
    found: dict[str, Any] | None = (None if known is None
                                    else known.get(type_id))
    if found is None:
        found = volume_types.get_volume_type(
            cinder_context.get_admin_context(), type_id)
        if known is not None:
            known[type_id] = found
    return found


def read_qos_specs(type_id: str | None) -> dict[str, Any] | None:
    """The QoS specs of a volume type, as Cinder has them.

    An operation reads them once, like the type.
    """
    return qos_specs_of(read_type(type_id)) if type_id else None


def qos_specs_of(known: dict[str, Any]) -> dict[str, Any] | None:
    """As :func:`read_qos_specs`, of a type that was read (:func:`read_type`).
    """
    if not known['qos_specs_id']:
        return None
    if _QOS_SPECS not in known:
        known[_QOS_SPECS] = volume_types.get_volume_type_qos_specs(
            known['id'])['qos_specs']
    found: dict[str, Any] | None = known[_QOS_SPECS]
    return found


class DatastoreSelection:
    """Applies pools, volume types and the inventory to one volume."""

    def __init__(self, cinder: upstream.Upstream) -> None:
        self._upstream = cinder
        # Until the options are read: one pool, as upstream.
        self.settings = model.Settings('', datastore_pools=False)
        self._reader: inventory_reader.InventorySource | None = None
        self._directory: storage_policies.PolicyDirectory | None = None

    def connect(self, reader: inventory_reader.InventorySource,
                directory: storage_policies.PolicyDirectory) -> None:
        """Use the inventory and the policies of a new session."""
        self._reader = reader
        self._directory = directory

    @property
    def connected(self) -> bool:
        """Whether there is a session whose inventory can be read."""
        return self._reader is not None

    def inventory(self) -> model.Inventory:
        """The present inventory; unlike statistics, this waits for it.

        :raises VimFaultException, VimConnectionException: by oslo.vmware
        """
        return self._upstream.session.invoke_api(self._reader, 'read')

    # -- Pools --------------------------------------------------------------

    def scheduled_pool(self, volume: Any) -> str | None:
        """The pool in a volume's host; None where pools are not used."""
        if not self.settings.datastore_pools:
            return None
        return volume_utils.extract_host(volume.get('host') or '',
                                         'pool')

    def pool_of(self, volume: Any) -> str | None:
        """The volume's pool, by its present name.

        :raises PromiseLost: the pool of a promised volume is gone
        """
        pool = self.scheduled_pool(volume)
        place = volume.get('provider_location')
        if pool is None or not place or not state.is_promised(volume):
            return pool
        found = pool_names.identified(place, self.inventory(), self.settings)
        if found is None:
            raise exceptions.PromiseLost(volume['id'], pool, place)
        return found.name

    def promised_place(self, record: Any) -> dict[str, Any]:
        """The update that records the pool that promises a volume's space.

        :param record: its ``host`` names the pool
        """
        if not self.settings.datastore_pools:
            return {}
        pool = volume_utils.extract_host(record['host'], 'pool')
        found = (pool_names.resolve(pool, self.inventory(), self.settings)
                 if pool else None)
        return {'provider_location':
                pool_names.identity(found) if found else None}

    def pinned(self, pool: str) -> frozenset[str] | None:
        """The datastores (morefs) of a pool; None: any datastore.

        :raises UnknownPool: no datastore belongs to it
        """
        return selector.pinned(pool, self.inventory(), self.settings)

    def is_elsewhere(self, volume: Any, host: Any) -> bool:
        """Whether a destination is a pool of another backend.

        :param host: its ``host['host']`` names the backend and the pool
        """
        ours = volume.get('host')
        return bool(ours and volume_utils.extract_host(ours, 'backend')
                    != volume_utils.extract_host(host['host'], 'backend'))

    def has_datastores(self, pool: str | None) -> bool:
        """Whether a pool of this vCenter has this name."""
        return pool is not None and pool_names.resolve(
            pool, self.inventory(), self.settings) is not None

    def is_on(self, pool: str | None, datastore: Callable[[], str]) -> bool:
        """Whether a datastore belongs to a pool; None is any pool.

        :param datastore: gives its moref; called only where it matters
        """
        pinned = self.pinned(pool) if pool is not None else None
        return pinned is None or datastore() in pinned

    def is_seen_by(self, host: Any, datastore: Callable[[], str]) -> bool:
        """Whether a host can use a datastore that is accessible.

        :param datastore: gives its moref
        """
        if self._reader is None:
            return False
        moref = datastore()
        known = self.inventory().datastores.get(moref)
        return (known is not None and known.accessible
                and host.value in known.usable_hosts)

    # -- Selecting ----------------------------------------------------------

    @staticmethod
    def selecting(pool: str | None, type_id: str | None,
                  excluded: tuple[str, ...] = (), elsewhere: bool = False,
                  within_ratio: bool = False
                  ) -> AbstractContextManager[operation.Operation]:
        """Make every selection in this block obey a pool and a type.

        :param type_id: of the volume type
        :param excluded: datastores (morefs) that must not be selected
        :param elsewhere: the pool belongs to another backend
        :param within_ratio: whether a thin disk must not exceed the
            over-subscription ratio of its datastore, as the scheduler ensures
            for the pool that it chooses
        """
        return operation.scope(selection=operation.Selection(
            pool, type_id, excluded, elsewhere, within_ratio))

    def select_for_volume(self, volume: Any, host: Any = None,
                          create_params: Any = None) -> Any:
        """Select where to create a volume's shadow VM (upstream's seam).

        :returns: host, resource pool, folder and the datastore's summary
        """
        size_gib = (create_params or {}).get(upstream.CREATE_PARAM_DISK_SIZE)
        # A size is given only for a disk that may go to any pool.
        pool = self.pool_of(volume) if size_gib is None else None
        with self.selecting(pool, volume.get('volume_type_id')):
            (found, resource_pool, summary) = (
                self._upstream.select_datastore_of(
                    volume, units.Gi * (
                        volume['size'] if size_gib is None else size_gib),
                    host))
        folder = self._upstream.volume_folder(
            self._upstream.datacenter_of(resource_pool), volume['project_id'])
        return found, resource_pool, folder, summary

    def select(self, req: dict[str, Any], host: Any = None) -> Any:
        """Select where a disk goes, for the operation (upstream's seam).

        :returns: host, resource pool and the datastore's summary
        """
        wanted = operation.current().selection
        if wanted is not None and self._reader is not None:
            known = read_type(wanted.type_id) if wanted.type_id else None
            req = req | {
                selector.RESERVATION: known and self._reservation(known),
                selector.THIN: extra_specs.is_thin(
                    known and known['extra_specs'] or {}),
                selector.WITHIN_RATIO: wanted.within_ratio}
            if wanted.excluded:
                req[upstream.EXCLUDED_DATASTORES] = list(wanted.excluded)
            if wanted.pool is not None:
                req[selector.POOL] = wanted.pool
                req[selector.ELSEWHERE] = wanted.elsewhere
        return self._upstream.original.select_datastore(req, host)

    def near(self, volume: Any, select: Callable[[], Any],
             excluded: tuple[str, ...] = ()) -> Any:
        """Select a datastore of the volume's pool; if none fits, any."""
        for pool in (self.pool_of(volume), None):
            try:
                with self.selecting(pool, volume.get('volume_type_id'),
                                    excluded):
                    return select()
            except exceptions.NoPlacement:
                if pool is None:
                    raise

    # -- Volume types -------------------------------------------------------

    def check_specs(self, type_id: str) -> dict[str, Any]:
        """Refuse extra specs that name something that does not exist.

        :returns: the volume type (:func:`read_type`)
        :raises InvalidExtraSpec: names the key and its value
        """
        known = read_type(type_id)
        if self._directory is not None:
            found = known['extra_specs'] or {}
            extra_specs.check(found, functools.partial(
                self._directory.names, found.get(extra_specs.POLICY)))
        return known

    def specs(self, volume: Any) -> dict[str, str]:
        """The extra specs of a volume's type."""
        return self.specs_of(volume.get('volume_type_id'))

    def needs(self, type_id: str | None) -> Needs | None:
        """What a volume type asks of a datastore beside space; None: nothing.

        Of a reservation that the QoS specs ask for wrongly it says nothing:
        the operations that set it refuse it.
        """
        if not type_id:
            return None
        known = read_type(type_id)
        policy = (known['extra_specs'] or {}).get(extra_specs.POLICY) or None
        reservation = self._reservation(known)
        if policy is None and reservation is None:
            return None
        return Needs(policy, reservation)

    def _reservation(self, known: dict[str, Any]) -> model.Reservation | None:
        """What a volume type's QoS specs reserve, and where that is possible.

        An operation asks the vCenter once.

        :param known: the type, as :func:`read_type` has it
        :returns: None: they reserve nothing, or are wrong
        """
        specs = qos_specs_of(known) if self.connected else None
        if specs is None:
            return None
        try:
            asked = qos_specs.of_type(specs)
        except exceptions.InvalidQosSpec:
            return None
        if asked is None or not asked.reservation:
            return None
        if _RESERVATION not in known:
            known[_RESERVATION] = model.Reservation(
                asked.reservation, self._upstream.volumeops.reserving(
                    self.inventory().datastores))
        found: model.Reservation = known[_RESERVATION]
        return found

    @staticmethod
    def specs_of(type_id: str | None) -> dict[str, str]:
        """The extra specs of a volume type."""
        return read_type(type_id)['extra_specs'] or {} if type_id else {}

    def storage_profile_id(self, volume: Any) -> str | None:
        """Id of the type's storage policy, from the cache."""
        if self._directory is None:
            return self._upstream.original.storage_profile_id(volume)
        name = self.specs(volume).get(extra_specs.POLICY)
        found = self._directory.policy_id(name) if name else None
        return found.uniqueId if found is not None else None

    def policy_id(self, name: str | None) -> str | None:
        """Id of a storage policy by its name.

        :raises ProfileNotFoundException: no policy has that name
        """
        if not name:
            return None
        policy_id: str = self._upstream.ds_sel.get_profile_id(name).uniqueId
        return policy_id
