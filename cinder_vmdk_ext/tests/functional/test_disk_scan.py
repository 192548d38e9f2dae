# SPDX-License-Identifier: Apache-2.0
"""The list of disks and files that can be managed."""

from cinder import objects

from cinder_vmdk_ext.tests.functional import manage_case


class ListTestCase(manage_case.ManageCase):
    """manageable-list."""

    def test_disks_and_files_with_what_there_is_to_know(self):
        path = self.leave_file('left')
        vm = self.make_vm('server', sizes_gib=(1.5,), thin=False)
        entry = self.entry(self.path(vm))
        self.assertEqual(
            {'reference': self.reference(vm), 'size': 2,
             'safe_to_manage': True, 'reason_not_safe': None,
             'cinder_id': None}, {name: entry[name] for name in entry
                                  if name != 'extra_info'})
        self.assertEqual('server', entry['extra_info']['vm'])
        self.assertEqual('thick', entry['extra_info']['disk_type'])
        entry = self.entry(path)
        self.assertEqual(({'source-name': path}, True, 1), (
            entry['reference'], entry['safe_to_manage'], entry['size']))

    def test_pages_and_order(self):
        for number in range(3):
            self.make_vm(f'server-{number}', sizes_gib=(3 - number,))
        sorting = {'sort_keys': ['size', 'reference'],
                   'sort_dirs': ['desc', 'asc']}
        whole = self.listed(**sorting)
        sizes = [each['size'] for each in whole]
        self.assertEqual(sorted(sizes, reverse=True), sizes)
        first = self.listed(limit=2, **sorting)
        second = self.listed(limit=2, offset=1, marker=first[-1]['reference'],
                             **sorting)
        self.assertEqual((whole[:2], whole[3:5]), (first, second))

    def test_cinder_takes_it_as_objects(self):
        self.make_vm('server')
        made = objects.ManageableVolumeList.from_primitives(
            self.context, self.listed())
        self.assertTrue(all(each.extra_info for each in made))

    def test_calls_do_not_grow_with_the_vms(self):
        self.listed()
        with self.counted() as few:
            self.listed()
        for number in range(10):
            self.make_vm(f'server-{number}')
        with self.counted() as many:
            self.listed()
        self.assertLessEqual(many.total(), few.total() + 1)
