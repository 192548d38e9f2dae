# SPDX-License-Identifier: Apache-2.0
"""Upstream's own driver tests hold for our classes too, save those listed here
with a reason.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from cinder_vmdk_ext.tests.contract import upstream_suite

_DRIVER = f'{upstream_suite.TESTS}.test_vmware_vmdk.VMwareVcVmdkDriverTestCase'
_SELECTOR = f'{upstream_suite.TESTS}.test_vmware_datastore.DatastoreTest'

# Test -> why its expectation is not ours. A test listed here that passes after
# all fails the check below.
_OPS = f'{upstream_suite.TESTS}.test_vmware_volumeops.VolumeOpsTestCase'
NOT_OURS: dict[str, str] = {
    f'{_OPS}.test_get_snapshot':
        'snapshots are read through the lean client, from every root',
    f'{_OPS}.test_snapshot_exists':
        'snapshots are read through the lean client',
    f'{_DRIVER}.test_create_session':
        'the vCenter is asked who it is before the login, so that a wrong '
        'address or certificate is told; this test has none to ask',
    f'{_SELECTOR}.test_select_datastore':
        'the choice is made by the plugin (cinder_vmdk_ext.placement)',
    f'{_SELECTOR}.test_is_datastore_compliant_false':
        'compliance is answered by the plugin (cinder_vmdk_ext.policies)',
    f'{_SELECTOR}.test_is_datastore_compliant_true':
        'compliance is answered by the plugin (cinder_vmdk_ext.policies)',
}


def run_suite(mode: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, 'report.json')
        process = subprocess.run(
            [
                sys.executable,
                '-W',
                'ignore',
                '-m',
                upstream_suite.__name__,
                mode,
                report,
            ],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if not os.path.exists(report):
            raise AssertionError(
                'the run of upstream\'s tests gave no report:\n'
                f'{process.stdout}\n{process.stderr[-4000:]}'
            )
        with open(report) as file:
            return json.load(file)


class UpstreamSuiteTestCase(unittest.TestCase):
    """One run of upstream's tests with upstream's classes, and one with ours.
    """

    theirs: dict[str, str]
    ours: dict[str, str]
    uses: dict[str, int]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.theirs = run_suite('upstream')['outcomes']
        ours = run_suite('ours')
        cls.ours, cls.uses = ours['outcomes'], ours['uses']

    def test_upstreams_tests_pass_with_our_classes(self):
        broken = {
            name: outcome
            for name, outcome in self.ours.items()
            if outcome not in ('ok', 'skipped')
            and self.theirs.get(name) == 'ok'
            and name not in NOT_OURS
        }
        if broken:
            self.fail(
                f'{len(broken)} of upstream\'s tests fail with ours:\n\n'
                + '\n\n'.join(
                    f'{name}\n{outcome}' for name, outcome in broken.items()
                )
            )

    def test_every_test_listed_as_not_ours_fails_indeed(self):
        passing = sorted(
            name for name in NOT_OURS if self.ours.get(name) == 'ok'
        )
        self.assertEqual([], passing, 'take these from the list: they pass')

    def test_every_test_listed_as_not_ours_exists(self):
        self.assertEqual(
            [],
            sorted(set(NOT_OURS) - set(self.ours)),
            'upstream has these tests no more',
        )

    def test_the_same_tests_ran_both_times(self):
        self.assertEqual(sorted(self.theirs), sorted(self.ours))
        self.assertGreater(len(self.ours), 300)

    def test_our_classes_took_part(self):
        unused = [
            name for name in upstream_suite.OURS if not self.uses.get(name)
        ]
        self.assertEqual(
            [],
            unused,
            'upstream\'s tests made no object of these classes of ours',
        )


if __name__ == '__main__':
    unittest.main()
