# SPDX-License-Identifier: Apache-2.0
"""The driver continues by itself after an outage, and leaks nothing.

A short form of :mod:`cinder_vmdk_ext.tests.functional.outages`.
"""

import collections
import gc
import os
import signal
import threading
import time
from unittest import mock

from cinder import objects

from cinder_vmdk_ext.tests import faulty_proxy
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.vsphere import accounts

MINUTES = float(os.environ.get('VMDK_EXT_TEST_OUTAGE_MINUTES', 0.6))
WORKERS = 3
# How long it may take, after an outage, until all is as before.
RECOVERY_SECONDS = 120
# Within this time the simulator has saved what it has done
# (simulator/docs/control.md, Supervision: about 0.1 s on an idle machine).
SAVING_SECONDS = 1.0


class Service:
    """Does with a driver what cinder-volume does, from several threads."""

    def __init__(self, case):
        self._case = case
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.calm = False
        self.done = {'stats': 0, 'down': 0, 'begun': 0, 'created': 0,
                     'deleted': 0, 'failed': 0}
        self.errors = []
        self.reasons = collections.Counter()
        self._threads = [threading.Thread(target=self._report)] + [
            threading.Thread(target=self._work) for _ in range(WORKERS)]

    def start(self):
        for each in self._threads:
            each.start()

    def stop(self):
        self._stop.set()
        for each in self._threads:
            each.join(600)
        return [each for each in self._threads if each.is_alive()]

    def count(self, what):
        with self._lock:
            self.done[what] += 1

    def fail(self, error):
        self.count('failed')
        cause = ' '.join(str(error).split())[:160]
        self.reasons[f'{type(error).__name__}: {cause}'] += 1

    def _report(self):
        """Statistics never fail: they report the state."""
        while not self._stop.wait(0.5):
            try:
                stats = self._case.driver.get_volume_stats(refresh=True)
            except Exception as error:
                self.errors.append(f'statistics: {error!r}')
            else:
                self.count('stats')
                if stats['backend_state'] != 'up':
                    self.count('down')

    def _work(self):
        while not self._stop.is_set():
            volume = self._case.new_volume()
            self.count('begun')
            try:
                self._case.made(volume,
                                self._case.driver.create_volume(volume))
            except Exception as error:
                self.fail(error)
            else:
                self.count('created')
            self._delete(volume)

    def _delete(self, volume):
        """As a user does: again and again, until it is gone."""
        tries_left = 30  # after the end
        while True:
            try:
                volume = objects.Volume.get_by_id(self._case.context,
                                                  volume.id)
                self._case.driver.delete_volume(volume)
            except Exception as error:
                self.fail(error)
                if self._stop.wait(1):
                    time.sleep(1)
                    tries_left -= 1
                if not tries_left:
                    self.errors.append(f'{volume.id}: {error!r}')
                    return
            else:
                self.count('deleted')
                volume.destroy()
                return


class OutagesTestCase(backend_case.BackendCase):
    """One service, one vCenter, and everything that can come between."""

    VCENTER = backend_case.BackendCase.VCENTER | {'supervise': True, 'ds': 2}

    @classmethod
    def set_up_driver(cls, **options):
        cls.proxy = faulty_proxy.FaultyProxy(cls.vcenter.port)
        cls.proxy.__enter__()
        cls.addClassCleanup(cls.proxy.__exit__)
        return super().set_up_driver(vmware_host_port=cls.proxy.port,
                                     vmware_api_retry_count=4, **options)

    def setUp(self):
        super().setUp()
        patch = mock.patch.multiple(accounts, FIRST_PAUSE_SECONDS=1,
                                    LONGEST_PAUSE_SECONDS=1)
        patch.start()
        self.addCleanup(patch.stop)

    # -- What happens -------------------------------------------------------

    def restart(self, seconds):
        """The vCenter dies; its supervisor starts it again.

        No client hears of what it has not saved: a vCenter answers when its
        database has it.
        """
        self.proxy.mute()
        time.sleep(SAVING_SECONDS)
        os.kill(self.control.process()['pid'], signal.SIGKILL)
        self.proxy.cut()
        self.proxy.pass_on()
        time.sleep(seconds)

    def unreachable(self, seconds):
        self.proxy.refuse()
        time.sleep(seconds)
        self.proxy.pass_on()

    def silent(self, seconds):
        self.proxy.keep_silent()
        time.sleep(seconds)
        self.proxy.cut()
        self.proxy.pass_on()

    def mute(self, seconds):
        self.proxy.mute()
        time.sleep(seconds)
        self.proxy.cut()
        self.proxy.pass_on()

    def slow(self, seconds):
        self.proxy.delay_seconds = 0.3
        time.sleep(seconds)
        self.proxy.delay_seconds = 0.0

    def sessions_ended(self, seconds):
        for _ in range(3):
            self.end_sessions_of_the_driver()
            time.sleep(seconds / 3)

    def logins_refused(self, seconds):
        self.control.fault(method='Login', fault={'type': 'InvalidLogin'})
        self.end_sessions_of_the_driver()
        time.sleep(seconds)
        self.control.reset_faults()

    def replies_lost(self, seconds):
        self.control.fault(method='.*_Task', probability=0.5, cut='after')
        self.control.fault(method='Retrieve.*', probability=0.1, cut='before')
        time.sleep(seconds)
        self.control.reset_faults()

    def end_sessions_of_the_driver(self):
        ours = self.driver.session._session_id
        for each in self.control.sessions():
            if each['id'] and self.driver.session._session_id == ours:
                self.control.kill_sessions()
                return

    OUTAGES = (restart, unreachable, silent, mute, slow, sessions_ended,
               logins_refused, replies_lost)

    # -- What holds ---------------------------------------------------------

    def test_the_service_goes_on_and_leaks_nothing(self):
        self.warm_up()
        before = self.resources()
        self.addCleanup(self.reconnect)
        service = Service(self)
        service.start()
        deadline = time.monotonic() + MINUTES * 60
        outcomes = []
        try:
            turn = 0
            while time.monotonic() < deadline or turn < len(self.OUTAGES):
                outage = self.OUTAGES[turn % len(self.OUTAGES)]
                turn += 1
                at = dict(service.done)
                outage(self, 1 + 2 * (turn % 2) if MINUTES < 5
                       else 3 + turn % 20)
                took = self.until_as_before(service, outage.__name__)
                outcomes.append((outage.__name__, took, {
                    name: service.done[name] - at[name]
                    for name in service.done}, dict(service.reasons)))
                service.reasons.clear()
        finally:
            hanging = service.stop()
        for name, took, done, reasons in outcomes:
            print(f'{name:16} back after {took:4.1f} s  {done}')
            for reason, count in reasons.items():
                print(f'    {count} x {reason}')
        self.assertEqual([], hanging)
        self.assertEqual([], service.errors)
        self.assertEqual(service.done['begun'], service.done['deleted'])
        self.reconnect()
        self.assertEqual([], sorted(self.shadow_vms()))
        self.assert_no_leak(before)

    def until_as_before(self, service, what):
        """Wait until a volume is made and statistics are good again."""
        start = time.monotonic()
        created = service.done['created']
        while time.monotonic() - start < RECOVERY_SECONDS:
            if (service.done['created'] > created
                    and self.driver.get_volume_stats(refresh=True)[
                        'backend_state'] == 'up'):
                return time.monotonic() - start
            time.sleep(0.1)
        self.fail(f'{RECOVERY_SECONDS} s after {what}: {service.done}, '
                  f'{service.errors[-3:]}')

    def warm_up(self):
        """Have all that is made once and kept be made."""
        for _ in range(2):
            volume = self.create()
            self.driver.delete_volume(volume)
        self.driver.get_volume_stats(refresh=True)

    def reconnect(self):
        """pyVmomi's own session went with the outages."""
        type(self).service = self.vcenter.connect()

    def resources(self):
        gc.collect()
        return {
            'threads': len([each for each in threading.enumerate()
                            if each.name != faulty_proxy.THREADS]),
            'files': len(os.listdir('/proc/self/fd'))
            - self.proxy.open_sockets(),
            **self.control.watching()}

    def assert_no_leak(self, before):
        # A connection more or less for each worker is the pools' business.
        allowed = before | {'files': before['files'] + 4 * WORKERS}
        deadline = time.monotonic() + 120
        while True:
            # What is made next has views destroyed whose making was not
            # heard of, unless another is being made at that moment.
            self.driver.volumeops.read_all_backings()
            now = self.resources()
            if all(now[name] <= allowed[name] for name in allowed):
                break
            if time.monotonic() > deadline:
                self.fail(f'before {before}, after {now}: '
                          f'{threading.enumerate()}')
            time.sleep(0.5)
        print(f'before {before}, after {now}')
        # One is ours, one is pyVmomi's; what lost its reply at a login is
        # unused and ends by its time limit.
        keys = {each['id'] for each in self.control.sessions()}
        self.assertLessEqual(len(keys), 2, self.control.sessions())
