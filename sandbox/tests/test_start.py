# SPDX-License-Identifier: Apache-2.0
"""A sandbox is started, described and stopped, also by the command."""
import contextlib
import io
import json
import os
import stat
import subprocess
import sys
import time
import unittest

import psutil

from sandbox.tests import sandbox_case
import sandbox
from sandbox import cloud
from sandbox import configuration
from sandbox import demo
from sandbox import inspection


class FolderTestCase(unittest.TestCase):
    """A test with a folder in which sandboxes can be started."""

    def setUp(self):
        super().setUp()
        self.parent = sandbox_case.new_folder(self.addCleanup)
        self.folder = self.parent / 'one'
        self.addCleanup(cloud.stop, self.folder)

    def run_program(self, *arguments, expected_exit_code=0):
        done = subprocess.run(
            [sys.executable, '-m', 'sandbox', *arguments],
            cwd=configuration.REPOSITORY, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(expected_exit_code, done.returncode, done.stdout)
        return done.stdout

    def assert_nothing_runs(self):
        """No process has its working directory or an argument there.

        One that was killed may take a moment to end.
        """
        deadline = time.monotonic() + 60
        while (left := self.running()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual([], left)

    def running(self):
        left = []
        for process in psutil.process_iter(['pid', 'cmdline', 'cwd']):
            words = [process.info['cwd'] or '',
                     *(process.info['cmdline'] or ())]
            if str(self.folder) in ' '.join(words):
                left.append(process.info)
        return left


class FailedStartTestCase(FolderTestCase):

    def test_a_wrong_password_is_explained_from_the_log(self):
        password = 'not-the-password'

        output = self.run_program(
            'start', '--dir', str(self.folder), '--option',
            'vcenter.vmware_host_password=%s' % password,
            expected_exit_code=1)

        self.assertIn('the volume driver of backend "vcenter"', output)
        self.assertIn('vmware_host_password', output)
        self.assertIn(str(self.folder / 'log' / 'cinder.log'), output)
        self.assertNotIn(password, output)
        self.assertNotIn('Traceback', output)
        self.assert_nothing_runs()

    def test_a_simulator_that_does_not_start_is_explained(self):
        output = self.run_program('start', '--dir', str(self.folder),
                                  '--sim-arg=-no-such-flag',
                                  expected_exit_code=1)

        self.assertIn('vcenter-sim ended while starting', output)
        self.assertIn('no-such-flag', output)
        self.assert_nothing_runs()

    def test_a_driver_that_does_not_exist_is_named(self):
        output = self.run_program('start', '--dir', str(self.folder),
                                  '--driver', 'no_such_module.Driver',
                                  expected_exit_code=1)

        self.assertIn("No module named 'no_such_module'", output)
        self.assert_nothing_runs()

    def test_a_folder_with_other_contents_is_left_alone(self):
        self.folder.mkdir()
        precious = self.folder / 'precious'
        precious.write_text('thesis')

        output = self.run_program('start', '--dir', str(self.folder),
                                  expected_exit_code=1)

        self.assertIn('is not the folder of a sandbox', output)
        self.assertEqual('thesis', precious.read_text())

    def test_a_malformed_option_is_named_with_an_example(self):
        output = self.run_program('start', '--dir', str(self.folder),
                                  '--option', 'debug', expected_exit_code=1)

        self.assertIn('"debug" is not of the form SECTION.OPTION=VALUE',
                      output)


class ProgramTestCase(FolderTestCase):

    def test_started_by_one_program_used_by_others_stopped_by_another(self):
        output = self.run_program('start', '--dir', str(self.folder))

        self.assertIn('. %s/rc' % self.folder, output)
        self._check_description()
        self._check_sourced_clients()
        refusal = self.run_program('start', '--dir', str(self.folder),
                                   expected_exit_code=1)
        self.assertIn('already running', refusal)
        output = self.run_program('stop', '--dir', str(self.folder))
        self.assertEqual('stopped: cinder, vcenter-sim\n', output)
        self.assert_nothing_runs()
        self.assertFalse((self.folder / 'sandbox.json').exists())
        self.assertIn('nothing was running', self.run_program(
            'stop', '--dir', str(self.folder)))

    def _check_description(self):
        path = self.folder / 'sandbox.json'
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        described = json.loads(path.read_text())
        self.assertTrue(described['cinder_url'].startswith(
            'http://127.0.0.1:'))
        self.assertEqual(configuration.PROJECT_ID, described['project_id'])
        self.assertLessEqual({'host', 'port', 'user', 'password', 'cacert',
                              'control_url'}, set(described['vcenter']))

    def _check_sourced_clients(self):
        # Somebody else's cloud in the environment must not matter.
        environment = {**os.environ, 'OS_CLOUD': 'production',
                       'OS_AUTH_URL': 'http://192.0.2.1/', 'HOME': '/'}
        done = subprocess.run(
            ['sh', '-ec', '. "$0/rc"; openstack volume type list -f json; '
             'cinder service-list', str(self.folder)],
            env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertIn('eagerZeroedThick', done.stdout)
        self.assertIn('sandbox@vcenter', done.stdout)


class SideBySideTestCase(FolderTestCase):

    def test_two_sandboxes_know_nothing_of_each_other(self):
        second_folder = self.parent / 'two'
        with sandbox.Sandbox(self.folder) as first, \
                sandbox.Sandbox(second_folder, runtime='threads') as second:
            self.assertNotEqual(first.cinder_url, second.cinder_url)
            self.assertNotEqual(first.vcenter.port, second.vcenter.port)
            created = first.cinder.volumes.create(size=1, name='only-here')
            first.clients.settled_volume(created.id)

            self.assertEqual([], second.cinder.volumes.list())
            for one, expected in ((first, {created.id}), (second, set())):
                with inspection.Inspector(one.vcenter) as inspector:
                    self.assertEqual(expected, {created.id}
                                     & set(inspector.shadow_vms()))
            first.stop()
            self.assertEqual([], second.cinder.volumes.list())
        self.assert_nothing_runs()


class DemonstrationTestCase(FolderTestCase):

    def test_it_shows_commands_and_ends_with_checks_that_pass(self):
        output = self.run_program('demo')

        for command in ('cinder get-pools --detail',
                        'openstack volume create --type eagerZeroedThick',
                        'openstack volume snapshot create',
                        'openstack volume create --source',
                        'openstack volume set --size 3',
                        'openstack volume set --type thin',
                        'openstack volume delete'):
            self.assertIn('$ ' + command, output)
        for name in ('demo-thin', 'demo-thick', 'demo-eagerZeroedThick',
                     'demo-from-snapshot', 'demo-clone'):
            self.assertRegex(output, r'(?m)^%s +sandbox@vcenter#(\S+) +\1 +ok$'
                             % name)
        self.assertTrue(output.endswith('every check passed\n'), output)

    def test_its_checks_fail_on_a_driver_without_pools(self):
        with sandbox.Sandbox(self.folder, runtime='threads',
                             driver=configuration.UPSTREAM_DRIVER) as one, \
                inspection.Inspector(one.vcenter) as inspector:
            shown = demo.Demonstration(one, inspector)
            created = one.cinder.volumes.create(1, name='demo-thin')
            one.clients.settled_volume(created.id)

            with contextlib.redirect_stdout(io.StringIO()) as output:
                placed = shown.check_places()
                nothing_left = shown.check_nothing_left()

        self.assertFalse(placed)
        self.assertRegex(output.getvalue(),
                         r'(?m)^demo-thin .* ANOTHER DATASTORE$')
        self.assertFalse(nothing_left)
        for what in ('volumes', 'shadow VMs', 'files'):
            self.assertRegex(output.getvalue(), r'(?m)^%s .* LEFT$' % what)
