# SPDX-License-Identifier: Apache-2.0
"""Searches of datastores, and their results."""

import datetime
import unittest

from oslo_vmware import exceptions

from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.tests.unit import worlds
from cinder_vmdk_ext.vsphere import datastore_browser
from cinder_vmdk_ext.vsphere import references

DISK = ('<file xmlns:x="http://www.w3.org/2001/XMLSchema-instance"'
        ' x:type="VmDiskFileInfo"><path>a.vmdk</path><fileSize>5</fileSize>'
        '<modification>2026-11-28T03:00:00Z</modification>'
        '<diskType>VirtualMachine.VirtualDiskFlatVer2BackingInfo</diskType>'
        '<capacityKb>2</capacityKb><thin>true</thin></file>')
EXTENT = '<file><path>a-flat.vmdk</path><fileSize>2048</fileSize></file>'


def folder(path, *files):
    return (f'<HostDatastoreBrowserSearchResults><folderPath>{path}'
            f'</folderPath>{"".join(files)}'
            '</HostDatastoreBrowserSearchResults>')


class VCenter:
    """Searches that end when they are waited for; counts those that run."""

    def __init__(self, results):
        self.results = results
        self.running = self.most = 0
        self.asked = []

    def invoke_api(self, module, method, *arguments):
        return getattr(module, method)(*arguments)

    def call(self, method, this, arguments):
        self.running += 1
        self.most = max(self.most, self.running)
        self.asked.append((method, this, arguments['datastorePath'],
                           arguments['searchSpec'].fields))
        return vcenters.reply(
            f'<returnval type="Task">task-{this.value}</returnval>')

    def wait_for_task(self, task):
        self.running -= 1
        result = self.results[task.value.removeprefix('task-browser-')]
        if isinstance(result, Exception):
            raise result

    def read(self, ref, path):
        if path == 'browser':
            return {path: references.Ref('HostDatastoreBrowser',
                                         f'browser-{ref.value}')}
        return {path: self.results[ref.value.removeprefix('task-browser-')]}


class SearchTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.datastores = [worlds.datastore(f'datastore-{n}', f'ds {n}')
                           for n in range(10)]
        self.vcenter = VCenter({each.moref: vcenters.reply(
            folder(f'[{each.name}]') + folder(f'[{each.name}] f/', DISK,
                                              EXTENT))
            for each in self.datastores})
        self.browser = datastore_browser.DatastoreBrowser(
            self.vcenter, self.vcenter, self.vcenter.read)

    def test_files_come_with_their_datastore_space_and_age(self):
        found = list(self.browser.files(self.datastores[:1]))
        self.assertEqual([(self.datastores[0], 'f/a.vmdk', 5),
                          (self.datastores[0], 'f/a-flat.vmdk', 2048)],
                         [(datastore, file.path, file.size_bytes)
                          for datastore, file in found])
        self.assertEqual(
            datetime.datetime(2026, 11, 28, 3, tzinfo=datetime.timezone.utc),
            found[0][1].modified_at)

    def test_disks_are_the_files_that_have_a_capacity(self):
        [(_datastore, disk)] = self.browser.disks(self.datastores[:1])
        self.assertEqual(
            ('f/a.vmdk', 2048, 'VirtualDiskFlatVer2BackingInfo', True, False),
            (disk.path, disk.capacity_bytes, disk.disk_type, disk.thin,
             disk.encrypted))

    def test_only_a_few_searches_run_at_a_time(self):
        found = list(self.browser.disks(self.datastores))
        self.assertEqual(self.datastores, [each for each, _disk in found])
        self.assertEqual(datastore_browser.AT_ONCE, self.vcenter.most)

    def test_a_datastore_that_cannot_be_searched_is_an_error(self):
        self.vcenter.results['datastore-3'] = exceptions.VimException('no')
        with self.assertRaises(exceptions.VimException):
            list(self.browser.disks(self.datastores))

    def test_one_disk_is_looked_for_in_its_folder_alone(self):
        result = vcenters.reply('<folderPath>[ds 0] f/</folderPath>' + DISK)
        self.vcenter.results['datastore-0'] = result
        found = self.browser.disk(self.datastores[0], 'f/a.vmdk')
        self.assertEqual('f/a.vmdk', found.path)
        [(method, _this, path, spec)] = self.vcenter.asked
        self.assertEqual(('SearchDatastore_Task', '[ds 0] f', 'a.vmdk'),
                         (method, path, spec['matchPattern']))

    def test_what_is_not_there_or_no_disk_is_none(self):
        for result in (exceptions.FileNotFoundException('no'), None,
                       vcenters.reply('<folderPath>[ds 0] f/</folderPath>'
                                      + EXTENT.replace('a-flat', 'a'))):
            self.vcenter.results['datastore-0'] = result
            self.assertIsNone(self.browser.disk(self.datastores[0],
                                                'f/a.vmdk'))

    def test_a_result_that_makes_no_sense_is_a_malformed_reply(self):
        for result in (folder('ds 0'), folder('[ds 0] f', DISK.replace(
                '>2<', '>x<')), folder('[ds 0]', DISK.replace('2026', 'y'))):
            with self.assertRaises(exceptions.VimConnectionException):
                list(datastore_browser.files_of(vcenters.reply(result),
                                                'ds 0'))


class PathTestCase(unittest.TestCase):

    def test_brackets_belong_to_the_name_or_to_the_path(self):
        for text, name, path in (
                ('[gold] f/x.vmdk', 'gold', 'f/x.vmdk'),
                ('[gold]', 'gold', ''),
                ('[gold] a] b/x.vmdk', 'gold', 'a] b/x.vmdk'),
                ('[[x] y] f/x.vmdk', '[x] y', 'f/x.vmdk'),
                ('[a/b] f/x.vmdk', 'a%2fb', 'f/x.vmdk'),
                ('[a%2fb] f/x.vmdk', 'a%2fb', 'f/x.vmdk')):
            self.assertEqual(path, datastore_browser.path_on(text, name))

    def test_a_text_without_a_datastore_is_no_path(self):
        self.assertRaises(ValueError, datastore_browser.path_on, 'f/x', 'a')


if __name__ == '__main__':
    unittest.main()
