# SPDX-License-Identifier: Apache-2.0
"""Makes volumes of images and images of volumes, and compares the content.

``make image-matrix`` writes docs/image-matrix.md.
"""

import collections
import itertools
import pathlib
import random
import sys
import tarfile
import time
import unittest
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from oslo_utils import units

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import test_transfers

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = ROOT / 'docs' / 'image-matrix.md'
REAL = ROOT.joinpath('../shared/fixtures/vmdk')
ADAPTERS = {'lsiLogic': 'VirtualLsiLogicController',
            'busLogic': 'VirtualBusLogicController',
            'lsiLogicsas': 'VirtualLsiLogicSASController',
            'paraVirtual': 'ParaVirtualSCSIController',
            'ide': 'VirtualIDEController'}
DISK_TYPES = ('thin', 'thick', 'eagerZeroedThick')
SIZES = {'one sector': 512, '1 MiB': units.Mi,
         '1 MiB and a sector': units.Mi + 512,
         '33 MiB and 3 sectors': 33 * units.Mi + 3 * 512}
REAL_SIZE = 'as it is'

HEAD = '''\
# Images and volumes, there and back

`make image-matrix` writes this page. Each image becomes a volume on the
simulated vCenter, with each adapter (`vmware_adaptertype`: lsiLogic,
busLogic, lsiLogicsas, paraVirtual, ide) and each disk type
(`vmware:vmdk_type`: thin, thick, eagerZeroedThick), and the volume becomes an
image again. `make test` runs a part of it.

A case is right if the volume has the adapter, the disk type, the size of the
volume and the content of the image, and if the image that is made of it has
that content too. The images are written and read by code of the tests, which
is not the plugin's; the checksums are SHA-256 over the size and all grains
that are not zeros, and those of volumes are the simulator's.

- **images** that are streamOptimized are written in turn as vSphere, ovftool,
  the content library, VirtualBox, open-vmdk, VMware Workstation and qemu-img
  write them; OVAs in turn as ustar, GNU and pax archives; qcow2 images in
  turn plain, compressed and in version 2
- **real disks** were exported by a vSphere, and are not in this repository
- **back as**: disk format and container format of the image that is made
- **there**, **back**: cases in which the content was equal

| image | size | back as | cases | there | back |
|---|---|---|---|---|---|
'''


class Made(NamedTuple):
    """An image's data and record, and the grains of its content."""

    data: bytes
    disk_format: str
    container: str
    disk_type: str | None
    grains: dict[int, bytes]


class Case(NamedTuple):
    """One image that goes there and back."""

    image: str
    size: str
    adapter: str
    disk_type: str
    number: int  # selects a writer


class Outcome(NamedTuple):
    """What came of it."""

    case: Case
    there: bool
    back: bool
    wrong: str


def content(size: int) -> bytes:
    """Noise at the beginning, in the middle and up to the last byte."""
    noise = random.Random(size).randbytes(min(size, 70_000))
    return noise.ljust(size // 2, b'\0')[:size].ljust(
        size - len(noise), b'\0')[:size - len(noise)] + noise


def _stream(data: bytes, number: int) -> bytes:
    writers: list[Callable[[bytes], bytes]] = [disk_images.stream_by_qemu]
    writers += [lambda data, by=by: disk_images.stream_optimized(
        data, describe=by) for by in disk_images.WRITERS]
    return writers[number % len(writers)](data)


def _ova(data: bytes, number: int) -> bytes:
    kinds = tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT
    return disk_images.ova(disk_images.stream_optimized(data),
                           archive_format=kinds[number % len(kinds)])


def _qcow2(data: bytes, number: int) -> bytes:
    kinds: list[dict[str, Any]] = [{}, {'compress': True}, {'version': 2}]
    return disk_images.qcow2(data, **kinds[number % len(kinds)])


def _plain(data: bytes, _number: int) -> bytes:
    return data


# Image -> its writer, disk format, container, vmware_disktype, and the form
# in which it comes back.
IMAGES: dict[str, tuple[Any, str, str, str | None, tuple[str, str]]] = {
    'streamOptimized VMDK': (
        _stream, 'vmdk', 'bare', 'streamOptimized', ('vmdk', 'bare')),
    'monolithicSparse VMDK': (
        lambda data, _: disk_images.monolithic_sparse(data), 'vmdk', 'bare',
        'sparse', ('vmdk', 'bare')),
    'preallocated VMDK': (_plain, 'vmdk', 'bare', 'preallocated',
                          ('raw', 'bare')),
    'OVA': (_ova, 'vmdk', 'ova', None, ('vmdk', 'ova')),
    'raw': (_plain, 'raw', 'bare', None, ('raw', 'bare')),
    'qcow2': (_qcow2, 'qcow2', 'bare', None, ('qcow2', 'bare')),
}
# Real disk -> its file, whether it is put into an OVA, and how it comes back.
REAL_IMAGES: dict[str, tuple[str, bool, tuple[str, str]]] = {
    'real disk, disk-0.vmdk': ('disk-0.vmdk', False, ('raw', 'bare')),
    'real disk, plain-vm.vmdk': ('plain-vm.vmdk', False, ('qcow2', 'bare')),
    'real OVF and disk, as an OVA': ('plain-vm.vmdk', True, ('vmdk', 'ova')),
}


def made(image: str, size: str, number: int) -> Made:
    """The image of a case."""
    if image in REAL_IMAGES:
        name, in_ova, _ = REAL_IMAGES[image]
        data = (REAL / name).read_bytes()
        grains = disk_images.read_stream(data)
        if in_ova:
            data = disk_images.tar([
                ('plain-vm.ovf', (REAL / 'plain-vm.ovf').read_bytes()),
                ('plain-vm.vmdk', data)])
        return Made(data, 'vmdk', 'ova' if in_ova else 'bare', None, grains)
    write, disk_format, container, disk_type, _ = IMAGES[image]
    data = content(SIZES[size])
    return Made(write(data, number), disk_format, container, disk_type,
                dict(disk_images.grains_of(data)))


def back_as(image: str) -> tuple[str, str]:
    return (IMAGES.get(image) or REAL_IMAGES[image])[-1]


def every_case() -> list[Case]:
    """The whole matrix; without the real disks if they are not there."""
    images = list(itertools.product(IMAGES, SIZES))
    if REAL.is_dir():
        images += [(image, REAL_SIZE) for image in REAL_IMAGES]
    forms = list(itertools.product(ADAPTERS, DISK_TYPES))
    return [Case(image, size, adapter, disk_type, number)
            for image, size in images
            for number, (adapter, disk_type) in enumerate(forms)]


class MatrixCase(test_transfers.TransfersCase):
    """Takes images there and back."""

    # The vCenter notices only after minutes that deleted disks need no space.
    VCENTER = test_transfers.TransfersCase.VCENTER | {'ds_capacity': '2TiB'}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.conversion_folder()

    def setUp(self):
        super().setUp()
        self.types = {form: self.volume_type(form, vmdk_type=form)['id']
                      for form in DISK_TYPES}

    def run_case(self, case: Case) -> Outcome:
        image = made(case.image, case.size, case.number)
        service = test_transfers.ImageService(
            image.data, container=image.container)
        service.metadata['disk_format'] = image.disk_format
        service.metadata['properties'] = {
            'vmware_adaptertype': case.adapter}
        if image.disk_type:
            service.metadata['properties']['vmware_disktype'] = (
                image.disk_type)
        volume = self.new_volume(type_id=self.types[case.disk_type])
        there = back = False
        wanted = disk_images.checksum(image.grains, units.Gi)
        try:
            self.made(volume, self.driver.clone_image(
                self.context, volume, None, service.metadata, service)[0])
            wrong = self.wrong_of(volume, case, wanted)
            there = not wrong
            if there:
                wrong = self.sent_back(volume, case, wanted)
                back = not wrong
        except Exception as error:
            wrong = f'{type(error).__name__}: {error}'
        finally:
            self.driver.delete_volume(volume)
        return Outcome(case, there, back, wrong)

    def wrong_of(self, volume: Any, case: Case, wanted: str) -> str:
        truth = self.truth(volume)
        found = truth.adapter, truth.provisioning, truth.size_gib
        if found != (ADAPTERS[case.adapter], case.disk_type, 1):
            return f'the disk is {found}'
        return '' if self.checksum(volume) == wanted else 'another content'

    def sent_back(self, volume: Any, case: Case, wanted: str) -> str:
        """What is wrong with the image that is made of a volume."""
        disk_format, container = back_as(case.image)
        service = (test_transfers.GrainKeeper if disk_format == 'raw'
                   else test_transfers.ImageService)()
        service.metadata.update(disk_format=disk_format,
                                container_format=container, properties={})
        self.driver.copy_volume_to_image(self.context, volume, service,
                                         service.metadata)
        if service.metadata['properties'].get(
                'vmware_adaptertype') != case.adapter:
            return 'the image has another adapter'
        if disk_format == 'raw':
            grains, size = service.grains, service.metadata['size']
        elif disk_format == 'qcow2':
            grains, size = disk_images.read_qcow2(service.data), units.Gi
        else:
            data = service.data
            if container == 'ova':
                data = disk_images.disk_in(data)
            grains, size = disk_images.read_stream(data), units.Gi
        return '' if disk_images.checksum(
            grains, size) == wanted else 'the image has another content'


def row(image: str, size: str, outcomes: list[Outcome]) -> str:
    """A row of the page."""
    return (f'| {image} | {size} | {", ".join(back_as(image))} | '
            f'{len(outcomes)} | {sum(each.there for each in outcomes)} | '
            f'{sum(each.back for each in outcomes)} |\n')


def page(outcomes: list[Outcome]) -> str:
    """docs/image-matrix.md."""
    by_image = collections.defaultdict(list)
    for each in outcomes:
        by_image[each.case.image, each.case.size].append(each)
    text = HEAD + ''.join(row(image, size, mine)
                          for (image, size), mine in by_image.items())
    text += (f'| all | | | {len(outcomes)} | '
             f'{sum(each.there for each in outcomes)} | '
             f'{sum(each.back for each in outcomes)} |\n')
    wrong = [each for each in outcomes if each.wrong]
    if wrong:
        text += '\n## Known gaps\n'
        text += ''.join(f'- {", ".join(map(str, each.case))}: {each.wrong}\n'
                        for each in wrong)
    return text


class _Run(MatrixCase):

    def runTest(self):
        began = time.monotonic()
        outcomes = []
        for case in every_case():
            outcomes.append(self.run_case(case))
            if len(outcomes) % 50 == 0:
                print(f'{len(outcomes)} cases after '
                      f'{time.monotonic() - began:.0f} s', file=sys.stderr)
        if any(each.case.image in REAL_IMAGES for each in outcomes):
            PAGE.write_text(page(outcomes))
        else:
            print('The real disks are not there: the page is as it was.')
        self.assertEqual([], [each for each in outcomes if each.wrong])
        self.assert_nothing_left()
        print(f'{len(outcomes)} cases in {time.monotonic() - began:.0f} s, '
              'all equal')


def main() -> int:
    """Run all of it, and write the page."""
    result = unittest.TextTestRunner().run(unittest.defaultTestLoader
                                           .suiteClass([_Run()]))
    return int(not result.wasSuccessful())


def load_tests(loader, tests, pattern):
    """This module holds no tests of its own."""
    return unittest.TestSuite()


if __name__ == '__main__':
    sys.exit(main())
