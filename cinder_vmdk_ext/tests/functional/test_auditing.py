# SPDX-License-Identifier: Apache-2.0
"""The commands `audit` and `sweep`, in separate processes."""

import json
import os
import subprocess
import sys
import tempfile

from cinder.db import api

from cinder_vmdk_ext.tests.functional import audit_case
from cinder_vmdk_ext.tests.functional import command_case
from sandbox.embedded import section


class CommandTestCase(audit_case.AuditCase, command_case.CommandCase):
    """The command, as an operator gives it, in a process of its own."""

    def run_command(self, *words, answers=''):
        with api.main_context_manager.reader.using(self.context) as session:
            database = session.get_bind().url
        options = section.of_vcenter(
            self.vcenter,
            volume_driver='cinder_vmdk_ext.driver.VmdkExtDriver')
        lines = ['[DEFAULT]', f'enabled_backends = {section.NAME}',
                 'host = cinder-1', 'transport_url = fake:/',
                 '[database]', f'connection = {database}',
                 f'[{section.NAME}]']
        lines += [f'{name} = {str(value).replace("$", "$$")}'
                  for name, value in options.items()]
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
            file.write('\n'.join(lines) + '\n')
            file.flush()
            return subprocess.run(
                [sys.executable, '-m',
                 'cinder_vmdk_ext.cmd.main', *words,
                 '--config-file', file.name],
                input=answers, capture_output=True, text=True, timeout=600,
                env=os.environ)

    def test_audit_and_sweep(self):
        volume = self.create()
        sessions = len(self.control.sessions())
        self.assertEqual([], self.listed('audit'))
        volume.destroy()
        done = self.run_command('audit', '--format', 'json')
        self.assertEqual((3, ''), (done.returncode, done.stderr))
        found, = json.loads(done.stdout)
        self.assertEqual(('vmdk', 'orphan', volume.id), (
            found['backend'], found['kind'], found['owner']))
        self.assertGreater(found['size_bytes'], 0)
        vm = self.shadow_vms()[volume.name]
        _status, listed, _err = self.command('sweep', '--minimum-age', '0')
        self.assertIn('would be moved', listed)
        status, kept, asked = self.command(
            'sweep', '--minimum-age', '0', '--act', answers='n\n')
        self.assertEqual(1, status)
        self.assertIn('left', kept)
        self.assertIn(f'Move orphan vm {volume.name}', asked)
        self.assertNotEqual('Quarantine', vm.parent.name)
        moved = self.run_command('sweep', '--minimum-age', '0', '--act',
                                 answers='y\n')
        self.assertIn('moved', moved.stdout, moved.stderr)
        self.assertEqual('Quarantine', vm.parent.name)
        self.assertEqual(sessions, len(self.control.sessions()))
        for each in (done, moved):
            self.assertNotIn(section.PASSWORD, each.stdout + each.stderr)

    def test_a_saved_report_shows_what_has_changed_since(self):
        with tempfile.TemporaryDirectory() as folder:
            report = f'{folder}/report.json'
            first, second = self.create(), self.create()
            first.destroy()
            found, = self.listed('audit', '--save', report, status=3)
            self.assertEqual('', found['change'])
            self.wait(self.shadow_vms()[first.name].Destroy_Task())
            second.destroy()
            found = self.listed('audit', '--since', report, status=3)
            self.assertEqual(
                [(second.id, 'new'), (first.id, 'gone')],
                [(each['owner'], each['change']) for each in found])
            status, out, err = self.command('audit', '--since', '/dev/null')
            self.assertEqual((2, ''), (status, out))
            self.assertIn('not written by "audit --save"', err)

    def test_what_reads_is_quiet_in_a_process_of_its_own(self):
        for words in (['pool', 'explain'], ['check']):
            with self.subTest(words):
                done = self.run_command(*words, '--format', 'json')
                self.assertEqual((3, ''), (done.returncode, done.stderr))
                self.assertNotIn('the check failed', done.stdout)
                self.assertTrue(json.loads(done.stdout))

    def test_one_clear_error_for_a_backend_that_is_not_there(self):
        done = self.run_command('audit', '--backend', 'nowhere')
        self.assertEqual(2, done.returncode)
        self.assertIn("'nowhere' is not an enabled backend", done.stderr)
        self.assertIn(section.NAME, done.stderr)
        self.assertEqual(1, done.stderr.count('\n'))
