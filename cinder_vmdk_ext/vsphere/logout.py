# SPDX-License-Identifier: Apache-2.0
"""Ends the session with the vCenter when the service ends.

Cinder does not notify a driver when the service stops, and its service
processes end by ``os._exit``, which skips Python's exit handlers. But their
parent process made the drivers before it forked; it waits for its children
and ends normally. So each session is noted in memory that the parent shares
with its children, and the parent ends the session.
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
# How long an exit waits for a vCenter that does not answer.
_SECONDS = 5.0


class Note:
    """A short text, shared by this process and the ones that it forks."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE_BYTES)

    def __reduce__(self) -> Any:
        # A spawned process shares nothing with its parent.
        return Note, ()

    def write(self, text: str | None) -> None:
        """Replace the text; None clears it."""
        data = (text or '').encode()[:_SIZE_BYTES - _HEAD.size]
        self._memory[:_HEAD.size] = _HEAD.pack(0, 0)
        self._memory[_HEAD.size:_HEAD.size + len(data)] = data
        self._memory[:_HEAD.size] = _HEAD.pack(len(data), os.getpid())

    def read(self) -> str | None:
        """The text, whichever process wrote it."""
        length, _writer = _HEAD.unpack(self._memory[:_HEAD.size])
        text = self._memory[_HEAD.size:_HEAD.size + length]
        return text.decode() or None

    def writer(self) -> int:
        """The id of the process that wrote last."""
        return int(_HEAD.unpack(self._memory[:_HEAD.size])[1])


def at_exit(owner: Any, note: Note,
            make_client: Callable[[str], soap.Client]) -> None:
    """End the noted session when its owner or the process ends.

    :param make_client: makes a client with a session's cookie; it must not
        hold the owner
    """
    weakref.finalize(owner, _at_exit, os.getpid(), note, make_client)


def _at_exit(made_by: int, note: Note,
             make_client: Callable[[str], soap.Client]) -> None:
    # Other child processes end too, but the session is not theirs.
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
        # During an exit anything may be missing already, even the options.
        LOG.debug('A session was not ended: %s', error)
