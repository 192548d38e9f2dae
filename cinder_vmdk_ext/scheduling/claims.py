# SPDX-License-Identifier: Apache-2.0
"""Computes the space that datastores will have, from claims of space.

A vCenter updates free and uncommitted space only every few minutes. Until
then a :class:`Claim` stands for a disk that was created since. The vCenter's
figures and the claims must not be added up, because the figures may include
a disk while its operation still runs. So a claim records the figures at the
time when it was made: once a figure has changed by the claimed size since,
the figures include the claim.
"""

import dataclasses
from collections.abc import Iterable
from collections.abc import Sequence

from cinder_vmdk_ext import model


# Compared by identity: two claims with equal fields are two claims.
@dataclasses.dataclass(eq=False)
class Claim:
    """Space on a datastore that an operation takes."""

    datastore: str
    size_bytes: int
    # A thin disk takes no space when it is created, but its full size counts
    # as provisioned.
    thin: bool
    # The vCenter's figures without this claim, as far as they are known.
    free_bytes: int
    provisioned_bytes: int
    volume_id: str = ''
    # When its operation ended (monotonic, in seconds); None: it still runs.
    ended_at: float | None = None
    # Whether the figures have ever included it. They may have changed back
    # since: a volume may be deleted before the figures are read again.
    shown: bool = False
    number: int = 0  # claims that were made later have larger ones


def storage(datastore: model.Datastore,
            inventory: model.Inventory) -> model.Datastore:
    """A datastore with the figures of its whole storage.

    If several datacenters mount a storage, each has a datastore for it. All
    of these show the same free space, some of them later than others. Each
    counts the uncommitted space of the VMs of its own datacenter only.
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
    """A datastore with the figures that will include all claims.

    :param known: the datastore with the vCenter's figures of its whole
        :func:`storage`
    :param claims: the claims on that storage, oldest first
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
    """Free and provisioned bytes that follow from the claims alone.

    ``known`` serves for the capacity only.
    """
    free_bytes, provisioned_bytes = known.capacity_bytes, 0
    for claim in claims:
        provisioned_bytes = max(
            provisioned_bytes, claim.provisioned_bytes) + claim.size_bytes
        if not claim.thin:
            free_bytes = min(free_bytes, claim.free_bytes) - claim.size_bytes
    return free_bytes, provisioned_bytes


def note_shown(known: model.Datastore, claims: Sequence[Claim]) -> None:
    """Mark the claims that the figures of their storage include."""
    free_bytes, provisioned_bytes = claimed(known, claims)
    for claim in claims:
        claim.shown |= known.provisioned_bytes >= provisioned_bytes or (
            not claim.thin and known.free_bytes <= free_bytes)


def is_shown(claim: Claim, before: model.Datastore, now: model.Datastore,
             late: bool) -> bool:
    """Whether the figures include a claim whose operation has ended.

    They do once they have changed after the operation's end: the uncommitted
    space for a thin disk, the free space for any other.

    :param before: the storage as it was read last, after that end
    :param now: the storage as it is now
    :param late: whether the figures may have changed before that end, because
        the notice of a change takes its time
    """
    if late:
        return claim.shown
    if claim.thin:
        moved = before.uncommitted_bytes != now.uncommitted_bytes
    else:
        moved = before.free_bytes != now.free_bytes
    return claim.shown or moved


def without(claim: Claim, claims: Sequence[Claim],
            now: model.Datastore) -> list[Claim]:
    """The claims on a storage without one that its figures now include.

    Unless it is marked ``shown``, the figures that the other claims recorded
    did not include it; it is added to those recorded figures.
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
