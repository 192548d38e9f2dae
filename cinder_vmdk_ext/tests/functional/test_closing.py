# SPDX-License-Identifier: Apache-2.0
"""No session with the vCenter is left behind, however the driver ends."""

import gc
import glob
import json
import os
import pathlib
import select
import signal
import subprocess
import sys

from cinder import context as cinder_context

from cinder_vmdk_ext import driver
from cinder_vmdk_ext import exceptions
from sandbox.embedded import section
from simulator.conformance import vcenter_case
from simulator import control


# For what a process takes a second or two.
SECONDS = 300


class ClosingCase(vcenter_case.VCenterCase):
    """Counts the sessions, beside that of the counting client."""

    flags = {'ds': 2, 'vm': 0}

    def setUp(self):
        super().setUp()
        self.sim = control.Control(self.vcenter.control_url)
        self.addCleanup(self.sim.reset_faults)
        self.own = self.keys()

    def keys(self):
        """The keys of all sessions, as SessionManager.sessionList has them."""
        return {each.key for each
                in self.content.sessionManager.sessionList}

    def others(self):
        return len(self.keys() - self.own)

    def make_driver(self, **options):
        return driver.VmdkExtDriver(
            configuration=section.read(**section.of_vcenter(
                self.vcenter, **options)), host='cinder-1@vmdk')


class SetupTestCase(ClosingCase):
    """The driver is set up, and comes to its end, within this process."""

    def test_a_second_setup_ends_the_first_ones_session(self):
        made = self.make_driver()
        made.do_setup(cinder_context.get_admin_context())
        self.assertEqual(1, self.others())
        agents = {each.userAgent for each
                  in self.content.sessionManager.sessionList
                  if each.key not in self.own}
        self.assertEqual({'cinder-vmdk-ext'}, agents)
        made.do_setup(cinder_context.get_admin_context())
        self.assertEqual(1, self.others())
        made.backend.end_session()
        self.assertEqual(0, self.others())

    def test_a_setup_that_fails_leaves_no_session(self):
        made = self.make_driver(vmware_cluster_name='no-such-cluster')
        with self.assertRaises(exceptions.InvalidSettings):
            made.do_setup(cinder_context.get_admin_context())
        self.assertEqual(0, self.others())

    def test_a_driver_that_is_gone_has_no_session(self):
        made = self.make_driver()
        made.do_setup(cinder_context.get_admin_context())
        made.backend.stream.stop()
        del made

        def is_alone():
            # A thread may have held a part of it at an earlier collection.
            gc.collect()
            return not self.others()
        self.until(is_alone, 60, lambda: self.others())


class ProcessTestCase(ClosingCase):
    """The service's process ends, in each of Cinder's two runtimes."""

    def launch(self, threads):
        environment = dict(os.environ)
        environment.pop('OS_CINDER_DISABLE_EVENTLET_PATCHING', None)
        if threads:
            environment['OS_CINDER_DISABLE_EVENTLET_PATCHING'] = '1'
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m',
             'cinder_vmdk_ext.tests.launched',
             json.dumps(section.of_vcenter(self.vcenter))],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, start_new_session=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(self.kill, process)
        self.await_ready(process)
        return process

    def await_ready(self, process):
        readable, _, _ = select.select([process.stdout], [], [], SECONDS)
        self.assertTrue(readable, 'it does not get ready')
        self.assertEqual(b'ready\n', process.stdout.readline())
        self.assertEqual(1, self.others())

    @staticmethod
    def kill(process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @staticmethod
    def children(process):
        """The oldest first; the numbers of processes begin anew one day."""
        return sorted((
            int(each) for path in glob.glob(
                f'/proc/{process.pid}/task/*/children')
            for each in pathlib.Path(path).read_text().split()),
            key=lambda pid: (_started_at(pid), pid))

    def test_a_service_that_is_stopped_leaves_no_session(self):
        for threads in False, True:
            with self.subTest(threads=threads):
                process = self.launch(threads)
                process.send_signal(signal.SIGTERM)
                process.wait(SECONDS)
                self.assertEqual(0, self.others())

    def test_a_child_that_dies_leaves_no_session_to_the_next(self):
        for threads in False, True:
            with self.subTest(threads=threads):
                process = self.launch(threads)
                # Of several, the service is the one that was made last.
                os.kill(self.children(process)[-1], signal.SIGKILL)
                self.await_ready(process)
                process.send_signal(signal.SIGTERM)
                process.wait(SECONDS)
                self.assertEqual(0, self.others())


def _started_at(pid):
    """When a process was started, in ticks since the machine's start."""
    # The name before may have spaces.
    return int(pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(
        ')')[2].split()[19])
