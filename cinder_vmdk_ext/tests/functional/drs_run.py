# SPDX-License-Identifier: Apache-2.0
"""Storage DRS moves many attached disks at once (``make drs-run``).

Prints what reports cost meanwhile, after how long all hosts were true, and
the longest time for which the process kept a thread from running.
DRS_EVENTLET=1 runs all of it on greenthreads; what runs during a report then
counts as the report's CPU time.
"""

import os

if os.environ.get('DRS_EVENTLET') == '1':
    from sandbox.embedded import patched  # noqa: F401

import contextlib
import gc
import threading
import time
import unittest

from pyVmomi import vim

from cinder import objects

from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.volumes import reconcile

ON_GREENTHREADS = os.environ.get('DRS_EVENTLET') == '1'
DISKS = int(os.environ.get('DRS_DISKS', '300'))
DISKS_A_VM = 15
REPORT_SECONDS = 0.05
MOST_REPORT_SECONDS = 0.05
LONGEST_SECONDS = 900
TICK_SECONDS = 0.005


class Ticker:
    """Measures for how long a thread that wants to run has to wait."""

    def __init__(self):
        self.longest = self.longest_cpu = 0.0
        self._ended = self._paused = False
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended = True
        self._thread.join()

    @contextlib.contextmanager
    def paused(self):
        """Leave out what the test itself does in this block."""
        self._paused = True
        try:
            yield
        finally:
            time.sleep(4 * TICK_SECONDS)
            self._paused = False

    def _tick(self):
        before = time.monotonic(), time.thread_time()
        while not self._ended:
            time.sleep(TICK_SECONDS)
            now = time.monotonic(), time.thread_time()
            if not self._paused:
                self.longest = max(self.longest,
                                   now[0] - before[0] - TICK_SECONDS)
                # On greenthreads: that of all others.
                self.longest_cpu = max(self.longest_cpu, now[1] - before[1])
            before = now


class StormTestCase(backend_case.BackendCase):

    def test_all_hosts_become_true_and_no_report_waits(self):
        volumes = self.attached()
        self.addCleanup(self.power_off, {vm for _volume, vm in volumes})
        self.report()
        # What is imported is no garbage, and takes a collection 50 ms.
        gc.collect()
        gc.freeze()
        self.control.reset_journal()
        # As set_initialized does.
        self.driver.backend.promised.start()
        self.addCleanup(self.driver.backend.promised.stop)
        self.driver.backend.reconciler.start(60)
        self.addCleanup(self.driver.backend.reconciler.stop)
        mover = threading.Thread(target=self.move, args=(self.moves(volumes),))
        began = time.monotonic()
        mover.start()
        costs = []
        wrong = {volume.id for volume, _vm in volumes}
        looked_at = time.monotonic()
        moved = most = 0
        with Ticker() as ticker:
            while wrong and time.monotonic() - began < LONGEST_SECONDS:
                cpu, wall = time.thread_time(), time.monotonic()
                self.driver.get_volume_stats(refresh=True)
                costs.append((time.thread_time() - cpu,
                              time.monotonic() - wall))
                most = max(most, len(self.tasks()))
                time.sleep(REPORT_SECONDS)
                if mover.is_alive():
                    moved = time.monotonic() - began
                elif time.monotonic() - looked_at > 3:
                    with ticker.paused():
                        wrong = self.wrong(wrong)
                    looked_at = time.monotonic()
        mover.join()
        moves = self.control.journal()['methods'].get(
            'RelocateVM_Task', {}).get('calls', 0)
        print(f'{len(volumes)} disks: all hosts are true after '
              f'{time.monotonic() - began:.0f} s, with {moves} relocations of '
              f'ours, at most {most} tasks at a time; the moves themselves '
              f'took {moved:.0f} s; {len(costs)} reports took at most '
              f'{max(costs)[0] * 1000:.1f} ms of CPU and '
              f'{max(wall for _cpu, wall in costs) * 1000:.0f} ms; a thread '
              f'waited at most {ticker.longest * 1000:.0f} ms'
              + (f', with {ticker.longest_cpu * 1000:.0f} ms of CPU'
                 if ON_GREENTHREADS else ''))
        self.assertEqual(set(), wrong)
        self.assertLessEqual(most, reconcile.AT_ONCE)
        self.assertLessEqual(max(costs)[0], MOST_REPORT_SECONDS)

    def tasks(self):
        """The tasks of the driver that run."""
        return self.driver.session.task_waiter.in_flight()

    def attached(self):
        """Attached volumes, and the instance of each."""
        found = []
        for number in range(DISKS):
            if number % DISKS_A_VM == 0:
                vm = self.instance(number // DISKS_A_VM)
            volume = self.create('LocalDS_1')
            self.attach(volume, vm)
            found.append((volume, vm))
        return found

    def instance(self, number):
        host = self.all(vim.HostSystem)[0]
        vm = self.wait(self.service.content.rootFolder.childEntity[0].vmFolder
                       .CreateVM_Task(vim.vm.ConfigSpec(
                           name=f'server-{number}', guestId='otherGuest',
                           numCPUs=1, memoryMB=32,
                           files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'),
                           deviceChange=[vim.vm.device.VirtualDeviceSpec(
                               operation='add',
                               device=vim.vm.device.VirtualLsiLogicController(
                                   key=1000, busNumber=0,
                                   sharedBus='noSharing'))]),
                           host.parent.resourcePool, host))
        self.wait(vm.PowerOnVM_Task())
        return vm

    def power_off(self, machines):
        for vm in machines:
            self.wait(vm.PowerOffVM_Task())
            self.wait(vm.Destroy_Task())

    def moves(self, volumes):
        """What to ask of Storage DRS."""
        return [{'vm': vm.name, 'disk': str(self.disk_on(vm, volume).key),
                 'datastore': 'LocalDS_3'} for volume, vm in volumes]

    def move(self, moves):
        """As Storage DRS does, all at once."""
        for each in moves:
            self.control.call('POST', '/sdrs/move', each)

    def wrong(self, ids):
        """Those of the volumes whose hosts name the old pool still."""
        return {each.id for each in objects.VolumeList.get_all(
            self.context, filters={'id': list(ids)})
            if not each.host.endswith('#LocalDS_3')}


if __name__ == '__main__':
    unittest.main()
