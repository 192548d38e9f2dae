# SPDX-License-Identifier: Apache-2.0
"""Notes the properties that the user may not read, and asks for them again.

vSphere does not promise a notice of a changed permission or role. Without a
new look, a privilege that an administrator grants would not count before the
next login.
"""

from collections.abc import Callable
from collections.abc import Collection
from typing import Any

from oslo_log import log as logging
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import property_collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

LOG = logging.getLogger(__name__)

#: The fault in place of a property that the user may not read.
FAULT = 'NoPermission'
# The pause between two looks. If a look was in vain, because the poll does not
# report what can be read, the pause is doubled, up to the longest one.
PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3600.0
# At most so many objects are looked at, the others next time; a grant mostly
# concerns many.
MOST_OBJECTS = 100


class Denied:
    """What the user may not read, of the objects of one conversation."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._paths: dict[references.Ref, set[str]] = {}
        self._pause_seconds = PAUSE_SECONDS
        self._looked_at = clock()
        # What the last look found that it could read.
        self._granted: set[tuple[references.Ref, str]] = set()

    def __bool__(self) -> bool:
        """Whether anything is denied."""
        return bool(self._paths)

    def clear(self) -> None:
        """Forget all, because all is about to be reported anew."""
        self._paths.clear()

    def note(self, kind: str, ref: references.Ref, read: Collection[str],
             denied: Collection[str]) -> None:
        """Note a report of an object.

        :param kind: enter, modify or leave
        :param read: paths of the properties that were reported
        :param denied: paths of those that the user may not read
        """
        if not denied and ref not in self._paths:
            return
        before = self._paths.pop(ref, set())
        if kind == 'leave':
            return
        now = set(denied)
        if kind == 'modify':
            now |= before.difference(read)
        if now:
            self._paths[ref] = now

    def any_granted(self, client: soap.Client, content: Any) -> bool:
        """Whether the user may now read one of them; never fails.

        Makes one call for each type of object, once in a pause, and none
        while nothing is denied.

        :param content: the ServiceContent
        """
        since_seconds = self._clock() - self._looked_at
        if not self._paths:
            self._pause_seconds = PAUSE_SECONDS
            return False
        if since_seconds < PAUSE_SECONDS:
            return False
        if not any(path in self._paths.get(ref, ())
                   for ref, path in self._granted):
            self._pause_seconds = PAUSE_SECONDS
        if since_seconds < self._pause_seconds:
            return False
        self._looked_at += since_seconds
        try:
            granted = self._look(client, content)
        except exceptions.VMwareDriverException as error:
            LOG.debug('What is denied was not read again: %s', error)
            return False
        if granted:
            self._granted = granted
            self._pause_seconds = min(2 * self._pause_seconds,
                                      LONGEST_PAUSE_SECONDS)
        return bool(granted)

    def _look(self, client: soap.Client, content: Any
              ) -> set[tuple[references.Ref, str]]:
        """:returns: what can be read, of objects of one type"""
        refs = list(self._paths)[:MOST_OBJECTS]
        for ref in refs:  # the next look begins with others
            self._paths[ref] = self._paths.pop(ref)
        for kind in dict.fromkeys(ref.type for ref in refs):
            alike = [ref for ref in refs if ref.type == kind]
            found = property_collector.look_at(
                client, content, alike,
                sorted(set().union(*(self._paths[ref] for ref in alike))))
            granted = {
                (ref, path) for ref in alike if ref in found
                for path in self._paths[ref].difference(
                    found[ref].get(property_collector.UNREADABLE, ()))}
            if granted:
                return granted
        return set()
