# SPDX-License-Identifier: Apache-2.0
"""The driver under eventlet, Cinder's older runtime.

All other tests run on native threads. A process has one of the two runtimes
from its first import on, so this test uses a separate process.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from pyVmomi import vim

from sandbox.embedded import section
from simulator import client as simulator_client

_PROGRAM = """
from sandbox.embedded import patched
import json
import sys
import eventlet
from oslo_config import cfg
from cinder import context, coordination
from cinder_vmdk_ext import driver
from sandbox.embedded import database, section
assert eventlet.patcher.is_monkey_patched('thread')
cinder = database.Database()
cinder.setUp()
made = driver.VmdkExtDriver(configuration=section.read(
    **json.loads(sys.argv[1])), host='cinder-1@vmdk')
cfg.CONF.set_override('backend_url', 'file://' + sys.argv[2], 'coordination')
coordination.COORDINATOR.start()
made.do_setup(context.get_admin_context())
volumes = [cinder.volume(1, f'cinder-1@vmdk#LocalDS_{number % 3}')
           for number in range(6)]
ticks = []
def tick():
    while True:
        ticks.append(1)
        eventlet.sleep(0.01)
ticker = eventlet.spawn(tick)
pool = eventlet.GreenPool()
for volume in volumes:
    pool.spawn_n(made.create_volume, volume)
pool.waitall()
stats = made.get_volume_stats(refresh=True)
ticker.kill()
print(json.dumps({'volumes': {each.id: each.host for each in volumes},
                  'state': stats['backend_state'], 'ticks': len(ticks),
                  'pools': [pool['pool_name'] for pool in stats['pools']]}))
made.backend.stream.stop()
made.session.logout()
cinder.cleanUp()
"""


class EventletTestCase(unittest.TestCase):

    def test_greenthreads_create_on_their_pools_and_report(self):
        with simulator_client.for_plugin(ds=3, vm=0,
                                         ds_capacity='100GiB') as vcenter:
            found = self.run_program(section.of_vcenter(vcenter))
            self.assertEqual(
                ('up', ['LocalDS_0', 'LocalDS_1', 'LocalDS_2']),
                (found['state'], sorted(found['pools'])))
            self.check_disks(vcenter.connect(), found['volumes'])
            # Nothing kept the others from running.
            self.assertGreater(found['ticks'], 10)

    def run_program(self, options):
        environment = {name: value for name, value in os.environ.items()
                       if name != 'OS_CINDER_DISABLE_EVENTLET_PATCHING'}
        with tempfile.TemporaryDirectory(prefix='cinder-locks-') as locks:
            ended = subprocess.run(
                [sys.executable, '-W', 'ignore', '-c', _PROGRAM,
                 json.dumps(options), locks], capture_output=True, text=True,
                timeout=600, env=environment)
        self.assertEqual(0, ended.returncode, ended.stderr[-4000:])
        return json.loads(ended.stdout.splitlines()[-1])

    def check_disks(self, client, volumes):
        self.assertEqual(6, len(volumes))
        for volume_id, host in volumes.items():
            backing = client.content.searchIndex.FindByUuid(
                None, volume_id, True, True)
            [disk] = [device for device in backing.config.hardware.device
                      if isinstance(device, vim.vm.device.VirtualDisk)]
            self.assertEqual(host.partition('#')[2],
                             disk.backing.datastore.name)
