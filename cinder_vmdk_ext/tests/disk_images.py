# SPDX-License-Identifier: Apache-2.0
"""Writes and reads images in the formats of common tools.

It follows VMware's "Virtual Disk Format 5.0" and DMTF's DSP0243, and uses no
code of the plugin.
"""

import hashlib
import io
import posixpath
import struct
import tarfile
import zlib
from collections.abc import Iterable
from collections.abc import Iterator
from urllib import parse
from xml.etree import ElementTree

SECTOR = 512
GRAIN_SECTORS = 128
GRAIN = GRAIN_SECTORS * SECTOR
ENTRIES = 512
AT_END = (1 << 64) - 1
HEADER = struct.Struct('<4sIIQQQQIQQQB4sH')
OVERHEAD = 128
STREAM_FLAGS, SPARSE_FLAGS = 0x30001, 0x3

# -- Descriptors ------------------------------------------------------------


def by_vsphere(sectors: int) -> bytes:
    return (
        f'# Disk DescriptorFile\nversion=1 \nCID=1d89ee38 \n'
        'parentCID=ffffffff \ncreateType="streamOptimized" \n\n'
        f'# Extent description\nRDONLY {sectors} SPARSE '
        '"generated-stream.vmdk"\n\n# The Disk Data Base \n#DDB\n\n'
        'ddb.adapterType = "lsilogic"\nddb.virtualHWVersion = "7"\n').encode()


def by_ovftool(sectors: int) -> bytes:
    return by_vsphere(sectors).replace(b'version=1 \n', b'version=1\n', 1)


def by_content_library(sectors: int) -> bytes:
    """Its disk data base has no prefixes."""
    return (
        '# Disk DescriptorFile\nversion=1\nCID=6b53244c\nparentCID=ffffffff\n'
        'createType="streamOptimized"\n\n# Extent description\n'
        f'RDONLY {sectors} SPARSE "generated-stream.vmdk"\n\n#DDB\n'
        'adapterType = "lsilogic"\nthinProvisioned = "1"\n'
        'uuid = "60 00 C2 96 7a 7d 8a df-b9 82 f2 9a f6 58 f1 f7"\n'
        'nfcSourceCID = "fffffffe"\n').encode()


def by_virtualbox(sectors: int) -> bytes:
    return (
        '# Disk DescriptorFile\nversion=1\nCID=b2ae7ebf\nparentCID=ffffffff\n'
        'createType="streamOptimized"\n\n# Extent description\n'
        f'RDONLY {sectors} SPARSE "Server disk 1.vmdk"\n\n'
        '# The disk Data Base \n#DDB\n\nddb.virtualHWVersion = "4"\n'
        'ddb.adapterType="ide"\nddb.geometry.cylinders="16"\n'
        'ddb.uuid.image="c3b9b0a4-8a2f-4d87-9a56-1f1e3a0d5d11"\n'
        'ddb.uuid.parent="00000000-0000-0000-0000-000000000000"\n'
        'ddb.comment=""\n').encode()


def by_open_vmdk(sectors: int) -> bytes:
    return (
        '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n'
        'createType="streamOptimized"\n\n# Extent description\n'
        f'RDONLY {sectors} SPARSE "call-me-stream.vmdk"\n\n'
        '# The Disk Data Base\n#DDB\n\nddb.longContentID = '
        '"0123456789abcdef0123456789abcdef"\nddb.toolsVersion = '
        '"2147483647"\nddb.virtualHWVersion = "10"\n').encode()


def by_workstation(sectors: int) -> bytes:
    """On a Chinese Windows, with spaces and its ends of lines."""
    return (
        '# Disk DescriptorFile\r\nversion = 1\r\nencoding = "GBK"\r\n'
        'CID = 1d89ee38\r\nparentCID = ffffffff\r\nisNativeSnapshot = "no"\r\n'
        'createType = "streamOptimized"\r\n\r\n# Extent description\r\n'
        f'RW\t{sectors}  SPARSE "服务器乗.vmdk"\r\n\r\n#DDB\r\n'
        'ddb.comment = "系统盘"\r\n').encode('gbk')


WRITERS = (by_vsphere, by_ovftool, by_content_library, by_virtualbox,
           by_open_vmdk, by_workstation)


def by_qemu(sectors: int, create_type: str = 'monolithicSparse') -> bytes:
    return (
        '# Disk DescriptorFile\nversion=1\nCID=a9a99e18\nparentCID=ffffffff\n'
        f'createType="{create_type}"\n\n# Extent description\n'
        f'RW {sectors} SPARSE "disk.vmdk"\n\n# The Disk Data Base\n#DDB\n\n'
        'ddb.virtualHWVersion = "4"\nddb.adapterType = "ide"\n').encode()


# -- VMDKs ------------------------------------------------------------------


def header(capacity: int, flags: int, version: int, descriptor_size: int,
           directory: int, *, redundant: int = 0,
           overhead: int = OVERHEAD) -> bytes:
    return HEADER.pack(
        b'KDMV', version, flags, capacity, GRAIN_SECTORS, 1, descriptor_size,
        ENTRIES, redundant, directory, overhead, 0, b'\n \r\n',
        1 if flags == STREAM_FLAGS else 0).ljust(SECTOR, b'\0')


def sectors_of(data: bytes) -> int:
    return -(-len(data) // SECTOR)


def padded(data: bytes, sectors: int = 0) -> bytes:
    return data.ljust((sectors or sectors_of(data)) * SECTOR, b'\0')


def grains_of(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The grains that hold something, by their numbers."""
    for at in range(0, len(content), GRAIN):
        grain = content[at:at + GRAIN].ljust(GRAIN, b'\0')
        if grain.strip(b'\0'):
            yield at // GRAIN, grain


def marker(count: int, kind: int) -> bytes:
    return struct.pack('<QII', count, 0, kind).ljust(SECTOR, b'\0')


def numbers(values: Iterable[int]) -> bytes:
    values = list(values)
    return padded(struct.pack(f'<{len(values)}I', *values))


def stream_optimized(content: bytes, capacity_bytes: int = 0, *,
                     describe=by_vsphere, descriptor_size: int = 0) -> bytes:
    """A disk as vSphere exports it: tables behind the grains, a footer."""
    capacity = (capacity_bytes or len(content)) // SECTOR
    text = describe(capacity)
    size = descriptor_size or sectors_of(text)
    out = bytearray(header(capacity, STREAM_FLAGS, 3, size, AT_END))
    out += padded(text, size)
    out = bytearray(padded(bytes(out), OVERHEAD))
    directory = [0] * -(-capacity // (GRAIN_SECTORS * ENTRIES))
    table: list[int] = []

    def end_table(number: int) -> None:
        if any(table):
            out.extend(marker(4, 1))
            directory[number] = len(out) // SECTOR
            out.extend(numbers(table))
        table[:] = [0] * ENTRIES

    at = 0
    table[:] = [0] * ENTRIES
    for number, grain in grains_of(content):
        if number // ENTRIES != at:
            end_table(at)
            at = number // ENTRIES
        table[number % ENTRIES] = len(out) // SECTOR
        packed = zlib.compress(grain)
        out += padded(struct.pack('<QI', number * GRAIN_SECTORS, len(packed))
                      + packed)
    end_table(at)
    out += marker(sectors_of(numbers(directory)), 2)
    place = len(out) // SECTOR
    out += numbers(directory)
    out += marker(1, 3) + header(capacity, STREAM_FLAGS, 3, size, place)
    return bytes(out + marker(0, 0))


def _front(content: bytes, capacity_bytes: int, text: bytes, version: int,
           flags: int) -> tuple[bytearray, int, int]:
    """A head with empty tables in it, and where the directory is."""
    capacity = (capacity_bytes or len(content)) // SECTOR
    tables = -(-capacity // (GRAIN_SECTORS * ENTRIES))
    size = sectors_of(struct.pack(f'<{tables}I', *range(tables)))
    redundant, first = 21, 21 + size + 4 * tables
    data = first + size + 4 * tables
    overhead = -(-data // GRAIN_SECTORS) * GRAIN_SECTORS
    out = bytearray(header(capacity, flags, version, 20, first,
                           redundant=redundant, overhead=overhead))
    out += padded(text, 20)
    for place in (redundant, first):
        out += numbers(place + size + 4 * each for each in range(tables))
        out += bytes(4 * SECTOR * tables)
    return bytearray(padded(bytes(out), overhead)), first + size, redundant


def _enter(out: bytearray, tables_at: int, number: int, sector: int) -> None:
    struct.pack_into('<I', out, tables_at * SECTOR + 4 * number, sector)


def monolithic_sparse(content: bytes, capacity_bytes: int = 0, *,
                      describe=by_qemu) -> bytes:
    """A disk as qemu-img and VMware's hosted products write it."""
    capacity = (capacity_bytes or len(content)) // SECTOR
    out, tables_at, redundant = _front(content, capacity_bytes,
                                       describe(capacity), 1, SPARSE_FLAGS)
    size = tables_at - redundant
    for number, grain in grains_of(content):
        _enter(out, tables_at, number, len(out) // SECTOR)
        _enter(out, redundant + size % (4 * ENTRIES), number,
               len(out) // SECTOR)
        out += grain
    return bytes(out)


def stream_by_qemu(content: bytes, capacity_bytes: int = 0) -> bytes:
    """As qemu-img writes it: tables in front, and no footer."""
    capacity = (capacity_bytes or len(content)) // SECTOR
    out, tables_at, _ = _front(
        content, capacity_bytes, by_qemu(capacity, 'streamOptimized'), 3,
        STREAM_FLAGS | 2)
    HEADER.pack_into(out, 0, *HEADER.unpack_from(out)[:-1], 1)
    for number, grain in grains_of(content):
        _enter(out, tables_at, number, len(out) // SECTOR)
        packed = zlib.compress(grain)
        out += padded(struct.pack('<QI', number * GRAIN_SECTORS, len(packed))
                      + packed)
    return bytes(out)


def qcow2(content: bytes, *, version: int = 3, cluster_bits: int = 16,
          compress: bool = False, size: int = 0, backing: bytes = b'',
          features: int = 0, crypt: int = 0, capacity: int = 0) -> bytes:
    """A qcow2 image, as qemu-img writes it, without reference counts.

    :param compress: every cluster that is not zeros
    :param size: what the header says, if not the size of the disk
    :param capacity: the size of the disk, if larger than the content
    """
    cluster = 1 << cluster_bits
    entries = cluster // 8
    count = -(-len(content) // cluster)
    l2_count = -(-count // entries)
    disk = max(capacity, len(content))
    l1_count = -(-disk // (cluster * entries))
    l1_at = cluster
    tables_at = l1_at + -(-8 * l1_count // cluster) * cluster
    out = bytearray(tables_at + l2_count * cluster)
    struct.pack_into(
        '>4sIQIIQIIQQIIQ', out, 0, b'QFI\xfb', version,
        400 if backing else 0, len(backing), cluster_bits,
        size or disk, crypt, l1_count, l1_at, 0, 0, 0, 0)
    if version == 3:
        struct.pack_into('>QQQII', out, 72, features, 0, 0, 4, 104)
    out[400:400 + len(backing)] = backing
    for number in range(l2_count):
        struct.pack_into('>Q', out, l1_at + 8 * number,
                         tables_at + number * cluster | 1 << 63)
    for number in range(count):
        data = content[number * cluster:(number + 1) * cluster]
        if not data.strip(b'\0'):
            continue
        data = data.ljust(min(cluster, disk - number * cluster), b'\0')
        packed = compress and _packed(data.ljust(cluster, b'\0'), len(out),
                                      cluster_bits)
        if packed:
            entry, data = packed
        else:
            out += bytes(-len(out) % cluster)
            entry = len(out) | 1 << 63
        struct.pack_into('>Q', out, tables_at + 8 * number, entry)
        out += data
    return bytes(out)


def _packed(data: bytes, at: int,
            cluster_bits: int) -> tuple[int, bytes] | None:
    """What a table says of a compressed cluster, and it; None: no smaller."""
    packer = zlib.compressobj(wbits=-12)
    packed = packer.compress(data) + packer.flush()
    if len(packed) >= len(data):
        return None
    sectors = (at + len(packed) - 1) // SECTOR - at // SECTOR
    return 1 << 62 | sectors << 62 - (cluster_bits - 8) | at, packed


def read_stream(stream: bytes) -> dict[int, bytes]:
    """The grains of a streamOptimized disk, by its markers, as NFC reads."""
    fields = HEADER.unpack_from(stream)
    found = {}
    at = fields[10] * SECTOR
    while at < len(stream):
        value, size, kind = struct.unpack_from('<QII', stream, at)
        if size:
            grain = zlib.decompress(stream[at + 12:at + 12 + size])
            room = (fields[3] - value) * SECTOR
            found[value // fields[4]] = grain[:room].ljust(GRAIN, b'\0')
            at += -(-(12 + size) // SECTOR) * SECTOR
        elif kind == 0:
            break
        else:
            at += (1 + value) * SECTOR
    return found


def read_sparse(data: bytes) -> dict[int, bytes]:
    """The grains of a monolithicSparse disk, by its tables."""
    fields = HEADER.unpack_from(data)
    capacity, grain, directory = fields[3], fields[4], fields[9]
    found = {}
    for number in range(-(-capacity // grain)):
        table, entry = divmod(number, ENTRIES)
        sector, = struct.unpack_from('<I', data, directory * SECTOR
                                     + 4 * table)
        if sector:
            sector, = struct.unpack_from('<I', data, sector * SECTOR
                                         + 4 * entry)
        if sector > 1:
            room = min(capacity - number * grain, grain)
            found[number] = data[sector * SECTOR:(sector + room) * SECTOR
                                 ].ljust(GRAIN, b'\0')
    return found


def read_qcow2(data: bytes) -> dict[int, bytes]:
    """The grains of a qcow2 image, by its tables."""
    size, = struct.unpack_from('>Q', data, 24)
    found: dict[int, bytearray] = {}
    for at, cluster in _clusters(data, size):
        view = memoryview(cluster)[:size - at]
        while view:
            number, within = divmod(at, GRAIN)
            part = view[:GRAIN - within]
            found.setdefault(number, bytearray(GRAIN))[
                within:within + len(part)] = part
            at, view = at + len(part), view[len(part):]
    return {number: bytes(grain) for number, grain in found.items()}


def _clusters(data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """Where on the disk each cluster is that a qcow2 image has."""
    bits, = struct.unpack_from('>I', data, 20)
    l1_at, = struct.unpack_from('>Q', data, 40)
    cluster, mask = 1 << bits, (1 << 56) - 512
    entries = cluster // 8
    for first in range(0, size, cluster * entries):
        table, = struct.unpack_from(
            '>Q', data, l1_at + 8 * (first // (cluster * entries)))
        table &= mask
        if not table:
            continue
        for number, entry in enumerate(struct.unpack_from(
                f'>{entries}Q', data, table)):
            place = first + number * cluster
            if place >= size:
                break
            at = entry & mask
            if entry & 1 << 62:
                at = entry & (1 << 62 - (bits - 8)) - 1
                # As QEMU does: with a window of 4 KiB.
                yield place, zlib.decompressobj(-12).decompress(
                    data[at:at + 2 * cluster], cluster)
            elif at and not entry & 1:
                yield place, data[at:at + cluster]


def content_of(stream: bytes) -> bytes:
    """All that a streamOptimized disk holds."""
    size = HEADER.unpack_from(stream)[3] * SECTOR
    content = bytearray(size)
    for number, grain in read_stream(stream).items():
        content[number * GRAIN:(number + 1) * GRAIN] = grain
    return bytes(content[:size])


def checksum(grains: dict[int, bytes], size_bytes: int) -> str:
    """As the simulator's ``GET /disk/checksum?grains=1``."""
    digest = hashlib.sha256()
    for number, grain in sorted(grains.items()):
        if grain.strip(b'\0'):
            digest.update((number * GRAIN).to_bytes(8, 'big') + grain)
    digest.update(size_bytes.to_bytes(8, 'big'))
    return digest.hexdigest()


# -- OVAs -------------------------------------------------------------------

DMTF = 'http://schemas.dmtf.org/ovf/envelope/1'


def ovf(files: Iterable[tuple[str, str]], disks: Iterable[str | None],
        more: str = '', namespace: str = DMTF) -> bytes:
    """An OVF.

    :param files: id and href
    :param disks: the file of each disk; None: it has none
    :param more: attributes of each file
    """
    listed = ''.join(f'<File ovf:id="{name}" ovf:href="{href}" {more}/>'
                     for name, href in files)
    described = ''.join(
        f'<Disk ovf:diskId="disk{number}" ovf:capacity="1" '
        + (f'ovf:fileRef="{name}" ' if name else '') + '/>'
        for number, name in enumerate(disks))
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n<Envelope '
            f'xmlns="{namespace}" xmlns:ovf="{namespace}"><References>'
            f'{listed}</References><DiskSection><Info/>{described}'
            '</DiskSection></Envelope>').encode()


def one_disk(href: str = 'disk.vmdk') -> bytes:
    return ovf([('file1', href)], ['file1'])


def tar(members: Iterable[tuple[str, bytes | None]],
        archive_format: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive of names and contents; None: a folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode='w',
                      format=archive_format) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header alone of a member of any size and kind."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def disk_in(archive: bytes) -> bytes:
    """The first disk that the OVF in an OVA names, by the standard library."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files: dict[str, bytes] = {}
        for member in opened:
            file = opened.extractfile(member)
            if file:
                files.setdefault(posixpath.normpath(member.name), file.read())
    name = next(name for name in files if name.lower().endswith('.ovf')
                and not posixpath.basename(name).startswith('._'))
    tree = ElementTree.fromstring(files[name])
    attribute, tag = f'{{{DMTF}}}%s', f'.//{{{DMTF}}}%s'
    wanted = next(disk.get(attribute % 'fileRef') for disk
                  in tree.iterfind(tag % 'Disk')
                  if disk.get(attribute % 'fileRef'))
    href = next(file.get(attribute % 'href', '') for file
                in tree.iterfind(tag % 'File')
                if file.get(attribute % 'id') == wanted)
    for each in (href, parse.unquote(href)):
        found = files.get(posixpath.normpath(posixpath.join(
            posixpath.dirname(name), each)))
        if found is not None:
            return found
    raise ValueError(f'{href} is not there')


def ova(disk: bytes, href: str = 'disk.vmdk', name: str = '',
        **kwargs) -> bytes:
    return tar([('vm.ovf', one_disk(href)), (name or href, disk)], **kwargs)
