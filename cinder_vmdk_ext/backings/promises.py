# SPDX-License-Identifier: Apache-2.0
"""Space promised to volumes without a disk, from Cinder's database.

A lazily created volume has no shadow VM until its first use. A volume that
the scheduler has just placed in a pool waits in a queue until its disk is
created. A report must not offer the space of either to another volume.

A report makes no query. A thread of the service reads the database: when an
operation begins or ends, a second before the next report is due, and every
half minute at least. What an operation of this service does to a volume
counts at once, whatever was read last.
"""

import contextlib
import functools
import threading
import time
import types
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging

from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext import volume_rows

LOG = logging.getLogger(__name__)

# Cinder writes the outcome of an operation to its database within this time.
SETTLE_SECONDS = 120.0
# The database is read this often even without an operation, because other
# services and backends promise space too.
KEEP_SECONDS = 30.0
# How long before the next report it is read. Reports are a minute apart.
AHEAD_SECONDS = 1.0
# The pause between two reads, so that one read serves a burst of operations.
REST_SECONDS = 1.0
# How often the thread looks when the next report is due, and the pause after
# an error.
LOOK_SECONDS = 5.0
# What was read longer ago than this is not reported.
UNKNOWN_SECONDS = 60.0

#: The fields of a volume's record that say what is promised to it.
FIELDS = volume_rows.DISKLESS


class Share(NamedTuple):
    """What a volume without a disk needs of its pool."""

    pool: str  # as in the volume's host
    place: str
    own: bool  # whether the volume belongs to this backend
    size_gib: int


class _Note(NamedTuple):
    """What an operation of this service has made of a volume's share."""

    before: Share | None
    now: Share | None
    number: int  # of the notes so far
    at: float


class Promises:
    """The space promised to volumes without a disk, by pool. Thread-safe.

    Counts each volume once: by the last note of an operation of this service,
    until the database says something else than before that operation; else
    by what was read from the database. A volume that an operation has claimed
    space for is left out, because that claim counts.

    Until :meth:`start`, each answer is read from the database.
    """

    def __init__(self, share: Callable[[Mapping[str, Any]], Share | None],
                 begun: Callable[[], Set[str]] = frozenset,
                 rows: Callable[
                     [], Iterable[Mapping[str, Any]]] | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """:param share: returns what a volume's record promises to it
        :param begun: returns ids of volumes that space is claimed for
        :param rows: yields the records of volumes that may have no disk;
            None: from Cinder's database
        """
        self._share = share
        self._begun = begun
        self._rows = rows or functools.partial(volume_rows.without_disk,
                                               state.PROMISED)
        self._clock = clock
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._read: dict[str, Share] = {}
        self._read_at: float | None = None
        self._failed: Exception | None = None
        self._notes: dict[str, _Note] = {}
        self._number = 0
        # What the two above give together, and the sums of it.
        self._shares: dict[str, Share] = {}
        self._sums: dict[tuple[str, str, bool], tuple[int, int]] = {}
        self._made: tuple[Set[str], tuple[model.Promise, ...]] | None = None
        self._reported_at = self._next_report_at = clock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._ended = threading.Event()

    # -- What is promised ---------------------------------------------------

    def all(self) -> Sequence[model.Promise]:
        """All promises that may concern this backend's datastores.

        :raises PromisesUnknown: the database was not read for too long
        """
        if self._thread is None or self._read_at is None:
            self.read()
        self._check_age()
        return self.latest()

    def of_report(self) -> Sequence[model.Promise]:
        """As :meth:`all`, for a report, which the next one will follow."""
        now = self._clock()
        self._reported_at, before = now, self._reported_at
        self._next_report_at = now + (now - before)
        return self.all()

    def latest(self) -> Sequence[model.Promise]:
        """The promises by what is known, however old it is."""
        begun = self._begun()
        with self._lock:
            claimed = begun & self._shares.keys()
            if self._made is None or self._made[0] != claimed:
                self._made = claimed, self._make(claimed)
            return self._made[1]

    def _make(self, claimed: Set[str]) -> tuple[model.Promise, ...]:
        sums = dict(self._sums)
        for volume_id in claimed:
            _add(sums, self._shares[volume_id], -1)
        return tuple(model.Promise(pool, size_gib, place, number, own)
                     for (pool, place, own), (size_gib, number)
                     in sorted(sums.items()))

    def _check_age(self) -> None:
        age = self._clock() - (self._read_at or 0.0)
        if self._thread is not None and age > UNKNOWN_SECONDS:
            raise exceptions.PromisesUnknown(age, self._failed)

    def of(self, volume: Any,
           changes: Mapping[str, Any] = types.MappingProxyType({})
           ) -> Share | None:
        """What is promised to a volume, by its record; None: nothing.

        :param volume: one of Cinder's objects, which may lack a field
        :param changes: what Cinder will write to the record
        """
        return self._share({
            name: changes[name] if name in changes else _field(volume, name)
            for name in FIELDS})

    # -- What operations do -------------------------------------------------

    @contextlib.contextmanager
    def noting(self, given: Mapping[str, Any], makes: bool,
               results: Sequence[Any]) -> Iterator[None]:
        """Note what the operation in this block makes of a promise.

        :param given: the arguments of Cinder's hook; those without a volume
            may concern any
        :param makes: whether the operation creates its volume
        :param results: has the hook's result at the end, unless it failed
        """
        volume = given.get('volume')
        before = self.of(volume)
        self.begin(_id(volume), before if makes else None)
        try:
            yield
        finally:
            self.end(_id(volume), before, self.of(volume, _written(
                given, results[0]) if results else {}))

    def begin(self, volume_id: str, makes: Share | None = None) -> None:
        """Note that an operation on a volume begins.

        :param makes: what is promised to the volume that it creates
        """
        if makes is not None:
            self._note(volume_id, makes, makes)
        self._wake.set()

    def end(self, volume_id: str, before: Share | None,
            now: Share | None) -> None:
        """Note what an operation has made of the promise to a volume.

        Cinder may write it to the database later.

        :param before: what the record said when the operation began
        :param now: what it says when Cinder has written the outcome
        """
        if before != now:
            self._note(volume_id, before, now)
        self._wake.set()

    def _note(self, volume_id: str, before: Share | None,
              now: Share | None) -> None:
        if self._thread is None:
            return  # each answer is read from the database
        with self._lock:
            self._number += 1
            self._notes[volume_id] = _Note(before, now, self._number,
                                           self._clock())
            self._count([volume_id])

    def _count(self, changed: Iterable[str]) -> None:
        """Correct the sums where notes or what was read have changed."""
        for volume_id in changed:
            note = self._notes.get(volume_id)
            now = note.now if note else self._read.get(volume_id)
            before = self._shares.pop(volume_id, None)
            if before is not None:
                _add(self._sums, before, -1)
            if now is not None:
                self._shares[volume_id] = now
                _add(self._sums, now, 1)
            if before != now:
                self._made = None

    # -- Reading the database -----------------------------------------------

    def read(self) -> None:
        """Read the database now; other greenthreads run meanwhile.

        A volume may change while others are read: it counts as it was at one
        moment after the begin of this call.

        :raises Exception: the database's; what was read before stays
        """
        with self._reading:
            begun_at, number = self._clock(), self._number
            found = {}
            for row in self._rows():
                share = self._share(row)
                if share is not None:
                    found[row['id']] = share
            self._apply(found, begun_at, number)

    def _apply(self, found: dict[str, Share], begun_at: float,
               number: int) -> None:
        """Use what was read.

        :param number: of the notes when the read began
        """
        with self._lock:
            before, self._read, self._read_at = self._read, found, begun_at
            self._failed = None
            settled = [volume_id for volume_id, note in self._notes.items()
                       if not self._holds(volume_id, note, number)]
            for volume_id in settled:
                del self._notes[volume_id]
            self._count({*settled, *(
                volume_id for volume_id in before.keys() | found.keys()
                if before.get(volume_id) != found.get(volume_id))})

    def _holds(self, volume_id: str, note: _Note, number: int) -> bool:
        """Whether a note says more than what was just read."""
        if note.number > number:
            return True
        # Cinder has not written the outcome yet.
        return (note.before != note.now
                and self._read.get(volume_id) == note.before
                and self._clock() - note.at < SETTLE_SECONDS)

    def start(self) -> None:
        """Read the database from now on in a thread; may be repeated."""
        if self._thread is None:
            self._read_at = None
            self._ended = threading.Event()
            self._thread = threading.Thread(
                target=self._keep_reading, args=(self._ended,),
                name='vmdk-ext-promises', daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; each answer is then read from the database."""
        self._ended.set()
        self._wake.set()
        self._thread = None

    def _keep_reading(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self._wake.clear()
            tried_at = self._clock()
            try:
                self.read()
            except Exception as error:
                if self._failed is None:
                    LOG.warning('The space promised to volumes without a '
                                'disk was not read: %s', error)
                self._failed = error
            ended.wait(REST_SECONDS)
            # The wake of `stop` may have been cleared above.
            while not (self._wake.is_set() or ended.is_set()):
                left = self.due_at(tried_at) - self._clock()
                if left <= 0:
                    break
                self._wake.wait(min(left, LOOK_SECONDS))

    def due_at(self, tried_at: float) -> float:
        """When to read next, if no operation begins or ends."""
        if self._failed is not None:
            return tried_at + LOOK_SECONDS
        due, ahead = tried_at + KEEP_SECONDS, (
            self._next_report_at - AHEAD_SECONDS)
        return ahead if tried_at < ahead < due else due


def _field(volume: Any, name: str) -> Any:
    # An operation must not fail because a record is incomplete.
    with contextlib.suppress(Exception):
        return volume[name]
    return None


def _id(volume: Any) -> str:
    return str(_field(volume, 'id') or '')


def _written(given: Mapping[str, Any], result: Any) -> dict[str, Any]:
    """What Cinder writes to the volume's record after an operation."""
    parts = result if isinstance(result, tuple) else (result,)
    found: dict[str, Any] = {}
    host = given.get('host')
    if parts[0] and isinstance(host, dict):  # it was moved there
        found |= {'host': host.get('host'),
                  'cluster_name': host.get('cluster_name')}
    if given.get('new_size'):
        found['size'] = given['new_size']
    for part in parts:
        if isinstance(part, dict):
            found |= {name: part[name] for name in FIELDS if name in part}
    return found


def _add(sums: dict[tuple[str, str, bool], tuple[int, int]],
         share: Share, sign: int) -> None:
    key = share[:3]
    size_gib, number = sums.get(key, (0, 0))
    size_gib, number = size_gib + sign * share.size_gib, number + sign
    if number:
        sums[key] = size_gib, number
    else:
        sums.pop(key, None)


def share(host: str | None, cluster_name: str | None,
          record: Mapping[str, Any]) -> Share | None:
    """What is promised to a volume, by its record.

    :param host: of this backend, ``host@backend``; None: of any
    :param cluster_name: of this backend, if it is clustered
    :param record: has ``FIELDS``
    :returns: None: it has a disk, or waits for one of another backend
    """
    own = _is_own(record, host, cluster_name)
    pool = volume_utils.extract_host(record['host'] or '', 'pool', True) or ''
    if record['provider_id'] == state.PROMISED:
        return Share(pool, record['provider_location'] or '', own,
                     record['size'])
    if record['status'] == 'creating' and not record['provider_id'] and own:
        return Share(pool, '', True, record['size'])
    return None


def _is_own(record: Mapping[str, Any], host: str | None,
            cluster_name: str | None) -> bool:
    name, field = ((cluster_name, 'cluster_name') if cluster_name
                   else (host, 'host'))
    return not name or volume_utils.extract_host(record[field] or '',
                                                 'backend') == name
