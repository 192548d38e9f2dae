# SPDX-License-Identifier: Apache-2.0
"""A part of the crash matrix: operations that create or exchange VMs.

The whole matrix takes minutes: ``make crash-matrix``.
"""

from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import crash_matrix


class QuickCase(crash_matrix.CrashCase):

    def assert_right(self, name, modes):
        self.run_operation(name, crash_matrix.OPERATIONS[name], modes)
        self.assertEqual([], [each for each in self.outcomes if each.wrong])
        self.assertTrue(self.outcomes)


class KeptUuidTestCase(QuickCase):
    """A vCenter that gives a new disk the UUID of the request."""

    VCENTER = backend_case.BackendCase.VCENTER

    def test_create(self):
        self.assert_right('create', crash_matrix.MODES)


class QuickTestCase(QuickCase):

    def test_create(self):
        self.assert_right('create', ('killed after', 'reply lost'))

    def test_snapshot(self):
        self.assert_right('snapshot (template)', ('killed after',))

    def test_revert(self):
        self.assert_right('revert (template)',
                          ('killed before', 'reply lost'))

    def test_delete(self):
        self.assert_right('delete', ('killed after', 'reply lost'))

    def test_a_cut_is_felt(self):
        outcome = self.run_case('create', crash_matrix.OPERATIONS['create'],
                                'killed before', 0)
        self.assertFalse(outcome.succeeded)
        self.assertIsNone(self.run_case(
            'create', crash_matrix.OPERATIONS['create'], 'killed before',
            crash_matrix.MOST_CALLS))
