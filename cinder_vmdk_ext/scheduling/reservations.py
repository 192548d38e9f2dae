# SPDX-License-Identifier: Apache-2.0
"""Space that disks in the making will take, before the vCenter shows it.

A vCenter's figure for free space lags, and parallel operations all see the
same one: without these books they would herd onto one datastore, and could
overfill it.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext import operation
from cinder_vmdk_ext.scheduling import placement

# How long after its end an operation's space may not be shown yet.
LAG_SECONDS = 60.0


# Two that look alike are two.
@dataclasses.dataclass(eq=False)
class Claim:
    """Space on a datastore that an operation is about to take."""

    datastore: str
    size_bytes: int
    # What the vCenter showed when it was claimed.
    free_bytes: int
    # A thin disk takes no space when it is made; it counts so that others are
    # placed elsewhere, not so that they are refused.
    thin: bool = False
    ended_at: float | None = None
    # The vCenter's figures have included it, be they as they may by now: a
    # volume may be deleted before anybody looks again.
    shown: bool = False


class Claims:
    """The space that one operation of the driver has claimed."""

    def __init__(self, parent: 'Claims | None') -> None:
        self.parent = parent
        self.claims: list[Claim] = []
        self.refused: frozenset[str] = (parent.refused if parent
                                        else frozenset())

    @property
    def datastores(self) -> frozenset[str]:
        """Where it has claimed space."""
        return frozenset(claim.datastore for claim in self.claims)


class Reservations:
    """The books of one vCenter in this process. Safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._claims: list[Claim] = []

    @contextlib.contextmanager
    def operation(self, refused: frozenset[str] = frozenset()
                  ) -> Iterator[Claims]:
        """Hold what is claimed in this block until it ends.

        A block that fails has taken nothing. Blocks may be nested; the space
        is held until the outermost ends.

        :param refused: datastores that it must not take
        """
        claims = Claims(operation.current().claims)
        claims.refused |= refused
        with operation.scope(claims=claims):
            try:
                yield claims
            except exceptions.OutcomeUnknown:
                self._end(claims)
                raise
            except BaseException:
                self._cancel(claims)
                raise
            else:
                self._end(claims)

    def place(self, requirement: model.Requirement,
              inventory: model.Inventory, settings: model.Settings,
              tie_break: placement.TieBreak
              ) -> model.Placement | dict[str, str]:
        """As :func:`placement.place`, on what is free but for the claims.

        The space is claimed by the operation in which this is called; by
        itself it is held for :data:`LAG_SECONDS`.
        """
        claims = operation.current().claims
        if claims is not None and claims.refused:
            requirement = dataclasses.replace(
                requirement,
                excluded=requirement.excluded | claims.refused)
        with self._lock:
            self._forget(inventory)
            chosen = placement.place(
                requirement, self._deducted(inventory, requirement, settings),
                settings, tie_break)
            if not isinstance(chosen, model.Placement):
                return chosen
            datastore = inventory.datastores[chosen.datastore.moref]
            claim = Claim(datastore.moref, requirement.size_bytes,
                          datastore.free_bytes, requirement.thin)
            self._claims.append(claim)
        if claims is None:
            claim.ended_at = self._clock()
        else:
            claims.claims.append(claim)
        return dataclasses.replace(chosen, datastore=datastore)

    def observe(self, inventory: model.Inventory) -> None:
        """Take note of what the vCenter shows now."""
        if self._claims:
            with self._lock:
                self._forget(inventory)

    def claimed_bytes(self, moref: str) -> int:
        """What is claimed of a datastore, thin disks included."""
        with self._lock:
            return sum(claim.size_bytes for claim in self._claims
                       if claim.datastore == moref)

    # -- Books --------------------------------------------------------------

    def _end(self, ended: Claims) -> None:
        if ended.parent is not None:
            ended.parent.claims += ended.claims
            return
        for claim in ended.claims:
            claim.ended_at = self._clock()

    def _cancel(self, cancelled: Claims) -> None:
        with self._lock:
            for claim in cancelled.claims:
                if claim in self._claims:
                    self._claims.remove(claim)

    def _forget(self, inventory: model.Inventory) -> None:
        """Drop the claims of what has ended and is shown, or never will be."""
        self._note_shown(inventory)
        now = self._clock()
        kept = []
        for claim in self._claims:
            if claim.ended_at is not None:
                if (claim.thin or claim.shown
                        or now - claim.ended_at >= LAG_SECONDS):
                    continue
                known = inventory.datastores.get(claim.datastore)
                if known is None or (known.free_bytes
                                     <= claim.free_bytes - claim.size_bytes):
                    continue
            kept.append(claim)
        self._claims = kept

    def _note_shown(self, inventory: model.Inventory) -> None:
        """Mark the claims of datastores that show all that is claimed."""
        for moref in {claim.datastore for claim in self._claims}:
            known = inventory.datastores.get(moref)
            if (known is not None
                    and known.free_bytes <= self._once_taken(known)):
                for claim in self._claims:
                    claim.shown |= claim.datastore == moref

    def _deducted(self, inventory: model.Inventory,
                  requirement: model.Requirement,
                  settings: model.Settings) -> model.Inventory:
        claimed = {claim.datastore for claim in self._claims
                   if requirement.thin or not claim.thin}
        changed = {}
        for moref in claimed:
            known = inventory.datastores.get(moref)
            if known is not None:
                free_bytes = self._expected(known)
                if requirement.thin:
                    free_bytes = self._for_ranking(known, free_bytes,
                                                   settings)
                changed[moref] = dataclasses.replace(known,
                                                     free_bytes=free_bytes)
        if not changed:
            return inventory
        return dataclasses.replace(
            inventory, datastores={**inventory.datastores, **changed})

    def _expected(self, known: model.Datastore) -> int:
        """Free space once all that is claimed is taken.

        A fall of the vCenter's figure since a claim counts as that claim's.
        """
        return min(known.free_bytes, self._once_taken(known))

    def _once_taken(self, known: model.Datastore) -> int:
        """Free space that the claims alone would leave."""
        expected = known.capacity_bytes
        for claim in self._claims:
            if claim.datastore == known.moref and not claim.thin:
                expected = min(expected, claim.free_bytes) - claim.size_bytes
        return expected

    def _for_ranking(self, known: model.Datastore, free_bytes: int,
                     settings: model.Settings) -> int:
        thin_bytes = sum(claim.size_bytes for claim in self._claims
                         if claim.thin and claim.datastore == known.moref)
        enough = max(settings.floor_bytes(known.capacity_bytes), 1)
        return max(free_bytes - thin_bytes, min(free_bytes, enough))
