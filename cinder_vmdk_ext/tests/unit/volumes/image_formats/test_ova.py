# SPDX-License-Identifier: Apache-2.0
"""OVAs of common tools, and hostile ones."""

import tarfile
import tracemalloc
import unicodedata
import unittest

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes.image_formats import ova
from cinder_vmdk_ext.volumes.image_formats import stream

DISK = b'the disk' * 1000
MIB = 1 << 20
MOST_MEMORY_BYTES = 48 * MIB


def zeros(size):
    for _ in range(0, size, 65536):
        yield bytes(65536)


def found(data, size=1000):
    """The disk that is found in an archive."""
    source = stream.Peekable(data[at:at + size]
                             for at in range(0, len(data), size))
    length, chunks = ova.find_disk(source)
    content = b''.join(chunks)
    assert len(content) == length
    return content


class GoodTestCase(unittest.TestCase):

    def accept(self, members, **kwargs):
        for size in (100, 512, 100000):
            self.assertEqual(DISK, found(disk_images.tar(members, **kwargs),
                                         size))

    def test_in_all_formats_of_archives(self):
        for archive in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT,
                        tarfile.PAX_FORMAT):
            for name in ('d.vmdk', 'a' * 70 + '/' + 'b' * 90 + '.vmdk'):
                self.accept([('x.ovf', disk_images.one_disk(name)),
                             (name, DISK)], archive_format=archive)

    def test_names_with_a_dot_and_in_folders(self):
        named = disk_images.one_disk('d.vmdk')
        self.accept([('./x.ovf', named), ('./d.vmdk', DISK)])
        self.accept([('./', None), ('./x.ovf', named), ('d.vmdk', DISK)])
        self.accept([('vm', None), ('vm/x.ovf', named),
                     ('vm/d.vmdk', DISK)])
        self.accept([('x.ovf', disk_images.one_disk('disks/d.vmdk')),
                     ('disks', None), ('disks/d.vmdk', DISK)])
        self.accept([('x.ovf', disk_images.one_disk('./d.vmdk')),
                     ('d.vmdk', DISK)])

    def test_names_that_are_escaped(self):
        self.accept([('x.ovf', disk_images.one_disk('my%20disk%231.vmdk')),
                     ('my disk#1.vmdk', DISK)])
        self.accept([('x.ovf', disk_images.one_disk('100%25.vmdk')),
                     ('100%25.vmdk', DISK)])

    def test_names_in_composed_and_other_characters(self):
        for form in ('NFC', 'NFD'):
            name = unicodedata.normalize(form, 'Größe.vmdk')
            self.accept([('x.ovf', disk_images.one_disk('Größe.vmdk')),
                         (name, DISK)])

    def test_manifests_certificates_and_what_a_mac_leaves(self):
        named = disk_images.one_disk()
        self.accept([('x.mf', b'SHA256'), ('x.cert', b'cert'),
                     ('._x.ovf', b'junk'), ('x.ovf', named),
                     ('x.strings', b'y' * 3000), ('disk.vmdk', DISK)])

    def test_a_name_that_only_begins_like_the_disks(self):
        self.accept([('x.ovf', disk_images.one_disk('a.vmdk')),
                     ('a.vmdk.old', b'wrong'), ('old/a.vmdk', b'wrong'),
                     ('a.vmdk', DISK)])

    def test_the_first_disk_that_has_a_file(self):
        self.accept([('x.ovf', disk_images.ovf(
            [('f1', 'b.vmdk'), ('f2', 'a.vmdk')], [None, 'f2', 'f1'])),
            ('b.vmdk', b'wrong'), ('a.vmdk', DISK)])

    def test_ovfs_of_all_versions(self):
        for namespace in (disk_images.DMTF,
                          'http://schemas.dmtf.org/ovf/envelope/2'):
            self.accept([('X.OVF', disk_images.ovf(
                [('f', 'd.vmdk')], ['f'], namespace=namespace)),
                ('d.vmdk', DISK)])

    def test_the_largest_ovf_that_is_read(self):
        named = disk_images.one_disk()
        self.accept([('x.ovf', named + b' ' * (MIB - len(named))),
                     ('disk.vmdk', DISK)])


class RefusedTestCase(unittest.TestCase):

    def refuse(self, data, words):
        with self.assertRaisesRegex(stream.FormatError, words) as caught:
            found(data)
        self.assertLess(len(str(caught.exception)), 300)

    def refuse_ovf(self, text, words):
        self.refuse(disk_images.tar([('x.ovf', text), ('d.vmdk', DISK)]),
                    words)

    def test_what_is_no_archive(self):
        for data in (b'', b'x', b'x' * 5000):
            self.refuse(data, 'not a tar archive')
        self.refuse(bytes(10240), 'no OVF')

    def test_a_cut_archive(self):
        whole = disk_images.ova(DISK)
        for length in (700, 1000, 2500, 5000, len(DISK)):
            self.refuse(whole[:length], 'cut off')

    def test_an_ovf_that_is_missing_or_there_twice(self):
        self.refuse(disk_images.tar([('disk.vmdk', DISK)]), 'no OVF')
        self.refuse(disk_images.tar([('a.ovf', disk_images.one_disk()),
                                     ('b.ovf', disk_images.one_disk()),
                                     ('disk.vmdk', DISK)]), 'two OVFs')

    def test_a_disk_that_is_missing_or_too_early(self):
        self.refuse(disk_images.tar([('a.ovf', disk_images.one_disk()),
                                     ('disk.vmdk.old', DISK)]), 'no file')
        self.refuse(disk_images.tar([('disk.vmdk', DISK),
                                     ('a.ovf', disk_images.one_disk())]),
                    'put the OVF first')

    def test_a_disk_that_is_a_link(self):
        link = tarfile.TarInfo('disk.vmdk')
        link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
        data = disk_images.tar([('a.ovf', disk_images.one_disk())])
        self.refuse(data[:1024] + link.tobuf() + bytes(1024), 'no file')

    def test_a_disk_outside(self):
        for href in ('../d.vmdk', '/d.vmdk', 'http://example.com/d.vmdk',
                     'file:///etc/passwd', '%2e%2e/d.vmdk', '..'):
            self.refuse_ovf(disk_images.one_disk(href), 'outside')

    def test_a_disk_in_a_form_that_is_not_read(self):
        for more, words in (('ovf:compression="gzip"', 'compressed'),
                            ('ovf:chunkSize="1000"', 'pieces')):
            self.refuse_ovf(disk_images.ovf([('f', 'd.vmdk')], ['f'], more),
                            words)

    def test_ovfs_that_name_no_disk(self):
        self.refuse_ovf(disk_images.ovf([], [None]), 'no disk with a file')
        self.refuse_ovf(disk_images.ovf([], ['f']), 'does not list')
        self.refuse_ovf(b'<Envelope', 'cannot be read')
        self.refuse_ovf(b'', 'cannot be read')
        self.refuse_ovf(b'\xff\xfe' * 100, 'cannot be read')

    def test_entities(self):
        entities = b''.join(
            b'<!ENTITY l%d "%s">' % (each, b'&l%d;' % (each - 1) * 10)
            for each in range(1, 10))
        for text in (
                b'<!DOCTYPE x [<!ENTITY l0 "lol">' + entities
                + b']><Envelope>&l9;</Envelope>',
                b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
                b'<Envelope>&e;</Envelope>',
                b'<!DOCTYPE x SYSTEM "http://example.com/x.dtd"><Envelope/>'):
            self.refuse_ovf(text, 'document type')

    def test_archives_with_holes(self):
        self.refuse(disk_images.tar_header('x', 0, b'S') + bytes(1024),
                    'holes')

    def test_extended_headers_that_cannot_be_read(self):
        for data in (b'hello', b'99 path=x\n', b'-5 path=x\n', b'5 a=b',
                     b'9' * 5000 + b' path=x\n', b'0 path=x\n',
                     b'15 size=hello\n\n', b'12 size=-5\n\n'):
            header = disk_images.tar_header('x', len(data), b'x')
            self.refuse(header + data.ljust(5120, b'\0'), 'damaged')


class BoundsTestCase(unittest.TestCase):
    """Memory does not grow with what a tenant sends."""

    def refuse(self, chunks, words):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        with self.assertRaisesRegex(stream.FormatError, words):
            _size, disk = ova.find_disk(stream.Peekable(chunks))
            for _chunk in disk:
                pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.assertLess(peak, MOST_MEMORY_BYTES)

    def test_a_header_of_200_mib(self):
        size = 200 * MIB
        for kind in (b'x', b'g', b'L', b'K', b'X'):
            def chunks():
                yield disk_images.tar_header('x', size, kind)
                yield from zeros(size)
            self.refuse(chunks(), f'header of {size} bytes')

    def test_an_ovf_of_600_mib(self):
        def chunks():
            yield disk_images.tar_header('x.ovf', 600 * MIB)
            yield from zeros(600 * MIB)
        self.refuse(chunks(), 'more than 1048576')

    def test_an_ovf_that_is_all_attributes_or_all_elements(self):
        for text in (
                b'<Envelope '
                + b' '.join(b'a%d="b"' % each for each in range(80000))
                + b'/>',
                b'<a>' * 90000,
                b'<Envelope><References>'
                + b'<File id="a" href="b"/>' * 9000,
                b'<Envelope><DiskSection>' + b'<Disk/>' * 30000):
            def chunks():
                yield disk_images.tar_header('x.ovf', len(text))
                yield text
                yield bytes(10240)
            self.refuse(chunks(), 'OVF')

    def test_an_archive_without_end(self):
        header = disk_images.tar_header('f' * 90, 0)

        def chunks():
            while True:
                yield header * 100
        self.refuse(chunks(), 'more than 4096 files')

        def headers():
            while True:
                yield disk_images.tar_header('x', 512, b'L')
                yield bytes(512)
        self.refuse(headers(), 'more than 4096 files')

    def test_a_size_beyond_all_measure(self):
        data = b'24 size=9999999999999999\n'
        record = b'%d%s' % (len(data), data[2:])

        def chunks():
            yield disk_images.tar_header('x', len(record), b'x')
            yield record.ljust(512, b'\0')
            yield disk_images.tar_header('x.bin', 0)
            yield from zeros(10 * MIB)
        self.refuse(chunks(), 'cut off')


if __name__ == '__main__':
    unittest.main()
