# SPDX-License-Identifier: Apache-2.0
"""The cached images of a backend, on plain values."""

import types
import unittest

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import image_cache

ID = '11111111-2222-3333-4444-555555555555'
IMAGE = '99999999-2222-3333-4444-555555555555'
ENTRY = {'image_id': IMAGE, 'volume_id': ID, 'host': 'h@b#gold',
         'cluster_name': None, 'size': 2, 'last_used': None}
FOLDER = f'[gold] volume-{ID}'
VM = compare.Machine('vm-1', f'volume-{ID}', uuid=ID, ours=True, pool='gold',
                     folder=FOLDER, disks=(f'{FOLDER}/base.vmdk',))


def read(machines=(VM,), entries=(ENTRY,), **changes):
    record = types.SimpleNamespace(**{
        'id': ID, 'status': 'available', 'display_name': f'image-{IMAGE}',
        'project_id': 'internal', 'host': 'h@b#gold', 'size': 2} | changes)
    return image_cache.read(
        compare.Evidence((compare.Volume(ID, f'volume-{ID}', 'gold'),), (),
                         tuple(machines), ()),
        {ID: record}, entries, 'internal')


class ImageCacheTestCase(unittest.TestCase):

    def test_an_entry_with_its_volume_is_ready(self):
        found, = read()
        self.assertEqual((IMAGE, 'gold', 'ready', ''), (
            found.image_id, found.pool, found.state, found.hindrance))

    def test_who_reads_its_files_keeps_it_and_what_it_reads_does_not(self):
        below = compare.Machine('vm-2', 'clone', below=(
            f'{FOLDER}/base.vmdk',))
        above = compare.Machine('vm-3', 'source', disks=('[gold] s/s.vmdk',))
        found, = read([VM, below, above])
        self.assertEqual(('clone (vm-2)',), found.used_by)
        self.assertIn('clone (vm-2)', found.hindrance)

    def test_a_project_other_than_the_internal_tenant_has_no_cached_image(
            self):
        self.assertEqual(1, len(read(entries=())))
        self.assertEqual([], read(entries=(), project_id='another'))
        self.assertEqual([], read(entries=(), display_name='image-x'))

    def test_a_lost_one_can_be_cleared_after_a_delete_failed(self):
        found, = read(machines=(), status='error_deleting')
        self.assertEqual(('lost', ''), (found.state, found.hindrance))
        found, = read(status='error_deleting')
        self.assertEqual('its volume is error_deleting', found.hindrance)


if __name__ == '__main__':
    unittest.main()
