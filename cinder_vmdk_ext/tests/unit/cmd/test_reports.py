# SPDX-License-Identifier: Apache-2.0
"""A saved report of an audit, and what has changed since."""

import datetime
import json
import unittest

from cinder_vmdk_ext.cmd import reports

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
KEYS = 'backend', 'kind', 'reference', 'size_bytes'


def finding(reference, backend='a', size_bytes=1):
    return dict(zip(KEYS, (backend, 'orphan', reference, size_bytes)))


class ReportsTestCase(unittest.TestCase):

    def test_what_was_saved_is_read_again(self):
        found = [finding('vm-1'), finding('vm-2', 'b')]
        self.assertEqual(
            (frozenset('ab'), found),
            reports.load(reports.dump(['b', 'a'], found, NOW), KEYS))

    def test_what_came_stayed_and_went_is_told_apart(self):
        before = [finding('vm-1'), finding('vm-2'), finding('vm-3', 'b')]
        # Another size is no other finding; backend b is not audited now.
        changes, gone = reports.compared(
            [finding('vm-2', size_bytes=2), finding('vm-4')], before, ['a'])
        self.assertEqual(['as before', 'new'], changes)
        self.assertEqual(['vm-1'], [each['reference'] for each in gone])

    def test_what_is_no_report_is_refused(self):
        good = json.loads(reports.dump(['a'], [finding('vm-1')], NOW))
        for text, why in (
                ('', 'not written by'), ('[' * 100000, 'not written by'),
                ('[]', 'not written by'), ('{}', 'not written by'),
                (json.dumps(good | {'format': 'x'}), "format is 'x'"),
                (json.dumps(good | {'version': 2}), 'version 2'),
                (json.dumps(good | {'findings': [{'kind': 'lost'}]}),
                 'a finding lacks backend'),
                (json.dumps(good | {'findings': [1]}), 'not written by')):
            with self.subTest(text[:60]), self.assertRaisesRegex(
                    ValueError, why):
                reports.load(text, KEYS)
