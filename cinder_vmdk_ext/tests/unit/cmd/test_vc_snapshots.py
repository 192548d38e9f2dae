# SPDX-License-Identifier: Apache-2.0
"""The calls of `vc snapshot` to the storage API."""

from unittest import mock

from cinder_vmdk_ext.tests.unit.cmd import vc_case


class VcSnapshotsTestCase(vc_case.VcCase):

    def test_delete_consolidates_unless_told_otherwise(self):
        for words, consolidate in ([], True), (['--no-consolidate'], False):
            self.assert_call(
                self.api.snapshots.delete,
                mock.call('vm', 's', children=False,
                          consolidate=consolidate),
                'snapshot', 'delete', 'vm', 's', *words)

    def test_rename_keeps_the_description_that_is_not_named(self):
        self.assert_call(self.api.snapshots.rename,
                         mock.call('vm', 's', 't', None),
                         'snapshot', 'rename', 'vm', 's', 't')
