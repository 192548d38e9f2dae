# SPDX-License-Identifier: Apache-2.0
"""Moves a volume without a disk to a pool that can hold it.

Cinder's scheduler knows neither which datastores comply with a storage
policy, nor which can reserve I/O operations, nor which of them an instance's
host can use. So it may choose a pool that can never hold the volume, and its
retry would choose that pool again. Where a pool only lacks space, the retry
is enough.
"""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging
from oslo_utils import units

from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import promises
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.scheduling import reservations as space
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext import volume_rows
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.vsphere import references

LOG = logging.getLogger(__name__)

Needs = datastore_selection.Needs


class Compliance:
    """Corrects the pools of volumes before their disks are made."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 reservations: space.Reservations,
                 promised: promises.Promises) -> None:
        self._upstream = cinder
        self._selection = selection
        self._reservations = reservations
        self._promised = promised

    def settle(self, volume: Any, host: Any = None) -> None:
        """Give a volume without a disk a pool that may hold it.

        Nothing changes if a datastore of its pool meets the needs of its
        type, and ``host`` can use that datastore. Otherwise the
        volume's record names another pool of the backend at once, and the
        caller makes or promises the disk there. The target of a migration
        keeps the pool that was requested, but not that of a retype, for which
        the scheduler has chosen it.

        :param host: reference of the host that runs the instance; None: there
            is no instance
        :raises NoneComplies, NoneReserves: no datastore of the backend meets
            them
        :raises NoPlacement: with the reason for each datastore considered
        """
        source = state.migrates_from(volume)
        if source and volume['status'] == 'creating':
            # What Cinder has copied to its record is of the source's disk.
            records.change(volume, {'provider_id': None,
                                    'provider_location': None})
        if state.is_backed(volume) or (volume.get('migration_status')
                                       and not _is_retyped(source)):
            return
        needs = self._selection.needs(volume.get('volume_type_id'))
        if (needs is None and host is None
                or not self._selection.connected):
            return
        pool = self._selection.pool_of(volume)
        pinned = self._selection.pinned(pool) if pool is not None else None
        if pinned is None:
            return
        meets = self._meets(needs)
        if any(meets(moref) and self._is_seen(host, moref)
               for moref in pinned):
            return
        self._require_one(needs)
        self._move(volume, needs, host, self._selection.inventory())

    def forbids(self, needs: Needs, pool: str | None) -> bool:
        """Whether the needs of a volume type keep a disk from a pool.

        :raises NoneComplies, NoneReserves: from every pool of the backend
        """
        pinned = self._selection.pinned(pool) if pool is not None else None
        if pinned is None or any(map(self._meets(needs), pinned)):
            return False
        self._require_one(needs)
        return True

    def bars(self, needs: Needs, pool: str | None,
             datastore: Callable[[], str]) -> bool:
        """Whether the needs of a type keep a disk from its own datastore.

        Only a pool of several datastores (None: all) can have some that
        meet them and some that do not. Of others, see :meth:`forbids`.

        :param datastore: gives its moref; called only where it matters
        :raises NoneComplies, NoneReserves: from every pool of the backend
        """
        pinned = self._selection.pinned(pool) if pool is not None else None
        if ((pinned is not None and len(pinned) == 1)
                or self._meets(needs)(datastore())):
            return False
        self._require_one(needs)
        return True

    def pool_for(self, volume: Any, needs: Needs, type_id: str) -> str:
        """A pool that can promise a volume's space under another type.

        :raises NoPlacement: with the reason for each datastore considered
        """
        seen = self._selection.inventory()
        with self._counting_promises(seen):
            moref = self._chosen(volume, needs.policy, None, type_id)
        return pool_names.by_datastore(seen, self._selection.settings)[moref]

    def _require_one(self, needs: Needs | None) -> None:
        """:raises NoneComplies, NoneReserves: no datastore meets them"""
        policy, reservation = needs or (None, None)
        found = list(filter(self._complies(policy), _belonging(
            self._selection.inventory(), self._selection.settings)))
        if not found:
            raise exceptions.NoneComplies(policy or '')
        if reservation is not None and (
                reservation.datastores.isdisjoint(found)):
            raise exceptions.NoneReserves(str(reservation), policy)

    def _meets(self, needs: Needs | None) -> Callable[[str], bool]:
        """A function: whether a datastore (moref) meets the needs."""
        policy, reservation = needs or (None, None)
        complies = self._complies(policy)
        return lambda moref: complies(moref) and (
            reservation is None or moref in reservation.datastores)

    def _complies(self, policy: str | None) -> Callable[[str], bool]:
        """A function: whether a datastore (moref) complies with a policy."""
        return lambda moref: self._upstream.ds_sel.is_datastore_compliant(
            references.Ref('Datastore', moref), policy)

    def _is_seen(self, host: Any, moref: str) -> bool:
        return host is None or self._selection.is_seen_by(host,
                                                          lambda: moref)

    def _move(self, volume: Any, needs: Needs | None, host: Any,
              seen: model.Inventory) -> None:
        moref = self._choose(volume, needs and needs.policy, host, seen)
        pool = pool_names.by_datastore(
            seen, self._selection.settings)[moref]
        before = volume['host']
        promised = self._promised.of(volume)
        values = records.on_pool(volume, pool)
        if state.is_promised(volume):
            values |= self._selection.promised_place(values)
        if records.change(volume, values):
            self._promised.end(volume['id'], promised,
                               self._promised.of(volume))
            LOG.warning(
                'Volume %(volume)s: pool %(before)s was requested, which '
                '%(why)s; pool %(after)s is used.',
                {'volume': volume['id'], 'after': pool,
                 'before': volume_utils.extract_host(before, 'pool'),
                 'why': datastore_selection.missed(needs, host)})

    def _choose(self, volume: Any, policy: str | None, host: Any,
                seen: model.Inventory) -> str:
        """The datastore (moref) of the backend that the disk should go to.

        Its space is claimed or promised once the record names the pool.
        """
        choose = (self._promised_before if state.is_promised(volume)
                  else self._chosen)
        with self._counting_promises(seen):
            return choose(volume, policy, host)

    @contextlib.contextmanager
    def _counting_promises(self, seen: model.Inventory) -> Iterator[None]:
        """Count promised space, and each choice in the block, as used.

        A promise uses no space yet, but its volume will need it.
        """
        with self._reservations.trial():
            for promise, pool in pool_names.promised(
                    self._promised.all(), seen, self._selection.settings):
                self._reservations.claim(
                    pool.datastores[0].moref, promise.size_gib * units.Gi,
                    True, seen)
            yield

    def _chosen(self, volume: Any, policy: str | None, host: Any,
                type_id: str | None = None,
                must_fit: bool = True) -> str:
        """:param must_fit: whether the over-subscription ratio must be met"""
        with self._selection.selecting(
                None, type_id or volume.get('volume_type_id'),
                within_ratio=must_fit):
            _host, _pool, summary = self._upstream.select_datastore_for(
                volume['size'] * units.Gi, policy, host)
        return str(summary.datastore.value)

    def _promised_before(self, volume: Any, policy: str | None,
                         host: Any) -> str:
        """Choose for a volume whose space was promised long ago.

        It was made within the over-subscription ratio, which must not hinder
        its first attachment.
        """
        try:
            return self._chosen(volume, policy, host)
        except exceptions.NoPlacement:
            return self._chosen(volume, policy, host, must_fit=False)

    @contextlib.contextmanager
    def rehoming(self) -> Iterator[Callable[[Any], str]]:
        """Choose pools for volumes without a disk whose own pools are gone.

        Each choice counts the space of the choices before it.

        :returns: a function that returns a volume's pool, or raises
            NoPlacement
        """
        seen = self._selection.inventory()
        names = pool_names.by_datastore(seen, self._selection.settings)
        with self._counting_promises(seen):
            yield lambda volume: names[self._promised_before(
                volume, self._upstream.storage_profile(volume), None)]


def _is_retyped(volume_id: str) -> bool:
    """Whether Cinder is changing a volume's type; '' is none."""
    return bool(volume_id) and any(
        row.status == 'retyping'
        for row in volume_rows.volumes([volume_id]))


def _belonging(seen: model.Inventory,
               settings: model.Settings) -> list[str]:
    """Datastores (morefs) of the backend, also those unusable for now."""
    refused = eligibility.refusals(seen, settings)
    return [moref for moref in seen.datastores
            if moref not in refused or refused[moref].passing]
