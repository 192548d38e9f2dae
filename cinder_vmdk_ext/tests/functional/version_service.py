# SPDX-License-Identifier: Apache-2.0
"""Runs a service of a cluster, like tests/clustered.py, of any version.

It is run by its path, with the tree of a version as the working folder and on
PYTHONPATH: the driver is that tree's.
"""

import os
import sys
from typing import Any

# In the place of this file's folder, which Python puts there.
sys.path[0] = os.getcwd()

from cinder import objects  # noqa: E402

from cinder_vmdk_ext.tests import clustered  # noqa: E402


class Service(clustered.Service):
    """What the manager calls beside that."""

    def version(self) -> str:
        """The folder that the driver comes from."""
        return os.path.dirname(os.path.dirname(clustered.driver.__file__))

    def snapshot(self, snapshot: str) -> None:
        record = self._snapshot(snapshot)
        record.update(self._driver.create_snapshot(record) or {})
        record.status = 'available'
        record.save()

    def delete_snapshot(self, snapshot: str) -> None:
        record = self._snapshot(snapshot)
        self._driver.delete_snapshot(record)
        record.destroy()

    def from_snapshot(self, volume: str, snapshot: str) -> None:
        record = self._volume(volume)
        update = self._driver.create_volume_from_snapshot(
            record, self._snapshot(snapshot))
        record.update({**update, 'status': 'available'})
        record.save()

    def _snapshot(self, identifier: str) -> Any:
        return objects.Snapshot.get_by_id(self._context, identifier)


if __name__ == '__main__':
    clustered.Service = Service
    clustered.main()
