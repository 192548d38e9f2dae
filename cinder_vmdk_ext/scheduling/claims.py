# SPDX-License-Identifier: Apache-2.0
"""What datastores will hold, where a vCenter's figures do not show it yet.

A vCenter brings free and uncommitted space up to date every few minutes only.
Until then a :class:`Claim` stands for a disk that was made since. What the
vCenter shows and what is claimed must not be added up, for the figures may
show a disk already while its operation still goes on: a claim remembers what
the vCenter showed when it was made, and a figure that has moved since by as
much as was claimed shows the claim.
"""

import dataclasses
from collections.abc import Iterable
from collections.abc import Sequence

from cinder_vmdk_ext import model


# Two that look alike are two.
@dataclasses.dataclass(eq=False)
class Claim:
    """Space on a datastore that an operation takes."""

    datastore: str
    size_bytes: int
    # A thin disk takes no space when it is made, but all of its size is
    # provisioned.
    thin: bool
    # What the vCenter shows without it, as far as can be known.
    free_bytes: int
    provisioned_bytes: int
    volume_id: str = ''
    # When its operation ended; None: it goes on.
    ended_at: float | None = None
    # The figures have included it, whatever they are by now: a volume may
    # be deleted before the figures are looked at again.
    shown: bool = False


def storage(datastore: model.Datastore,
            inventory: model.Inventory) -> model.Datastore:
    """A datastore with the figures of its whole storage.

    Where a storage is mounted in several datacenters, each of its datastores
    shows the same free space, some of them later than others, and each counts
    the uncommitted space of its own datacenter's VMs.
    """
    same = inventory.same_storage(datastore)
    if len(same) == 1:
        return datastore
    return dataclasses.replace(
        datastore, free_bytes=min(each.free_bytes for each in same),
        uncommitted_bytes=sum(max(0, each.uncommitted_bytes)
                              for each in same))


def expected(known: model.Datastore,
             claims: Iterable[Claim]) -> model.Datastore:
    """A datastore with the figures that it has once all claims are shown.

    :param known: as the vCenter shows its whole :func:`storage`
    :param claims: on that storage, in the order in which they were made
    """
    free_bytes, provisioned_bytes = claimed(known, claims)
    free_bytes = min(known.free_bytes, free_bytes)
    used_bytes = max(0, known.capacity_bytes
                     - min(free_bytes, known.capacity_bytes))
    return dataclasses.replace(
        known, free_bytes=free_bytes, uncommitted_bytes=max(
            0, known.provisioned_bytes - used_bytes,
            provisioned_bytes - used_bytes))


def claimed(known: model.Datastore,
            claims: Iterable[Claim]) -> tuple[int, int]:
    """Free and provisioned bytes that the claims alone would leave."""
    free_bytes, provisioned_bytes = known.capacity_bytes, 0
    for claim in claims:
        provisioned_bytes = max(
            provisioned_bytes, claim.provisioned_bytes) + claim.size_bytes
        if not claim.thin:
            free_bytes = min(free_bytes, claim.free_bytes) - claim.size_bytes
    return free_bytes, provisioned_bytes


def note_shown(known: model.Datastore, claims: Sequence[Claim]) -> None:
    """Mark claims that the figures of their storage show."""
    free_bytes, provisioned_bytes = claimed(known, claims)
    for claim in claims:
        claim.shown |= known.provisioned_bytes >= provisioned_bytes or (
            not claim.thin and known.free_bytes <= free_bytes)


def is_shown(claim: Claim, before: model.Datastore,
             now: model.Datastore) -> bool:
    """Whether the figures show a claim whose operation has ended.

    They do once they have moved after its end: of a thin disk, what is
    uncommitted; of another, what is free.

    :param before: the storage when it was last looked at, after that end
    """
    if claim.thin:
        moved = before.uncommitted_bytes != now.uncommitted_bytes
    else:
        moved = before.free_bytes != now.free_bytes
    return claim.shown or moved


def without(claim: Claim, claims: Sequence[Claim],
            now: model.Datastore) -> list[Claim]:
    """Claims of a storage, but for one that its figures include.

    What the vCenter showed when the others were made did not include it, if
    it was not shown yet; by now that, too, is part of the figures.
    """
    others = [each for each in claims if each is not claim]
    if not claim.shown:
        for each in others:
            each.provisioned_bytes = min(now.provisioned_bytes, max(
                each.provisioned_bytes,
                claim.provisioned_bytes + claim.size_bytes))
            if not claim.thin:
                each.free_bytes = max(now.free_bytes, min(
                    each.free_bytes, claim.free_bytes - claim.size_bytes))
    return others
