# SPDX-License-Identifier: Apache-2.0
"""Keeps the claims of space of this service's operations.

A vCenter's figures are minutes old, and operations that run at the same time
all see the same figures. Without claims they would all choose the same
datastore, and a report would show the scheduler space that it has already
allocated.
"""

import contextlib
import dataclasses
import itertools
import operator
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext import operation
from cinder_vmdk_ext.scheduling import claims
from cinder_vmdk_ext.scheduling import placement

# A claim is dropped this long after the end of its operation, if the figures
# never include it. A vCenter updates its figures more often than this.
KEEP_SECONDS = 1800.0
# How long the notice of new figures may take, for example after a
# datastore's refresh.
NOTICE_SECONDS = 10.0

# Claims by their datastores (morefs).
_Claimed = Mapping[str, Sequence[claims.Claim]]
_NO_CLAIMS: _Claimed = {}


class Claims:
    """The space that one operation of the driver has claimed."""

    def __init__(self, parent: 'Claims | None', volume_id: str = '',
                 is_trial: bool = False) -> None:
        self.parent = parent
        # Whether the claims count for this operation alone.
        self.is_trial: bool = is_trial or (parent is not None
                                           and parent.is_trial)
        self.volume_id: str = volume_id or (parent.volume_id if parent
                                            else '')
        self.claims: list[claims.Claim] = []
        self.refused: frozenset[str] = (parent.refused if parent
                                        else frozenset())
        # Whether the volume's pool complies with its storage policy, or was
        # changed so that it does (volumes/compliance.py).
        self.settled: bool = parent is not None and parent.settled

    @property
    def datastores(self) -> frozenset[str]:
        """The datastores (morefs) on which it has claimed space."""
        return frozenset(claim.datastore for claim in self.claims)

    def tried(self) -> dict[str, list[claims.Claim]]:
        """The claims of a trial by their datastores (morefs), oldest first.
        """
        found: dict[str, list[claims.Claim]] = {}
        if self.is_trial:
            if self.parent is not None:
                found = self.parent.tried()
            for claim in self.claims:
                found.setdefault(claim.datastore, []).append(claim)
        return found


class _Looked(NamedTuple):
    """Figures of a storage, and when they were read."""

    known: model.Datastore
    at: float


class Reservations:
    """The claims on one vCenter in this process. Safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # By the datastore's moref, the oldest first; no empty lists.
        self._claims: dict[str, list[claims.Claim]] = {}
        # All by the datastore's moref: the figures of those with claims; when
        # an operation last changed it; when its last refresh began and ended.
        self._looked: dict[str, _Looked] = {}
        self._changed: dict[str, float] = {}
        self._refreshed: dict[str, tuple[float, float]] = {}
        # Datastores (morefs) whose claims became fewer since they were last
        # compared with the figures: these may include another claim now.
        self._recheck: set[str] = set()
        self._numbers = itertools.count()
        self._on_change: Callable[[], None] = lambda: None

    # -- Operations ---------------------------------------------------------

    @contextlib.contextmanager
    def operation(self, refused: frozenset[str] = frozenset(),
                  volume_id: str = '') -> Iterator[Claims]:
        """Hold the claims of this block until the vCenter's figures show them.

        If the block fails, its claims are cancelled, unless the outcome is
        unknown. Blocks may be nested; a claim is held until the outermost
        block ends, and from then on until the figures include it.

        :param refused: datastores (morefs) that must not be chosen
        :param volume_id: id of the volume of the operation
        """
        held = Claims(operation.current().claims, volume_id)
        held.refused |= refused
        with operation.scope(claims=held):
            try:
                yield held
            except exceptions.OutcomeUnknown:
                self._end(held)
                raise
            except BaseException:
                self._cancel(held)
                raise
            else:
                self._end(held)

    @contextlib.contextmanager
    def trial(self) -> Iterator[None]:
        """Select datastores in this block without taking their space.

        What is selected here counts until its end, for this block alone.
        """
        with operation.scope(claims=Claims(operation.current().claims,
                                           is_trial=True)):
            yield

    def place(self, requirement: model.Requirement,
              inventory: model.Inventory, settings: model.Settings,
              tie_break: placement.TieBreak
              ) -> model.Placement | dict[str, str]:
        """As :func:`placement.place`, with the claims deducted.

        The space is claimed for the current operation. Outside of one, the
        claim counts as that of an operation that has ended.
        """
        held = operation.current().claims
        if held is not None and held.refused:
            requirement = dataclasses.replace(
                requirement,
                excluded=requirement.excluded | held.refused)
        with self._lock:
            self._drop_old()
            chosen = placement.place(
                requirement, self._for_placement(
                    inventory, requirement, settings,
                    held.tried() if held is not None else {}),
                settings, tie_break)
            if not isinstance(chosen, model.Placement):
                return chosen
            datastore = inventory.datastores[chosen.datastore.moref]
            self._add(datastore, requirement.size_bytes, requirement.thin,
                      inventory, held)
        return dataclasses.replace(chosen, datastore=datastore)

    def claim(self, moref: str, size_bytes: int, thin: bool,
              inventory: model.Inventory) -> None:
        """Claim space on a disk's datastore as it grows, like :meth:`place`.

        :param moref: of the datastore; if it is unknown, nothing is claimed
        """
        datastore = inventory.datastores.get(moref)
        if datastore is not None:
            with self._lock:
                self._add(datastore, size_bytes, thin, inventory,
                          operation.current().claims)

    def _add(self, datastore: model.Datastore, size_bytes: int, thin: bool,
             inventory: model.Inventory, held: Claims | None) -> None:
        now = self._clock()
        known = claims.storage(datastore, inventory)
        claim = claims.Claim(datastore.moref, size_bytes, thin,
                             known.free_bytes, known.provisioned_bytes,
                             held.volume_id if held else '',
                             number=next(self._numbers))
        if held is not None and held.is_trial:
            held.claims.append(claim)
            return
        self._claims.setdefault(datastore.moref, []).append(claim)
        self._looked.setdefault(datastore.moref, _Looked(known, now))
        if held is None:
            claim.ended_at = self._changed[datastore.moref] = now
            self._on_change()
        else:
            held.claims.append(claim)

    def touch(self, moref: str) -> None:
        """Note that a disk on a datastore was deleted or changed."""
        with self._lock:
            self._changed[moref] = self._clock()
        self._on_change()

    def _end(self, ended: Claims) -> None:
        if ended.parent is not None:
            ended.parent.claims += ended.claims
            return
        with self._lock:
            for claim in ended.claims:
                claim.ended_at = self._changed[
                    claim.datastore] = self._clock()
        if ended.claims:
            self._on_change()

    def _cancel(self, cancelled: Claims) -> None:
        with self._lock:
            self._remove(cancelled.claims)

    # -- What the vCenter shows ---------------------------------------------

    def observe(self, inventory: model.Inventory, prompt: bool = True) -> None:
        """Compare the vCenter's new figures with the claims.

        :param prompt: whether this is called at once for every change; if
            not, a difference may be from a change long ago
        """
        if self._looked:
            with self._lock:
                for moref in list(self._looked):
                    if moref in self._looked:
                        self._observe(moref, inventory, prompt)

    def _observe(self, moref: str, inventory: model.Inventory,
                 prompt: bool) -> None:
        datastore = inventory.datastores.get(moref)
        if datastore is None:
            # It no longer exists, so its claims end.
            self._remove(self._claims.get(moref, ()))
            return
        now = _Looked(claims.storage(datastore, inventory), self._clock())
        before, self._looked[moref] = self._looked[moref], now
        if now.known is before.known and moref not in self._recheck:
            return
        self._recheck.discard(moref)
        here = self._on(datastore, inventory)
        claims.note_shown(now.known, here)
        for claim in list(here):
            if (claim.ended_at is not None
                    and (prompt or claim.ended_at < before.at)
                    and claims.is_shown(
                        claim, before.known, now.known,
                        late=now.at - claim.ended_at < NOTICE_SECONDS)):
                here = claims.without(claim, here, now.known)
                self._remove([claim])

    def expected(self, inventory: model.Inventory) -> model.Inventory:
        """The inventory with the figures that will include all claims.

        A storage that several datacenters mount gets the same figures in
        each.
        """
        with self._lock:
            self._drop_old()
            changed = self._expected(inventory)
        return _with(inventory, changed)

    def volumes(self) -> frozenset[str]:
        """Ids of the volumes that operations have claimed space for."""
        with self._lock:
            return frozenset(claim.volume_id for claim in self._all())

    def by_datastore(self) -> dict[str, int]:
        """What is claimed of each datastore (moref), in bytes."""
        with self._lock:
            return {moref: sum(claim.size_bytes for claim in here)
                    for moref, here in self._claims.items()}

    def claimed_bytes(self, moref: str) -> int:
        """Bytes claimed on a datastore, those of thin disks included."""
        with self._lock:
            return sum(claim.size_bytes
                       for claim in self._claims.get(moref, ()))

    # -- Refreshing the vCenter's figures -----------------------------------

    def notify(self, on_change: Callable[[], None]) -> None:
        """Set the function to call after an operation changed a datastore."""
        self._on_change = on_change

    def changed(self) -> dict[str, float]:
        """The datastores (morefs) to refresh, and when each was changed."""
        with self._lock:
            return dict(self._changed)

    def refreshed(self, moref: str, begun_at: float) -> None:
        """Note that the figures include all changes before ``begun_at``."""
        with self._lock:
            self._refreshed[moref] = begun_at, self._clock()
            if self._changed.get(moref, begun_at) <= begun_at:
                self._changed.pop(moref, None)

    # -- Books (under the lock) ---------------------------------------------

    def _all(self) -> Iterator[claims.Claim]:
        return itertools.chain.from_iterable(self._claims.values())

    def _remove(self, gone: Iterable[claims.Claim]) -> None:
        for claim in list(gone):
            here = self._claims.get(claim.datastore, [])
            if claim in here:
                here.remove(claim)
                self._recheck.add(claim.datastore)
            if not here:
                self._recheck.discard(claim.datastore)
                self._claims.pop(claim.datastore, None)
                self._looked.pop(claim.datastore, None)
                self._refreshed.pop(claim.datastore, None)

    def _drop_old(self) -> None:
        """Drop claims whose datastore was refreshed, and claims too old."""
        now = self._clock()
        old = []
        for claim in self._all():
            if claim.ended_at is None:
                continue
            begun_at, at = self._refreshed.get(claim.datastore, (0.0, now))
            if (now - claim.ended_at >= KEEP_SECONDS
                    or claim.ended_at <= begun_at
                    and now - at >= NOTICE_SECONDS):
                old.append(claim)
        if old:
            self._remove(old)

    def _on(self, datastore: model.Datastore, inventory: model.Inventory,
            tried: _Claimed = _NO_CLAIMS) -> list[claims.Claim]:
        """The claims on the storage of a datastore.

        :param tried: those of a trial, as well
        """
        same = inventory.same_storage(datastore)
        if len(same) == 1 and not tried:
            return list(self._claims.get(datastore.moref, ()))
        found = [claim for each in same for known in (self._claims, tried)
                 for claim in known.get(each.moref, ())]
        return sorted(found, key=operator.attrgetter('number'))

    def _expected(self, inventory: model.Inventory,
                  pinned: frozenset[str] | None = None,
                  tried: _Claimed = _NO_CLAIMS
                  ) -> dict[str, model.Datastore]:
        """Datastores whose expected figures differ from the vCenter's.

        :param pinned: compute those of these datastores only; None: of all
        """
        changed = {each.moref: claims.storage(each, inventory)
                   for each in inventory.shared_datastores
                   if pinned is None or each.moref in pinned}
        for each in self._claimed(inventory, pinned, tried):
            changed[each.moref] = claims.expected(
                claims.storage(each, inventory),
                self._on(each, inventory, tried))
        return changed

    def _claimed(self, inventory: model.Inventory,
                 pinned: frozenset[str] | None,
                 tried: _Claimed) -> Iterator[model.Datastore]:
        """Yield the datastores on whose storage there are claims."""
        claimed = self._claims.keys() | tried.keys()
        if not claimed:
            return
        for moref in claimed if pinned is None else pinned:
            datastore = inventory.datastores.get(moref)
            if datastore is None:
                continue
            same = inventory.same_storage(datastore)
            if pinned is None:
                yield from same
            elif any(each.moref in claimed for each in same):
                yield datastore

    def _for_placement(self, inventory: model.Inventory,
                       requirement: model.Requirement,
                       settings: model.Settings,
                       tried: _Claimed) -> model.Inventory:
        changed = self._expected(inventory, requirement.pinned, tried)
        if requirement.thin:
            changed |= {moref: self._for_ranking(each, inventory, settings,
                                                 tried)
                        for moref, each in changed.items()}
        return _with(inventory, changed)

    def _for_ranking(self, known: model.Datastore, inventory: model.Inventory,
                     settings: model.Settings,
                     tried: _Claimed) -> model.Datastore:
        """Count thin claims as used, for the choice among datastores.

        The free space stays large enough that none is refused for it.
        """
        thin_bytes = sum(claim.size_bytes for claim
                         in self._on(known, inventory, tried) if claim.thin)
        enough = max(settings.floor_bytes(known.capacity_bytes), 1)
        free_bytes = max(known.free_bytes - thin_bytes,
                         min(known.free_bytes, enough))
        return dataclasses.replace(
            known, free_bytes=free_bytes, uncommitted_bytes=max(
                0, known.uncommitted_bytes - known.free_bytes + free_bytes))


def _with(inventory: model.Inventory,
          changed: dict[str, model.Datastore]) -> model.Inventory:
    changed = {moref: each for moref, each in changed.items()
               if each != inventory.datastores[moref]}
    if not changed:
        return inventory
    made = dataclasses.replace(
        inventory, datastores={**inventory.datastores, **changed})
    made.inherit(inventory, changed)
    return made
