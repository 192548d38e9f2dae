# SPDX-License-Identifier: Apache-2.0
"""Upstream's tests of its driver pass with our classes, except those that are
listed here with a reason.
"""

from importlib import metadata
import json
import os
import subprocess
import sys
import tempfile
import unittest

from cinder_vmdk_ext.tests.contract import upstream_suite

_DRIVER = 'test_vmware_vmdk.VMwareVcVmdkDriverTestCase'
_VOLUMEOPS = 'test_vmware_volumeops.VolumeOpsTestCase'
_SELECTOR = 'test_vmware_datastore.DatastoreTest'

# Why an expectation of upstream's is not ours -> the tests that have it. A
# test listed here that passes after all fails the check below.
NOT_OURS_BECAUSE: dict[str, dict[str, tuple[str, ...]]] = {
    'the vCenter is asked who it is before the login, so that a wrong address '
    'or certificate is named; this test has none to ask': {
        _DRIVER: ('test_create_session',)},
    'the choice, and what complies, is the plugin\'s to report '
    '(placement.py, policies.py)': {
        _SELECTOR: ('test_select_datastore',
                    'test_is_datastore_compliant_false',
                    'test_is_datastore_compliant_true')},
    'all VMs are read when a backing of an old release is first missed, not '
    'at every start (volumeops.py)': {
        _VOLUMEOPS: ('test_build_backing_ref_cache',)},
    'of a fresh VM the disk alone is read, not all devices (volumeops.py)': {
        _VOLUMEOPS: ('test_update_backing_disk_uuid',)},
    'a copy is made by one CloneVM on the pool in the volume\'s host, in the '
    'form that its type asks for; upstream copies twice (creation.py)': {
        _DRIVER: ('test_create_cloned_volume',
                  'test_create_cloned_volume_linked',
                  'test_create_cloned_volume_linked_when_attached',
                  'test_create_cloned_volume_when_attached',
                  'test_create_volume_from_snapshot',
                  'test_create_volume_from_snapshot_template')},
    'a snapshot whose volume or disk is gone is an error, where upstream '
    'reports success; and its depth is limited (snapshots.py)': {
        _DRIVER: ('test_create_snapshot_template',
                  'test_create_snapshot_when_attached',
                  'test_create_snapshot_with_backing',
                  'test_create_snapshot_without_backing',
                  'test_create_volume_from_snapshot_without_backing_snapshot',
                  'test_delete_snapshot_template')},
    'a snapshot below an attached disk is busy: Cinder then keeps it as it '
    'was, where upstream\'s InvalidSnapshot leaves it in error_deleting '
    '(snapshots.py)': {
        _DRIVER: ('test_delete_snapshot_when_attached',)},
    'templates of the volume\'s snapshots are looked for too, in the database '
    'that this test does not have (snapshots.py)': {
        _DRIVER: ('test_accept_transfer',)},
    'extend says beforehand what vSphere would refuse, and this test\'s '
    'backing, a mock, seems to have snapshots (extend.py, retype.py)': {
        _DRIVER: ('test_extend_volume',
                  'test_extend_volume_with_extend_backing_error',
                  'test_extend_volume_with_no_disk_space')},
    'retype keeps the pool that the scheduler chose, and changes in place '
    'what it can, of attached volumes too (extend.py, retype.py)': {
        _DRIVER: (
            'test_retype_with_diff_extra_spec_and_ds_compliance',
            'test_retype_with_diff_extra_spec_and_vol_snapshot',
            'test_retype_with_diff_extra_spec_ds_compliance_and_clone_error',
            'test_retype_with_diff_profile_and_ds_compliance',
            'test_retype_with_diff_profile_and_ds_sel_no_candidate',
            'test_retype_with_in_use_volume')},
    'the vCenter\'s credentials are given to no client by default '
    '(connections.py)': {
        _DRIVER: ('test_get_connection_info_vmdk_connector',)},
    'images go by transfers of our own, whose status and length are '
    'checked and whose waits end; a disk is not deleted before its new image '
    'stands (images.py)': {
        _DRIVER: (
            'test_copy_image',
            'test_copy_image_insecure',
            'test_copy_image_to_volume_stream_optimized',
            'test_copy_image_to_volume_stream_optimized_with_download_error',
            'test_copy_image_to_volume_stream_optimized_with_duplicate_name',
            'test_copy_temp_image',
            'test_copy_volume_to_image',
            'test_copy_volume_to_image_with_no_backing')},
    'an image is opened, and checked by its data, before anything is made of '
    'it; these tests\' images have none (source_image.py)': {
        _DRIVER: (
            'test_copy_image_to_volume_1_sparse',
            'test_copy_image_to_volume_2_preallocated',
            'test_copy_image_to_volume_3_streamOptimized',
            'test_copy_image_to_volume_with_extend_backing_1_sparse',
            'test_copy_image_to_volume_with_extend_backing_2_preallocated',
            'test_copy_image_to_volume_with_extend_backing_3_streamOptimized',
            'test_copy_image_to_volume_with_invalid_container',
            'test_copy_image_to_volume_with_ova_container')},
    'a disk that snapshots leave out is not reverted; this test\'s, a mock, '
    'seems to be one (snapshots.py)': {
        _DRIVER: ('test_revert_to_snapshot',)},
    'where a VM uses several datastores, its disk\'s is the volume\'s '
    '(volumeops.py)': {
        _VOLUMEOPS: ('test_get_datastore',)},
    'a disk that is to be managed is made ready before its VM loses it, and '
    'what is unmanaged can be managed again (manage.py)': {
        _DRIVER: ('test_manage_existing',
                  'test_manage_existing_get_size_1__16384__1_',
                  'test_manage_existing_get_size_2__1048576__1_',
                  'test_manage_existing_get_size_3__1572864__2_',
                  'test_unmanage')},
    'a snapshot is looked for and deleted in one step, which shows whether '
    'there was one (volumeops.py)': {
        _DRIVER: ('test_delete_snapshot_with_backing',
                  'test_delete_snapshot_without_backend_snapshot'),
        _VOLUMEOPS: ('test_delete_snapshot',)},
    'the whole tree of snapshots is read; upstream sees its first root only '
    '(volumeops.py)': {
        _VOLUMEOPS: ('test_get_snapshot', 'test_snapshot_exists')},
}
# Of these, what upstream has only since a release of Cinder's.
SINCE = {
    'test_copy_image_to_volume_stream_optimized_with_duplicate_name': 28,
}
NOT_OURS = {
    f'{upstream_suite.TESTS}.{case}.{name}': reason
    for reason, cases in NOT_OURS_BECAUSE.items()
    for case, names in cases.items() for name in names}


def run_suite() -> list[dict]:
    """The reports of a run with upstream's classes, and of one with ours."""
    with tempfile.TemporaryDirectory() as folder:
        reports = [os.path.join(folder, name)
                   for name in ('upstream.json', 'ours.json')]
        process = subprocess.run(
            [
                sys.executable,
                '-W',
                'ignore',
                '-m',
                upstream_suite.__name__,
                *reports,
            ],
            capture_output=True,
            text=True,
            timeout=600,
        )
        read = []
        for report in reports:
            if not os.path.exists(report):
                raise AssertionError(
                    'a run of upstream\'s tests gave no report:\n'
                    f'{process.stdout}\n{process.stderr[-4000:]}'
                )
            with open(report) as file:
                read.append(json.load(file))
        return read


class UpstreamSuiteTestCase(unittest.TestCase):
    """One run of upstream's tests with upstream's classes, and one with ours.
    """

    theirs: dict[str, str]
    ours: dict[str, str]
    uses: dict[str, int]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        theirs, ours = run_suite()
        cls.theirs = theirs['outcomes']
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
        release = int(metadata.version('cinder').partition('.')[0])
        expected = {name for name in NOT_OURS
                    if SINCE.get(name.rpartition('.')[2], 0) <= release}
        self.assertEqual(
            [],
            sorted(expected - set(self.ours)),
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
