# SPDX-License-Identifier: Apache-2.0
"""Names by Cinder's templates are recognized, and no others."""

import unittest

from cinder_vmdk_ext import names

ID = 'b6f1a1f0-2c0f-4c50-9b41-9f2a4a1b7c10'


class NamesTestCase(unittest.TestCase):

    def test_a_name_leads_back_to_its_id(self):
        for known in (names.Names(), names.Names('v.%s(x)', 's+%s')):
            self.assertEqual(ID, known.volume_id(known.volume_name(ID)))

    def test_signs_of_a_template_stand_for_themselves(self):
        known = names.Names('v.%s', 's+%s')
        self.assertEqual('', known.volume_id(f'vX{ID}'))
        self.assertEqual(ID, known.snapshot_id(f's+{ID}'))

    def test_a_name_with_more_to_it_is_anothers(self):
        known = names.Names()
        for name in (f'volume-{ID}-copy', f'my-volume-{ID}', 'volume-1', ''):
            self.assertEqual('', known.volume_id(name))

    def test_a_temporary_vm_names_its_volume(self):
        known = names.Names()
        for purpose in ('retype-0a1b2c3d', f'tmp-{ID}', 'moved',
                        'image-0a1b2c3d',
                        'reimage-0a1b2c3d-image-4e5f6071'):
            self.assertEqual(ID, known.temporary_of(f'volume-{ID}-{purpose}'))
        self.assertEqual('', known.temporary_of(f'volume-{ID}'))

    def test_names_of_volumes_and_their_temporary_vms_are_volumes(self):
        known = names.Names()
        for name in (f'volume-{ID}', f'volume-{ID}-moved'):
            self.assertTrue(known.is_volumes(name), name)
        for name in (f'volume-{ID}-Copy', f'my-volume-{ID}', 'web', ''):
            self.assertFalse(known.is_volumes(name), name)

    def test_a_path_names_what_its_folder_is_of(self):
        known = names.Names()
        for path in (f'volume-{ID}_1/disk.vmdk', f'a/snapshot-{ID}/x.vmdk'):
            self.assertEqual(ID, known.in_path(path))
        self.assertEqual('', known.in_path(f'a-volume-{ID}/x.vmdk'))

    def test_a_temporary_image_names_its_deployment(self):
        folder = names.temporary_folder('one')
        self.assertEqual(names.digest('one'),
                         names.deployment_of(f'{folder}a.vmdk'))
        self.assertNotEqual(folder, names.temporary_folder('other'))
        self.assertEqual('cinder_temp/', names.temporary_folder(''))
        for path in ('cinder_temp/a.vmdk', f'other/{folder}a.vmdk'):
            self.assertEqual('', names.deployment_of(path))


if __name__ == '__main__':
    unittest.main()
