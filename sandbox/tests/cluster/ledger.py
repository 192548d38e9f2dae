# SPDX-License-Identifier: Apache-2.0
"""Records the clients' requests and their results."""

import collections
import dataclasses
import threading
import time

DONE = 'done'
#: Cinder said so: by a status, or by leaving everything as it was
FAILED = 'failed'
#: neither done nor failed when the client's patience was at an end
STUCK = 'stuck'


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a client wants a volume to become, for who repeats it.

    :param operation: "extend", "retype" or "migrate"
    :param value: the size in GiB, type or pool that it asks for
    """

    operation: str
    value: object


class Ledger:
    """Shared by all clients; every method may be called by any thread.

    :param operations: how many there are to be in all
    """

    def __init__(self, operations):
        self.operations = operations
        self.outcomes = collections.Counter()
        self.words = []
        #: volume or snapshot id -> what the first bytes of it must be
        self.content = {}
        #: volume id -> what it was to become when it got stuck or failed
        self.wishes = {}
        #: volumes whose pool a change has changed
        self.moved = 0
        #: how many may have begun for now
        self.limit = operations
        self._started = 0
        self._lock = threading.Lock()

    @property
    def started(self):
        """How many operations have been begun."""
        return self._started

    def another(self):
        """Wait until one more operation may begin, and count it.

        :returns: False when all have begun
        """
        while True:
            with self._lock:
                if self._started >= self.operations:
                    return False
                if self._started < self.limit:
                    self._started += 1
                    return True
            time.sleep(0.2)

    def note(self, operation, outcome, words=''):
        """What came of an operation."""
        with self._lock:
            self.outcomes[operation, outcome] += 1
            if outcome != DONE:
                self.words.append(f'{operation}: {outcome}: {words}')

    def count(self, outcome):
        """How many operations came to this."""
        return sum(number for (_, one), number in self.outcomes.items()
                   if one == outcome)
