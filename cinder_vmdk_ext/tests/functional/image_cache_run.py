# SPDX-License-Identifier: Apache-2.0
"""Volumes from images of a real Glance, and Cinder's image-volume cache.

    make image-cache-run

It needs qemu-img, with which Cinder inspects an image before it caches it. It
prints each step with its result, and fails if a result is wrong.
"""

import os
from pathlib import Path
import random
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any
import unittest

import glanceclient

from cinder_vmdk_ext.tests import disk_images
from sandbox.tests import sandbox_case
from simulator import control as control_endpoint

MIB = 1 << 20
_CONTENT_MIB = 8
# vmware_disktype -> what qemu-img calls that kind of VMDK.
VMDKS = {'streamOptimized': 'streamOptimized', 'sparse': 'monolithicSparse'}
KINDS = (*VMDKS, 'raw', 'qcow2')
# What moves bytes from or to a datastore through Cinder.
TRANSFERS = ('ImportVApp', 'ExportVm', 'PUT /nfc', 'POST /nfc', 'GET /nfc',
             'PUT /folder', 'GET /folder', 'CopyVirtualDisk_Task')
# Cinder counts for each pool by itself.
CACHE_SIZE = 1


class ImageCacheTestCase(sandbox_case.SandboxCase):

    runtime = os.environ.get('RUNTIME', 'threads')  # or eventlet

    arguments = {'with_glance': True, 'options': {
        'image_volume_cache_enabled': True,
        'image_volume_cache_max_count': CACHE_SIZE}}

    @classmethod
    def setUpClass(cls):
        begin = time.monotonic()
        super().setUpClass()
        print(f'Cinder, Glance {cls.glance_version()} and a simulated vCenter '
              f'after {time.monotonic() - begin:.0f} s')
        cls.glance = glanceclient.Client('2', cls.sandbox.glance_url)
        cls.control = control_endpoint.Control(
            cls.sandbox.vcenter.control_url)
        cls.files = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.files)

    @staticmethod
    def glance_version() -> str:
        from sandbox import glance
        found = next(glance.environment().glob(
            'lib/python3*/site-packages/glance-*.dist-info'))
        return found.name.split('-')[1].removesuffix('.dist')

    def setUp(self):
        super().setUp()
        self.volumes: list[Any] = []
        self.newest: dict[str, str] = {}  # pool -> image in the cache
        self.entries: list[Any] = []

    # -- words -------------------------------------------------------------

    def new_content(self, seed: int) -> bytes:
        """Noise with a hole in its midst."""
        noise = random.Random(seed).randbytes(_CONTENT_MIB * MIB // 4)
        return noise + bytes(_CONTENT_MIB * MIB // 2) + noise

    def new_image(self, kind: str, content: bytes) -> Any:
        """:param kind: of KINDS"""
        raw, disk = self.files / 'raw', self.files / 'disk'
        raw.write_bytes(content)
        disk_format = 'vmdk' if kind in VMDKS else kind
        more = (['-o', f'subformat={VMDKS[kind]}'] if kind in VMDKS else
                ['-c'] if kind == 'qcow2' else [])
        disk.unlink(missing_ok=True)
        subprocess.run(
            ['qemu-img', 'convert', '-f', 'raw', '-O', disk_format, *more,
             str(raw), str(disk)], check=True)
        image = self.glance.images.create(
            name=kind, disk_format=disk_format, container_format='bare',
            vmware_adaptertype='lsiLogic',
            **({'vmware_disktype': kind} if kind in VMDKS else {}))
        with open(disk, 'rb') as stream:
            self.glance.images.upload(image.id, stream)
        return self.glance.images.get(image.id)

    def volume_from(self, image_id: str) -> Any:
        volume = self.cinder.volumes.create(
            size=1, imageRef=image_id, volume_type='thin')
        self.volumes.append(volume)
        settled = self.clients.settled_volume(volume.id)
        self.assertEqual('available', settled.status)
        return settled

    def volume_and_calls(self, image_id: str) -> tuple[Any, dict[str, int]]:
        """A volume from an image, and how often which method was called."""
        self.control.reset_journal()
        volume = self.volume_from(image_id)
        methods = self.control.journal()['methods']
        return volume, {name: each['calls'] for name, each in methods.items()}

    def content_of(self, volume: Any) -> str:
        disk, = self.inspector.shadow_vms()[volume.id].disks
        self.assertEqual(disk.datastore, self.pool_of(volume))
        return self.control.call(
            'GET', '/disk/checksum', datastore=disk.datastore,
            path=disk.path.partition('] ')[2], grains=1)['sha256']

    @staticmethod
    def pool_of(volume: Any) -> str:
        return getattr(volume, 'os-vol-host-attr:host').partition('#')[2]

    def cached(self) -> dict[str, Any]:
        """Image id -> the volume that the cache has made of it."""
        found = {}
        for volume in self.cinder.volumes.list(
                search_opts={'all_tenants': 1}):
            if volume.name and volume.name.startswith('image-'):
                found[volume.name.removeprefix('image-')] = volume
        return found

    def until_cached(self, image_id: str) -> None:
        """Wait until an image is in the cache, and the one before is not."""
        deadline = time.monotonic() + 60
        while True:
            known = self.cached()
            if image_id in known and known[image_id].status == 'available':
                pool = self.pool_of(known[image_id])
                if set(known) == {*self.newest.values()} - {
                        self.newest.get(pool)} | {image_id}:
                    break
            self.assertLess(time.monotonic(), deadline, known)
            time.sleep(0.5)
        self.newest[pool] = image_id
        self.entries.append(known[image_id])

    # -- the test ----------------------------------------------------------

    def test_the_first_volume_fills_the_cache_and_the_second_is_a_clone(self):
        for seed, kind in enumerate(KINDS):
            content = self.new_content(seed)
            wanted = disk_images.checksum(
                dict(disk_images.grains_of(content)), 1 << 30)
            image = self.new_image(kind, content)
            first, calls = self.volume_and_calls(image.id)
            self.assertEqual(wanted, self.content_of(first))
            self.until_cached(image.id)
            print(f'{kind}: the first volume was uploaded '
                  f'({sum(calls.values())} calls) and is in the cache')
            second, calls = self.volume_and_calls(image.id)
            self.assertEqual(1, calls.get('CloneVM_Task'), calls)
            self.assertEqual(set(), set(calls) & set(TRANSFERS))
            self.assertEqual(wanted, self.content_of(second))
            print(f'{kind}: the second is one CloneVM_Task '
                  f'({sum(calls.values())} calls in all), equal to the byte')

        for disk_format, container in (
                ('vmdk', 'bare'), ('qcow2', 'bare'), ('vmdk', 'ova'),
                ('raw', 'bare')):
            back = self.upload(second, disk_format, container)
            print(f'a volume was made an image ({back.size} bytes, '
                  f'{disk_format}, {container})')
            if container == 'ova':
                continue  # Cinder's cache does not look into an archive
            third = self.volume_from(back.id)
            self.assertEqual(wanted, self.content_of(third))
            print('and that a volume, equal to the byte')
            self.until_cached(back.id)
        self.evict()
        self.delete_all()

    def evict(self) -> None:
        """One image more than the cache has room for."""
        while len(self.entries) <= CACHE_SIZE * len(
                self.inspector.datastores()):
            image = self.new_image('sparse', self.new_content(99))
            self.volume_from(image.id)
            self.until_cached(image.id)
        kept = {entry.id for entry in self.cached().values()}
        there = {entry.id for entry in self.entries} & set(
            self.inspector.shadow_vms())
        self.assertEqual(kept, there)
        print(f'of {len(self.entries)} images the cache has kept '
              f'{len(kept)}, {CACHE_SIZE} for each pool; the others are '
              'gone, in Cinder and in the vCenter')

    def upload(self, volume: Any, disk_format: str, container: str) -> Any:
        _, answer = self.cinder.volumes.upload_to_image(
            volume, True, 'back', container, disk_format, 'private', False)
        image_id = answer['os-volume_upload_image']['image_id']
        deadline = time.monotonic() + 180
        while True:
            image = self.glance.images.get(image_id)
            if image.status == 'active' and self.cinder.volumes.get(
                    volume.id).status == 'available':
                break
            self.assertLess(time.monotonic(), deadline, image.status)
            time.sleep(0.3)
        return self.glance.images.get(image_id)

    def delete_all(self) -> None:
        gone = [*self.volumes, *self.cached().values()]
        for volume in gone:
            self.cinder.volumes.delete(volume.id)
        for volume in gone:
            self.clients.wait_until_gone(self.cinder.volumes, volume.id)
        left = {volume.id for volume in gone} & set(
            self.inspector.shadow_vms())
        self.assertEqual(set(), left)
        print('all is deleted, and nothing is left')


if __name__ == '__main__':
    if not shutil.which('qemu-img'):
        sys.exit('qemu-img is missing: apt-get install qemu-utils')
    unittest.main()
