# SPDX-License-Identifier: Apache-2.0
"""Ends the session with the vCenter when the service ends.

Cinder tells no driver that it stops, and its service processes end by
``os._exit``, past everything that Python runs at an exit. But they are
children of a process that made their drivers before it forked, that waits for
them, and that ends as it should. So the session is noted where that process
can read it: in memory that a parent and its children share.
"""

import mmap
import os
import struct
import weakref
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

LOG = logging.getLogger(__name__)

_SIZE_BYTES = 4096
_HEAD = struct.Struct('<HI')  # length of the text, process that wrote it
_MANAGER = references.Ref('SessionManager', 'SessionManager')
# An exit waits no longer for a vCenter that does not answer.
_SECONDS = 5.0


class Note:
    """A short text, known to this process and to those that it forks."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE_BYTES)

    def __reduce__(self) -> Any:
        # A process that is spawned and not forked shares nothing.
        return Note, ()

    def write(self, text: str | None) -> None:
        """Replace the text; None clears it."""
        data = (text or '').encode()[:_SIZE_BYTES - _HEAD.size]
        self._memory[:_HEAD.size] = _HEAD.pack(0, 0)
        self._memory[_HEAD.size:_HEAD.size + len(data)] = data
        self._memory[:_HEAD.size] = _HEAD.pack(len(data), os.getpid())

    def read(self) -> str | None:
        """The text, of any process."""
        length, _writer = _HEAD.unpack(self._memory[:_HEAD.size])
        text = self._memory[_HEAD.size:_HEAD.size + length]
        return text.decode() or None

    def writer(self) -> int:
        """The id of the process that wrote last."""
        return int(_HEAD.unpack(self._memory[:_HEAD.size])[1])


def at_exit(owner: Any, note: Note,
            make_client: Callable[[str], soap.Client]) -> None:
    """Have the noted session ended with its owner, or with the process.

    :param make_client: makes a client with a session's cookie; it must not
        hold the owner
    """
    weakref.finalize(owner, _at_exit, os.getpid(), note, make_client)


def _at_exit(made_by: int, note: Note,
             make_client: Callable[[str], soap.Client]) -> None:
    # Other child processes end too, and the session does not belong to them.
    if os.getpid() in (made_by, note.writer()):
        end(note, make_client)


def end(note: Note, make_client: Callable[[str], soap.Client]) -> None:
    """End the noted session, if there is one (SessionManager.Logout).

    Never raises: a session that cannot be ended ends by its own time limit.
    """
    cookie = note.read()
    if cookie is None:
        return
    note.write(None)
    try:
        client = make_client(cookie)
        try:
            client.call('Logout', _MANAGER, read_seconds=_SECONDS)
        finally:
            client.close()
    except Exception as error:
        # At an exit anything may be gone that this needs, options too.
        LOG.debug('A session was not ended: %s', error)
