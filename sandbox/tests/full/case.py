# SPDX-License-Identifier: Apache-2.0
"""What tests on a whole cloud share: it runs already, for all of them."""

import os
from pathlib import Path
import time
import unittest

import requests

from sandbox import inspection
from sandbox.services import running
from simulator import control

#: The variable that names the folder of the running cloud
FOLDER = 'TEST_CLOUD_FOLDER'
#: The variable that names the folder for pictures of Horizon
PICTURES = 'TEST_CLOUD_PICTURES'

# For one step of a service; a machine may be busy with others.
PATIENCE_SECONDS = 300
_POLL_SECONDS = 0.5


class CloudCase(unittest.TestCase):
    """Tests by a member, whose effects an administrator may look at."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cloud = running.RunningCloud(Path(os.environ[FOLDER]))
        cls.member = cls.cloud.connection('member')
        cls.admin = cls.cloud.connection('admin')
        cls.inspector = cls.enterClassContext(
            inspection.Inspector(cls.cloud.vcenter))
        cls.control = control.Control(cls.cloud.vcenter.control_url)

    def until(self, wanted, ask, failed=('error',)):
        """Wait until `ask` answers with something of a wanted status.

        :param wanted: the status; None for until it is gone (None)
        :param failed: statuses that end the wait
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = ask()
            status = found.status.lower() if found is not None else None
            if status == wanted:
                return found
            if status is not None and status.startswith(tuple(failed)) \
                    or time.monotonic() > deadline:
                self.fail(f'{found.id if found else "it"} has status '
                          f'{status}, not {wanted}')
            time.sleep(_POLL_SECONDS)

    # -- what the vCenter has ----------------------------------------------

    def disk_of(self, volume_id):
        """The only disk of a volume's VM."""
        disk, = self.inspector.shadow_vms()[volume_id].disks
        return disk

    def pool_of(self, volume_id):
        """The datastore that Cinder says a volume is on."""
        host = self.admin.block_storage.get_volume(volume_id).host
        return host.partition('#')[2]

    def _where(self, volume_id):
        disk = self.disk_of(volume_id)
        return {'datastore': disk.datastore,
                'path': disk.path.partition('] ')[2]}

    def read(self, volume_id, length):
        """The beginning of a volume, as a guest would read it."""
        # Not by `call`, which takes what it is answered for text.
        answer = requests.get(
            self.control.url + '/disk', timeout=PATIENCE_SECONDS,
            params={**self._where(volume_id), 'offset': 0, 'length': length})
        answer.raise_for_status()
        return answer.content

    def write(self, volume_id, content):
        """Write the beginning of a volume, as a guest would."""
        self.control.call('PUT', '/disk', content, offset=0,
                          **self._where(volume_id))
