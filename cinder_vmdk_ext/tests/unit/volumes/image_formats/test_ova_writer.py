# SPDX-License-Identifier: Apache-2.0
"""A disk becomes an OVA that readers of tar, XML and OVF understand."""

import hashlib
import io
import tarfile
import unittest
from xml.etree import ElementTree

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes.image_formats import ova
from cinder_vmdk_ext.volumes.image_formats import ova_writer
from cinder_vmdk_ext.volumes.image_formats import stream

STREAM = disk_images.stream_optimized(b'content'.ljust(1 << 20, b'\0'))
RASD = ('{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/'
        'CIM_ResourceAllocationSettingData}')
OVF = f'{{{disk_images.DMTF}}}'


def disk(data=STREAM, adapter='lsiLogic'):
    return ova_writer.WholeDisk(len(data), hashlib.sha256(data).hexdigest(),
                                1 << 20, adapter)


def written(data=STREAM, name='name', adapter='lsiLogic'):
    return b''.join(ova_writer.write('stem', name, disk(data, adapter),
                                     [data]))


class WriteTestCase(unittest.TestCase):

    def members(self, archive):
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            return {member.name: opened.extractfile(member).read()
                    for member in opened}

    def test_the_descriptor_comes_first_and_the_disk_last(self):
        for data in (STREAM, STREAM + b'x'):
            members = self.members(written(data))
            self.assertEqual(['stem.ovf', 'stem.mf', 'stem-disk1.vmdk'],
                             list(members))
            self.assertEqual(data, members['stem-disk1.vmdk'])

    def test_the_manifest_has_the_sums_of_both_files(self):
        members = self.members(written())
        wanted = ''.join(
            f'SHA256({name})= {hashlib.sha256(members[name]).hexdigest()}\n'
            for name in ('stem.ovf', 'stem-disk1.vmdk'))
        self.assertEqual(wanted, members['stem.mf'].decode())

    def test_our_reader_and_another_find_the_disk(self):
        archive = written()
        self.assertEqual(STREAM, disk_images.disk_in(archive))
        size, data = ova.find_disk(stream.Peekable([archive]))
        self.assertEqual((len(STREAM), STREAM), (size, b''.join(data)))

    def test_a_disk_above_8_gib_has_a_header(self):
        large = disk()._replace(size_bytes=9 << 30)
        chunks = list(ova_writer.write('stem', 'name', large, []))
        found = tarfile.TarInfo.frombuf(chunks[-3], 'utf-8', 'strict')
        self.assertEqual(('stem-disk1.vmdk', 9 << 30),
                         (found.name, found.size))


class DescribeTestCase(unittest.TestCase):

    def tree(self, name='name', adapter='lsiLogic'):
        return ElementTree.fromstring(ova_writer.describe(
            'd.vmdk', name, disk(adapter=adapter)))

    def test_the_disk_and_its_file(self):
        tree = self.tree()
        file, = tree.iterfind(f'.//{OVF}File')
        found, = tree.iterfind(f'.//{OVF}Disk')
        self.assertEqual(
            ('d.vmdk', str(len(STREAM)), file.get(f'{OVF}id')),
            (file.get(f'{OVF}href'), file.get(f'{OVF}size'),
             found.get(f'{OVF}fileRef')))
        self.assertEqual((str(1 << 20), 'byte'), (
            found.get(f'{OVF}capacity'),
            found.get(f'{OVF}capacityAllocationUnits')))
        self.assertTrue(found.get(f'{OVF}format').endswith(
            '#streamOptimized'))

    def test_the_controller_is_that_of_the_adapter(self):
        for adapter, kind, subtype in (
                ('lsiLogic', '6', 'lsilogic'), ('ide', '5', None),
                ('paraVirtual', '6', 'VirtualSCSI'),
                ('lsiLogicsas', '6', 'lsilogicsas'),
                ('busLogic', '6', 'buslogic'), (None, '6', 'lsilogic')):
            items = {item.findtext(f'{RASD}InstanceID'): item for item
                     in self.tree(adapter=adapter).iter(f'{OVF}Item')}
            hard_disk = items['4']
            self.assertEqual('17', hard_disk.findtext(f'{RASD}ResourceType'))
            controller = items[hard_disk.findtext(f'{RASD}Parent')]
            self.assertEqual((kind, subtype), (
                controller.findtext(f'{RASD}ResourceType'),
                controller.findtext(f'{RASD}ResourceSubType')))

    def test_items_have_their_elements_in_the_order_of_the_schema(self):
        for item in self.tree().iter(f'{OVF}Item'):
            names = [each.tag for each in item]
            self.assertEqual(sorted(names), names)

    def test_any_name_of_an_image_is_well_formed(self):
        for name in ('a<b>&"c', 'é服', 'x\0\x1b\n', '\udc80'):
            self.assertTrue(self.tree(name).findtext(f'.//{OVF}Name'))


if __name__ == '__main__':
    unittest.main()
