# SPDX-License-Identifier: Apache-2.0
"""Informs users of retypes that have failed for good.

A driver that cannot retype a volume does not learn whether Cinder migrates it
then, which the user decided (``--migration-policy``), and Cinder creates no
user message. So the volume's record is looked at until Cinder has ended the
request: with the former type, it has failed.
"""

import threading
import time
from typing import Any

from cinder_vmdk_ext import refusals
from cinder_vmdk_ext import volume_rows

# A migration may copy for long. Messages expire after 30 days (Cinder's
# message_ttl).
_LONGEST_SECONDS = 24 * 3600.0
_RETYPING = 'retyping'


class RetypeMessages:
    """Retypes whose end is not known yet."""

    def __init__(self) -> None:
        # Volume's id -> type before, error, and the end of the wait.
        self._open: dict[str, tuple[str | None, Exception, float]] = {}
        self._lock = threading.Lock()

    def expect(self, volume: Any, error: Exception) -> None:
        """Create a message once Cinder has given up the retype of a volume.

        :param error: why the driver did not do it
        """
        with self._lock:
            self._open[volume['id']] = (
                volume['volume_type_id'], error,
                time.monotonic() + _LONGEST_SECONDS)

    def settle(self) -> None:
        """Create the messages of retypes that have ended.

        Nothing is read while no retype is open.
        """
        with self._lock:
            waiting = list(self._open.items())
        if not waiting:
            return
        found = {volume.id: volume for volume
                 in volume_rows.volumes(dict(waiting))}
        for volume_id, (type_id, error, until) in waiting:
            volume = found.get(volume_id)
            if (volume is not None and volume.status == _RETYPING
                    and time.monotonic() < until):
                continue
            with self._lock:
                self._open.pop(volume_id, None)
            if volume is not None and volume.volume_type_id == type_id and (
                    volume.status != _RETYPING):
                refusals.inform(
                    refusals.About('volume', volume_id, volume.project_id,
                                   None), error, refusals.RETYPE_ENDED)
