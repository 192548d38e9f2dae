# SPDX-License-Identifier: Apache-2.0
"""Generates and mutates images by a seed, and uploads them by the driver.

    make image-fuzz

They are VMDKs, OVAs, qcow2 and raw images. Each ends as a volume with the
image's content, as the readers of ``tests/disk_images.py`` return it, or as
one sentence that names the image and a remedy, with nothing left. The memory
of this process, in which the driver runs, grows by at most 64 MiB; an image
takes at most a minute of its CPU time. It prints the results, and fails if an
image ends otherwise.
"""

import argparse
import collections
import json
import logging
import os
import pathlib
import random
import struct
import sys
import tarfile
import time
import unittest
import zlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_utils import units

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import test_transfers

MOST_GROWTH_BYTES = 64 * units.Mi
MOST_CPU_SECONDS = 60
LONGEST_SENTENCE = 600
ARGUMENTS = argparse.Namespace(count=500, seed=1, json=False)
STREAM, SPARSE, FLAT = 'streamOptimized', 'sparse', 'preallocated'
CHUNK_BYTES = 65536


class Sent(NamedTuple):
    """An image: what it is called, its record, and its data."""

    recipe: str
    data: bytes
    disk_type: str | None = None
    container: str = 'bare'
    zeros: int = 0  # more bytes, which are never in memory at once
    disk_format: str = 'vmdk'
    words: str = ''  # it has to be refused with these


class Source(test_transfers.ImageService):

    def __init__(self, sent: Sent) -> None:
        super().__init__(sent.data, sent.disk_type, sent.container,
                         len(sent.data) + sent.zeros)
        self.zeros = sent.zeros
        self.metadata['disk_format'] = sent.disk_format
        if sent.disk_type is None:
            del self.metadata['properties']['vmware_disktype']

    def download(self, context: Any, image_id: str) -> Iterator[bytes]:
        yield from super().download(context, image_id)
        for at in range(0, self.zeros, CHUNK_BYTES):
            yield bytes(min(CHUNK_BYTES, self.zeros - at))


# -- Good images ------------------------------------------------------------


def some_content(dice: random.Random) -> bytes:
    """Some grains of noise, text and nothing, up to 2 MiB."""
    made = b''.join(dice.choice((
        lambda: bytes(disk_images.GRAIN * dice.randint(1, 8)),
        lambda: dice.randbytes(dice.randint(1, disk_images.GRAIN)),
        lambda: b'text ' * dice.randint(1, 9999)))()
        for _ in range(dice.randint(0, 6)))
    return made.ljust(-(-max(len(made), 1) // 512) * 512, b'\0')


def some_vmdk(dice: random.Random) -> tuple[str, bytes]:
    content = some_content(dice)
    capacity = max(len(content), dice.choice((0, units.Mi, 40 * units.Mi,
                                              units.Gi)))
    kind = dice.choice((STREAM, STREAM, STREAM, SPARSE, 'qemu'))
    if kind == SPARSE:
        return SPARSE, disk_images.monolithic_sparse(content, capacity)
    if kind == 'qemu':
        return STREAM, disk_images.stream_by_qemu(content, capacity)
    return STREAM, disk_images.stream_optimized(
        content, capacity, describe=dice.choice(disk_images.WRITERS),
        descriptor_size=dice.choice((0, 20)))


def good_vmdk(dice: random.Random) -> Sent:
    kind, data = some_vmdk(dice)
    return Sent('good VMDK', data, dice.choice((kind, None)))


def good_flat(dice: random.Random) -> Sent:
    return Sent('good raw disk', some_content(dice),
                dice.choice((FLAT, None)))


def good_ova(dice: random.Random) -> Sent:
    _kind, disk = some_vmdk(dice)
    folder = dice.choice(('', './', 'vm/', 'a b/c/'))
    name = dice.choice(('disk.vmdk', 'x' * 120 + '.vmdk', 'my disk.vmdk'))
    href = dice.choice(('', './')) + name.replace(' ', '%20')
    more = [(folder + each, dice.randbytes(dice.randint(0, 2000)))
            for each in ('x.mf', name + '.old', 'x.cert', '._x.ovf')
            if dice.random() < 0.4]
    members = [*more, (folder + 'x.ovf', disk_images.one_disk(href)),
               (folder + name, disk)]
    if dice.random() < 0.3:
        members.append((folder + 'x.strings', b'more'))
    return Sent('good OVA', disk_images.tar(members, dice.choice((
        tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))), dice.choice((
            None, None)), 'ova')


def good_raw(dice: random.Random) -> Sent:
    """Of any size, also of a part of a sector."""
    content = some_content(dice)
    if dice.random() < 0.5:
        content += dice.randbytes(dice.randint(1, 1000))
    return Sent('good raw image', content,
                disk_format=dice.choice(('raw', 'iso')))


def some_qcow2(dice: random.Random, **more: Any) -> bytes:
    content = some_content(dice)
    capacity = dice.choice((0, 0, units.Mi, 40 * units.Mi, units.Gi))
    bits = dice.choice((9, 10, 12, 14, 16, 16, 16, 16, 18, 21))
    return disk_images.qcow2(
        content, cluster_bits=bits, compress=dice.random() < 0.4,
        # A table of all small clusters would be larger than the disk.
        capacity=0 if bits < 12 else capacity, **{
            'version': dice.choice((2, 3, 3)), **more})


def good_qcow2(dice: random.Random) -> Sent:
    """With what a reader of the content need not know in it."""
    data = bytearray(some_qcow2(dice))
    version, = struct.unpack_from('>I', data, 4)
    # Reference counts, and snapshots.
    for at, form in ((48, '>Q'), (56, '>I'), (60, '>I'), (64, '>Q')):
        if dice.random() < 0.3:
            struct.pack_into(form, data, at, dice.getrandbits(31))
    if version == 3:
        # Not closed, lazily counted; and what may be cleared.
        for at, most in ((72, 1), (80, 1), (88, 1 << 20)):
            if dice.random() < 0.3:
                struct.pack_into('>Q', data, at, dice.randint(0, most))
        if dice.random() < 0.5:
            # An extension of an unknown kind, and a table of features.
            struct.pack_into('>II8sII48s', data, 104, 0x12345678, 8,
                             dice.randbytes(8), 0x6803f857, 48,
                             dice.randbytes(48))
    return Sent('good qcow2 image', bytes(data), disk_format='qcow2')


# -- Mutated ones -----------------------------------------------------------


def flipped(dice: random.Random, data: bytes) -> bytes:
    made = bytearray(data)
    # Most of what decides lies in the beginning and the end.
    for _ in range(dice.randint(1, 6)):
        at = dice.choice((dice.randrange(min(len(data), 128)),
                          dice.randrange(min(len(data), 2048)),
                          dice.randrange(len(data)),
                          len(data) - 1 - dice.randrange(
                              min(len(data), 3072))))
        made[at] = dice.choice((0, 0xff, made[at] ^ (1 << dice.randrange(8)),
                                dice.randrange(256)))
    return bytes(made)


def cut(dice: random.Random, data: bytes) -> bytes:
    return data[:dice.choice((dice.randrange(len(data)),
                              dice.randrange(len(data) // 512 + 1) * 512))]


def shifted(dice: random.Random, data: bytes) -> bytes:
    """A piece is missing, is there twice, or is noise."""
    begin = dice.randrange(len(data) // 512 + 1) * 512
    end = begin + 512 * dice.randint(1, 16)
    return data[:begin] + dice.choice((
        b'', 2 * data[begin:end], dice.randbytes(end - begin),
        bytes(end - begin))) + data[end:]


def with_number(dice: random.Random, data: bytes) -> bytes:
    """A number in the header, or at any other place, is another."""
    made = bytearray(data.ljust(512, b'\0'))
    value = dice.choice((0, 1, 7, 127, 1 << 16, (1 << 32) - 1, 1 << 40,
                         (1 << 63) - 1, (1 << 64) - 1, dice.getrandbits(64)))
    at = dice.choice((4, 8, 12, 20, 28, 36, 44, 48, 56, 64,
                      dice.randrange(len(made) // 4 - 1) * 4))
    struct.pack_into('<Q' if at + 8 <= len(made) else '<I', made, at,
                     value & (2 ** 64 - 1 if at + 8 <= len(made)
                              else 2 ** 32 - 1))
    return bytes(made)


def with_line(dice: random.Random, data: bytes) -> bytes:
    """One line more, or another, in a VMDK's descriptor."""
    end = data.find(b'\0', 512)
    if not data.startswith(b'KDMV') or not 512 < end < 20000:
        return flipped(dice, data)
    line = dice.choice((
        b'parentCID=12345678', b'createType="vmfs"', b'x' * 300, b'\xff\xfe',
        b'RW 2048 FLAT "/etc/passwd" 0', b'RW 8 ZERO', b'=', b'a = b',
        b'parentFileNameHint="/vmfs/volumes/x/y.vmdk"', b'encoding="UTF-16"',
        b'changeTrackPath="x"', b'ddb.x = "\xe9"', b'# comment', b'"' * 50))
    lines = data[512:end].split(b'\n')
    lines.insert(dice.randrange(len(lines) + 1), line)
    room = 20 * 512 - 1
    return data[:512] + b'\n'.join(lines)[:room].ljust(end - 512, b'\0'
                                                       ) + data[end:]


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    flipped, flipped, cut, shifted, with_number, with_number, with_line)


def mutated(dice: random.Random) -> Sent:
    sent = dice.choice((good_vmdk, good_vmdk, good_ova))(dice)
    mutate = dice.choice(MUTATIONS)
    return sent._replace(recipe=f'{sent.recipe[5:]}, {mutate.__name__}',
                         data=mutate(dice, sent.data))


def mutated_inside(dice: random.Random) -> Sent:
    """A good OVA around a disk that is not."""
    kind, disk = some_vmdk(dice)
    mutate = dice.choice(MUTATIONS)
    return Sent(f'disk in an OVA, {mutate.__name__}', disk_images.ova(
        mutate(dice, disk)), dice.choice((kind, None)), 'ova')


def mislabelled(dice: random.Random) -> Sent:
    sent = dice.choice((good_vmdk, good_ova, good_flat))(dice)
    return sent._replace(
        recipe=f'{sent.recipe[5:]}, other record',
        disk_type=dice.choice((STREAM, SPARSE, FLAT, None, 'thin', 'x')),
        container=dice.choice(('bare', 'ova', 'docker')))


def mutated_qcow2(dice: random.Random) -> Sent:
    mutate = dice.choice((flipped, flipped, cut, shifted, with_field,
                          with_field, with_field))
    return Sent(f'qcow2 image, {mutate.__name__}',
                mutate(dice, some_qcow2(dice)), disk_format='qcow2')


# Where the header has numbers of 4 and of 8 bytes.
QCOW2_FIELDS = (*((at, '>I') for at in (4, 16, 20, 32, 36, 56, 60, 96, 100)),
                *((at, '>Q') for at in (8, 24, 40, 48, 64, 72, 80, 88)))


def with_field(dice: random.Random, data: bytes) -> bytes:
    """A number in the header of a qcow2 image is another."""
    made = bytearray(data)
    at, form = dice.choice(QCOW2_FIELDS)
    most = 1 << 8 * struct.calcsize(form)
    old, = struct.unpack_from(form, made, at)
    struct.pack_into(form, made, at, dice.choice((
        0, 1, 2, 7, 9, 63, 511, 512, 513, 1 << 16, old - 1, old + 1, 2 * old,
        old ^ 1 << dice.randrange(8 * struct.calcsize(form)), most - 1,
        most >> 1, most >> 2, dice.getrandbits(64))) % most)
    return bytes(made)


def misnamed(dice: random.Random) -> Sent:
    """The data of one disk_format, and the record of another."""
    kind = dice.choice((
        'qcow2', 'vmdk', 'ova', 'raw', 'vhd', 'vhdx', 'vdi', 'qed', 'gzip'))
    text = (b'<<< Oracle VM VirtualBox Disk Image >>>\n'.ljust(64, b'\0')
            + b'\x7f\x10\xda\xbe')
    data, formats = {
        'qcow2': (some_qcow2(dice), ('raw', 'iso', 'vmdk')),
        'vmdk': (some_vmdk(dice)[1], ('raw', 'iso', 'qcow2')),
        'ova': (disk_images.ova(b'x' * 512), ('raw', 'qcow2')),
        'raw': (b'\xeb\x63\x90' + some_content(dice), ('qcow2',)),
        'vhd': (b'conectix'.ljust(4096, b'\0'), ('raw', 'qcow2', 'vmdk')),
        'vhdx': (b'vhdxfile'.ljust(4096, b'\0'), ('raw', 'qcow2', 'vmdk')),
        'vdi': (text.ljust(4096, b'\0'), ('raw', 'qcow2', 'vmdk')),
        'qed': (b'QED\0'.ljust(4096, b'\0'), ('raw', 'qcow2', 'vmdk')),
        'gzip': (b'\x1f\x8b\x08'.ljust(4096, b'\0'),
                 ('raw', 'qcow2', 'vmdk'))}[kind]
    return Sent(f'another format than {kind} said', data,
                disk_format=dice.choice(formats), words='disk_format')


# -- Hostile ones -----------------------------------------------------------


def large_header(dice: random.Random) -> Sent:
    size = dice.choice((200, 600)) * units.Mi
    name, kind = dice.choice((('x', b'x'), ('x', b'g'), ('x', b'L'),
                              ('x', b'K'), ('x.ovf', b'0'), ('x.mf', b'0')))
    return Sent('OVA with a large header', disk_images.tar_header(
        name, size, kind), None, 'ova', size + 10240)


def hostile_ovf(dice: random.Random) -> Sent:
    text = dice.choice((
        b'<!DOCTYPE a [<!ENTITY b "c">]><Envelope>&b;</Envelope>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><Envelope/>',
        b'<a>' * 300000, b'<a ' + b' '.join(
            b'b%d=""' % each for each in range(100000)) + b'/>',
        disk_images.ovf([(f'f{each}', 'x') for each in range(15000)], []),
        disk_images.one_disk('../../etc/passwd'), dice.randbytes(5000),
        disk_images.one_disk('http://example.com/x.vmdk')))
    return Sent('OVA with a hostile OVF', disk_images.tar(
        [('x.ovf', text), ('disk.vmdk', b'x')]), None, 'ova')


def bomb(dice: random.Random) -> Sent:
    packed = zlib.compress(bytes(100 * units.Mi))
    data = bytearray(disk_images.stream_optimized(b'x' * 512, units.Mi))
    at = 128 * 512
    data[at:at + 512] = disk_images.padded(
        struct.pack('<QI', 0, dice.choice((len(packed), 1 << 31))) + packed)
    return Sent('VMDK with a bomb in it', bytes(data), STREAM)


def large_tables(dice: random.Random) -> Sent:
    capacity = dice.choice((1 << 21, 1 << 31, 1 << 40, 1 << 62))
    head = disk_images.header(capacity, disk_images.SPARSE_FLAGS, 1, 20, 21)
    text = disk_images.by_qemu(capacity)
    return Sent('VMDK with large tables', head + disk_images.padded(text, 20)
                + b'\x01' * 65536, SPARSE, zeros=100 * units.Mi)


def large_descriptor(dice: random.Random) -> Sent:
    line = dice.choice((b'x = y\n', b'x' * 99 + b'\n', b'RW 1 ZERO\n',
                        b'#\n', b'createType="streamOptimized"\n'))
    text = (disk_images.by_vsphere(2048) + line * 200000)[:2046 * 512]
    head = disk_images.header(2048, disk_images.STREAM_FLAGS, 3, 2046,
                              disk_images.AT_END, overhead=2048)
    return Sent('VMDK with a large descriptor', head
                + disk_images.padded(text, 2047), STREAM)


def noise(dice: random.Random) -> Sent:
    return Sent('noise', dice.choice((b'KDMV', b'', b'QFI\xfb', b'COWD'))
                + dice.randbytes(dice.randint(0, 3000)),
                dice.choice((STREAM, SPARSE, None)),
                dice.choice(('bare', 'ova')))


def needs_more(dice: random.Random) -> Sent:
    """A qcow2 image that is no disk by itself."""
    more, words = dice.choice((
        ({'backing': dice.choice((
            b'/etc/passwd', b'json:{"driver":"nbd"}', b'nbd://127.0.0.1:1',
            b'file:///dev/sda', b'../x', b'x' * 100))}, 'backing file'),
        ({'version': 3, 'features': 4}, 'data-file'),
        ({'crypt': dice.randint(1, 3)}, 'encrypted'),
        ({'version': 3, 'features': 1 << dice.randint(5, 63)}, 'unknown'),
        ({'version': 3, 'features': 2}, 'corrupt'),
        ({'version': 3, 'features': 8}, 'zlib'),
        ({'version': 3, 'features': 16}, 'subclusters')))
    data = bytearray(some_qcow2(dice, **more))
    if words == 'data-file':
        struct.pack_into('>II16s', data, 104, 0x44415441, 11, b'/etc/passwd')
    return Sent(f'qcow2 image, {words}', bytes(data), disk_format='qcow2',
                words=words)


def of_odd_size(dice: random.Random) -> Sent:
    """The disk of a qcow2 image is huge, or no multiple of 512."""
    size, words = dice.choice((
        (0, 'holds'), (1, 'holds'), (units.Mi + 1, 'holds'),
        (units.Gi - 511, 'holds'), (units.Gi + 512, 'make the volume'),
        (1 << 40, 'make the volume'), (1 << 63, 'make the volume'),
        ((1 << 64) - 512, 'make the volume'), ((1 << 64) - 1, 'holds')))
    data = bytearray(some_qcow2(dice))
    struct.pack_into('>Q', data, 24, size)
    return Sent('qcow2 image of an odd size', bytes(data),
                disk_format='qcow2', words=words)


def with_entries(dice: random.Random) -> Sent:
    """Tables lead outside, back, or to one place again and again."""
    data = bytearray(some_qcow2(dice))
    bits, = struct.unpack_from('>I', data, 20)
    count, l1_at = struct.unpack_from('>IQ', data, 36)
    cluster = 1 << bits
    l2_at = (struct.unpack_from('>Q', data, l1_at)[0] & (1 << 56) - 512
             or l1_at)
    end = len(data) // cluster * cluster
    value = dice.choice((
        0, l1_at, l2_at, end, end + cluster, 1 << 45, 1 << 55, 512,
        l2_at + 512, 1, l2_at | 1, 1 << 62, 1 << 62 | l2_at,
        1 << 62 | len(data) - 1, (1 << 63) - 1, (1 << 64) - 1,
        dice.getrandbits(64))) | dice.choice((0, 1 << 63))
    base, most = dice.choice(((l1_at, count), (l2_at, cluster // 8),
                              (l2_at, cluster // 8)))
    first = dice.randrange(most)
    for each in range(first, min(most, first + dice.choice((1, 2, most)))):
        struct.pack_into('>Q', data, base + 8 * each, value)
    return Sent('qcow2 image with hostile tables', bytes(data),
                disk_format='qcow2')


def amplified(dice: random.Random) -> Sent:
    """A small qcow2 image that names its data a million times."""
    compress = dice.random() < 0.5
    content = dice.randbytes(disk_images.GRAIN)
    data = bytearray(disk_images.qcow2(content, compress=compress,
                                       capacity=units.Gi))
    l1_at = l2_at = disk_images.GRAIN
    l2_at, entry = 2 * l1_at, struct.unpack_from('>Q', data, 2 * l1_at)[0]
    data[l2_at:l2_at + disk_images.GRAIN] = struct.pack('>Q', entry) * 8192
    data[l1_at:l1_at + 16] = struct.pack('>Q', l2_at) * 2
    return Sent('qcow2 image that names its data again and again',
                bytes(data), disk_format='qcow2', words='several places')


def packed_bomb(dice: random.Random) -> Sent:
    """A qcow2 image of one packed cluster that holds too much."""
    bits = dice.choice((9, 16, 21))
    data = bytearray(disk_images.qcow2(
        b'x' * (1 << bits), cluster_bits=bits, compress=True))
    packer = zlib.compressobj(wbits=-12)
    packed = packer.compress(bytes(100 * units.Mi)) + packer.flush()
    l2_at = 2 << bits
    at = struct.unpack_from('>Q', data, l2_at)[0] & (
        1 << 62 - (bits - 8)) - 1
    sectors = (1 << bits - 8) - 1
    struct.pack_into('>Q', data, l2_at,
                     1 << 62 | sectors << 62 - (bits - 8) | at)
    return Sent('qcow2 image with a bomb in it', bytes(data[:at]) + packed,
                disk_format='qcow2')


def large_l1(dice: random.Random) -> Sent:
    """A qcow2 image of small clusters and much table."""
    head = bytearray(disk_images.qcow2(b'x' * 512, cluster_bits=9))
    struct.pack_into('>Q', head, 24, units.Gi)
    struct.pack_into('>IQ', head, 36, dice.choice((32768, (1 << 32) - 1)),
                     len(head) // 512 * 512 + 512)
    return Sent('qcow2 image with a large table', bytes(head),
                zeros=100 * units.Mi, disk_format='qcow2')


def large_raw(dice: random.Random) -> Sent:
    """A raw image that is larger than the volume."""
    return Sent('raw image that is too large', some_content(dice),
                zeros=units.Gi, disk_format=dice.choice(('raw', 'iso')),
                words='make the volume')


RECIPES = ((good_vmdk, 14), (good_flat, 6), (good_ova, 10), (mutated, 40),
           (mutated_inside, 8), (mislabelled, 8), (large_header, 2),
           (hostile_ovf, 4), (bomb, 1), (large_tables, 2),
           (large_descriptor, 2), (noise, 3), (good_raw, 8),
           (good_qcow2, 16), (mutated_qcow2, 32), (misnamed, 16),
           (needs_more, 12), (of_odd_size, 6), (with_entries, 16),
           (amplified, 2), (packed_bomb, 2), (large_l1, 2), (large_raw, 2))


def made(seed: int, number: int) -> Sent:
    """The image of a seed and a number: always the same."""
    dice = random.Random(f'{seed}.{number}')
    recipe, = dice.choices([each for each, _ in RECIPES],
                           [weight for _, weight in RECIPES])
    return recipe(dice)


def expected(sent: Sent) -> dict[int, bytes]:
    """The grains that a volume has to hold."""
    data = sent.data
    if sent.disk_format == 'qcow2':
        # Of what it never holds in memory, only tables are read.
        return disk_images.read_qcow2(data + bytes(min(sent.zeros,
                                                       units.Mi)))
    if sent.disk_format != 'vmdk':
        return dict(disk_images.grains_of(data))
    if sent.container == 'ova':
        data = disk_images.disk_in(data)
    if not data.startswith(b'KDMV'):
        return dict(disk_images.grains_of(data))
    if struct.unpack_from('<I', data, 8)[0] & 1 << 16:
        return disk_images.read_stream(data)
    return disk_images.read_sparse(data)


def memory_bytes(name: str) -> int:
    """``VmRSS`` or ``VmHWM``, its peak, of this process."""
    status = pathlib.Path('/proc/self/status').read_text()
    return int(status.partition(f'{name}:')[2].split()[0]) * units.Ki


def forget_peak() -> None:
    pathlib.Path('/proc/self/clear_refs').write_text('5')


class FuzzTestCase(test_transfers.TransfersCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = cls.conversion_folder()

    def test_all_end_as_the_right_volume_or_in_one_sentence(self):
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        for recipe in (good_vmdk, good_flat, good_ova, good_raw, good_qcow2):
            self.outcome(recipe(random.Random(0)))  # what is loaded once
        forget_peak()
        before = memory_bytes('VmRSS')
        began = time.monotonic()
        ends: dict[str, collections.Counter[str]] = (
            collections.defaultdict(collections.Counter))
        wrong = []
        slowest = (0.0, '')
        for number in range(ARGUMENTS.count):
            sent = made(ARGUMENTS.seed, number)
            cpu = time.process_time()
            end = self.outcome(sent)
            slowest = max(slowest, (time.process_time() - cpu, sent.recipe))
            ends[sent.recipe][end if end in ('volume', 'refused')
                              else 'wrong'] += 1
            if end not in ('volume', 'refused'):
                wrong.append(f'seed {ARGUMENTS.seed}, image {number}, '
                             f'{sent.recipe}: {end}')
        growth = memory_bytes('VmHWM') - before
        self.show(ends, growth, time.monotonic() - began, slowest)
        self.assertEqual([], wrong)
        self.assert_nothing_left()
        self.assertLessEqual(growth, MOST_GROWTH_BYTES)
        self.assertLessEqual(slowest[0], MOST_CPU_SECONDS, slowest[1])

    def outcome(self, sent: Sent) -> str:
        """``volume``, ``refused``, or what went wrong."""
        source = Source(sent)
        volume = self.new_volume()
        try:
            self.driver.copy_image_to_volume(self.context, volume, source,
                                             source.metadata['id'])
        except exceptions.UnusableImage as error:
            said = str(error)
            if (source.metadata['id'] not in said or '\n' in said
                    or len(said) > LONGEST_SENTENCE or '; ' not in said
                    or sent.words not in said):
                return f'it says {said[:LONGEST_SENTENCE]!r}'
            left = [*self.shadow_vms(), *os.listdir(self.folder)]
            if left:
                return f'it leaves {left} and says {said}'
            return self.refused_rightly(sent, said)
        except Exception as error:
            return f'{type(error).__name__}: {str(error)[:300]}'
        try:
            if sent.words:
                return f'a volume, and not "{sent.words}"'
            wanted = disk_images.checksum(expected(sent), units.Gi)
            if self.checksum(volume) != wanted:
                return 'the volume has another content'
        finally:
            self.driver.delete_volume(volume)
        return 'volume'

    @staticmethod
    def refused_rightly(sent: Sent, said: str) -> str:
        return (f'a good one is refused: {said}'
                if sent.recipe.startswith('good') else 'refused')

    def show(self, ends: dict[str, collections.Counter[str]], growth: int,
             seconds: float, slowest: tuple[float, str]) -> None:
        for recipe, counts in sorted(ends.items()):
            print(f'{recipe:48}', ', '.join(
                f'{count} {end}' for end, count in sorted(counts.items())))
        total = sum(ends.values(), collections.Counter())
        print(f'{ARGUMENTS.count} images of seed {ARGUMENTS.seed} in '
              f'{seconds:.0f} s: {total["volume"]} volumes with their '
              f'content, {total["refused"]} refused in one sentence, '
              f'{total["wrong"]} otherwise; the memory grew by '
              f'{growth / units.Mi:.1f} MiB; the slowest, a '
              f'{slowest[1]}, took {slowest[0]:.1f} s of CPU')
        if ARGUMENTS.json:
            print(json.dumps(dict(total, growth_bytes=growth)))


def load_tests(_loader: Any, tests: Any, _pattern: Any) -> Any:
    """`make test` runs a part of it, in a process of its own."""
    return tests if __name__ == '__main__' else unittest.TestSuite()


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=500)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--json', action='store_true')
    ARGUMENTS = parser.parse_args()
    unittest.main(argv=sys.argv[:1])
