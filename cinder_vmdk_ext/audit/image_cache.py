# SPDX-License-Identifier: Apache-2.0
"""Lists the images that Cinder's image-volume cache keeps on a backend.

A cached image is a volume of Cinder's internal tenant, with an entry in the
table of the cache. The driver caches nothing itself.
"""

import datetime
import re
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext.audit import compare

READY = 'ready'
LOST = 'lost'  # its volume has lost its disk
STALE = 'stale'  # its volume has no record
UNLISTED = 'no entry'  # a volume of the cache that no entry names
# Cinder deletes or unmanages no volume of another status.
_DELETABLE = frozenset({'available', 'error', 'error_restoring',
                        'error_extending', 'error_managing'})
#: A lost volume has one of these after an attempt to delete it.
FAILED = frozenset({'error_deleting', 'error_unmanaging'})
# Cinder names the volume of a cached image so.
_NAME = re.compile('image-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})')


class Cached(NamedTuple):
    """A cached image on one pool."""

    image_id: str
    volume_id: str
    pool: str
    state: str  # READY, LOST, STALE or UNLISTED
    status: str  # of the volume; '': it has no record
    size_gib: int
    used_at: datetime.datetime | None  # when a volume was last made of it
    used_by: tuple[str, ...]  # linked clones that read its disk
    hindrance: str  # why it cannot be deleted; '': it can
    detail: str = ''  # of a lost one: what is gone

    def is_called(self, words: Collection[str]) -> bool:
        """Whether one of these is the id of its image or of its volume."""
        return self.image_id in words or self.volume_id in words


def read(evidence: compare.Evidence, records: dict[str, Any],
         entries: Iterable[Any], internal_project: str | None
         ) -> list[Cached]:
    """The cached images of a backend, the one used last first.

    :param evidence: of the backend; its records are ``records``
    :param entries: of the backend in the table of the cache
    :param internal_project: id of the project of Cinder's internal tenant;
        None: Cinder has none
    """
    return list(_Reader(evidence, records).read(entries, internal_project))


class _Reader:
    """Judges the cached images of one backend."""

    def __init__(self, evidence: compare.Evidence,
                 records: dict[str, Any]) -> None:
        self._evidence = evidence
        self._records = records
        self._comparison = compare.Comparison(evidence)
        self._lost = {each.owner: each.detail
                      for each in self._comparison.findings()
                      if each.kind == 'lost' and each.thing == 'volume'}
        self._with_snapshots = {each.volume_id
                                for each in evidence.snapshots}
        self._mine = {each.id for each in evidence.volumes if each.mine}

    def read(self, entries: Iterable[Any],
             internal_project: str | None) -> Iterator[Cached]:
        known = set()
        for entry in entries:
            known.add(entry['volume_id'])
            yield self._of(
                entry['image_id'], entry['volume_id'],
                entry['cluster_name'] or entry['host'], entry['size'],
                entry['last_used'], listed=True)
        for volume_id in sorted(self._mine - known):
            record = self._records[volume_id]
            named = _NAME.fullmatch(record.display_name or '')
            if named and internal_project and (
                    record.project_id == internal_project):
                yield self._of(named[1], volume_id, record.host or '',
                               record.size, None, listed=False)

    def _of(self, image_id: str, volume_id: str, host: str, size_gib: int,
            used_at: datetime.datetime | None, listed: bool) -> Cached:
        record = self._records.get(volume_id)
        state = (STALE if record is None else LOST if volume_id in self._lost
                 else READY if listed else UNLISTED)
        users = self._users(volume_id)
        lost = self._lost.get(volume_id, '')
        return Cached(
            image_id, volume_id, host.partition('#')[2], state,
            record.status if record else '', size_gib, used_at, users,
            self._hindrance(record, users, bool(lost)), lost)

    def _users(self, volume_id: str) -> tuple[str, ...]:
        """VMs that read disks in the folder of a volume's VM."""
        vm = self._comparison.used(volume_id)
        if vm is None or not vm.folder:
            return ()
        return tuple(
            f'{other.name} ({other.moref})'
            for other in self._evidence.machines if other.moref != vm.moref
            and any(path.rpartition('/')[0] == vm.folder for path in (
                *other.disks, *other.below,
                *(path for path, _size in other.files))))

    def _hindrance(self, record: Any, users: tuple[str, ...],
                   lost: bool) -> str:
        if record is None:
            return ''
        # A deletion of a lost one has failed: see CleanCache.
        if record.status not in _DELETABLE and not (
                lost and record.status in FAILED):
            return f'its volume is {record.status}'
        if users:
            return 'its disk is read by ' + ', '.join(users)
        if record.id in self._with_snapshots:
            return 'its volume has snapshots'
        return ''
