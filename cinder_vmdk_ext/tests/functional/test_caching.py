# SPDX-License-Identifier: Apache-2.0
"""`cache list` and `cache clean`; the vCenter is read by pyVmomi.

And what Cinder's own code makes of a cached image that is lost.
"""

import datetime
import tempfile
import types
from unittest import mock

from oslo_config import cfg
from oslo_utils import timeutils
from oslo_utils import units
from oslo_utils import uuidutils

from cinder.db import api as db
from cinder.image import image_utils
from cinder import utils

from cinder_vmdk_ext.cmd import caching
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import damage_case
from cinder_vmdk_ext.tests.functional import test_transfers

INTERNAL = 'internal'
UPDATED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
# What Cinder asks qemu-img, in a daemon with the rights of root.
INSPECTED = types.SimpleNamespace(virtual_size=units.Gi, file_format='raw',
                                  backing_file=None)
content = backend_case.content


class ImageService(test_transfers.ImageService):
    """An image service that counts how often its image is sent."""

    downloads = 0

    def download(self, context, image_id, data=None):
        self.downloads += 1
        if data is None:
            return super().download(context, image_id)
        # Not by eventlet's pool, as source_image.download_directly.
        getattr(data, '_obj', data).write(self.data)


class CacheTestCase(damage_case.ApiCase):

    def setUp(self):
        super().setUp()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        for option, value in (
                ('cinder_internal_tenant_project_id', INTERNAL),
                ('cinder_internal_tenant_user_id', INTERNAL),
                ('image_conversion_dir', folder)):
            cfg.CONF.set_override(option, value)
            self.addCleanup(cfg.CONF.clear_override, option)
        patched = mock.patch.object(caching, 'POLL_SECONDS', 0)
        patched.start()
        self.addCleanup(patched.stop)

    # -- Cached images ------------------------------------------------------

    def cache(self, days=0, entry=True, **fields):
        """What Cinder makes of the first volume of an image."""
        image = uuidutils.generate_uuid()
        volume = self.new_volume(display_name=f'image-{image}',
                                 project_id=INTERNAL, **fields)
        self.made(volume, self.driver.create_volume(volume))
        self.write(volume, content(image))
        if entry:
            self.enter(image, volume.id, volume.host, days)
        return image, volume

    def enter(self, image, volume_id, host, days):
        with mock.patch.object(
                timeutils, 'utcnow', return_value=timeutils.utcnow()
                - datetime.timedelta(days=days)):
            db.image_volume_cache_create(
                self.context, host, None, image, timeutils.utcnow(),
                volume_id, 1)

    def entries(self):
        return {each['volume_id']
                for each in db.image_volume_cache_get_all(self.context)}

    def clean(self, *words, status=0):
        return {each['volume']: each['done'] for each in self.listed(
            'cache', 'clean', '--yes', *words, status=status)}

    def test_what_was_not_used_for_long_is_deleted_through_cinders_api(self):
        old_image, old = self.cache(days=40)
        _image, new = self.cache(days=2)
        listed = self.listed('cache', 'list')
        self.assertEqual([(new.id, 'ready'), (old.id, 'ready')], [
            (each['volume'], each['state']) for each in listed])
        self.assertEqual((old_image, 'LocalDS_1', 40), (
            listed[1]['image'], listed[1]['pool'],
            round(listed[1]['unused_seconds'] / 86400)))
        would = self.clean('--dry-run')
        self.assertEqual('would be deleted', would[old.id])
        self.assertIn('left: it was used 2.0 d ago', would[new.id])
        _status, out, asked = self.command('cache', 'clean', answers='n\n')
        self.assertIn(f'Image {old_image} on LocalDS_1', asked)
        self.assertEqual([], self.asked)
        self.assertEqual('deleted', self.clean()[old.id])
        self.assertEqual((None, {new.id}), (self.truth(old), self.entries()))
        self.assertIsNotNone(self.truth(new))
        self.assertEqual({new.id: 'deleted'}, self.clean('--all'))
        self.assertEqual((None, set()), (self.truth(new), self.entries()))

    # -- Cinder's use of them -----------------------------------------------

    def volume_from(self, service, image):
        """As Cinder's flow makes a volume of an image, with its cache."""
        # After the objects are registered.
        from cinder.image import cache as image_cache
        from cinder.volume.flows.manager import create_volume
        service.metadata |= {'id': image, 'disk_format': 'raw',
                             'updated_at': UPDATED, 'created_at': UPDATED}
        volume = self.new_volume()
        with mock.patch.object(utils, 'notifications_enabled',
                               return_value=False), \
                mock.patch.object(image_utils, 'qemu_img_info',
                                  return_value=INSPECTED):
            task = create_volume.CreateVolumeFromSpecTask(
                None, db, self.driver, image_cache.ImageVolumeCache(db, None))
            return self.made(volume, task._create_from_image(
                self.context, volume, (None, None), image, service.metadata,
                service))

    def test_a_lost_image_costs_each_new_volume_a_transfer(self):
        service = ImageService(content('image'))
        patched = mock.patch.object(
            self.driver.configuration, 'safe_get',
            lambda name, read=self.driver.configuration.safe_get:
            name == 'image_volume_cache_enabled' or read(name))
        patched.start()
        self.addCleanup(patched.stop)
        for damage in ('none', 'its VM', 'its file'):
            with self.subTest(damage):
                image, cached = self.cache(entry=False)
                self.write(cached, content('image'))
                db.image_volume_cache_create(
                    self.context, cached.host, None, image,
                    UPDATED.replace(tzinfo=None), cached.id, 1)
                truth = self.truth(cached)
                if damage == 'its VM':
                    self.destroy(truth.vm)
                elif damage == 'its file':
                    self.delete_file(truth.path)
                before = set(self.shadow_vms())
                service.downloads = 0
                volume = self.volume_from(service, image)
                self.assertEqual(content('image'),
                                 self.read(volume, len(content('image'))))
                self.assertEqual(0 if damage == 'none' else 1,
                                 service.downloads)
                self.assertEqual({volume.name},
                                 set(self.shadow_vms()) - before)
                # Cinder neither repairs nor removes the entry.
                self.assertIn(cached.id, self.entries())

    def test_what_linked_clones_read_stays_and_says_so(self):
        image, base = self.cache(days=40)
        linked = self.new_volume(type_id=self.volume_type(
            'linked', clone_type='linked')['id'])
        self.made(linked, self.driver.create_cloned_volume(linked, base))
        checksum = self.checksum(linked)
        name = f'{linked.name} ({self.truth(linked).vm._moId})'
        self.assertEqual([name],
                         self.listed('cache', 'list')[0]['used_by'])
        refused = {base.id: f'refused: its disk is read by {name}'}
        self.assertEqual(refused, self.clean('--all'))
        self.assertEqual(refused, self.clean(image, status=1))
        self.assertEqual([], self.asked)
        self.assertEqual(checksum, self.checksum(linked))

    def test_a_lost_image_and_an_entry_without_a_volume_are_cleared(self):
        _image, lost = self.cache()
        _image, failed = self.cache()
        _image, fileless = self.cache()
        self.assertEqual({'ready'}, {
            each['state'] for each in self.listed('cache', 'list')})
        for each in (lost, failed):
            self.destroy(self.truth(each).vm)
        self.delete(failed.id)  # as an administrator has tried
        del self.asked[:]
        self.delete_file(self.truth(fileless).path)
        gone = uuidutils.generate_uuid()
        self.enter(uuidutils.generate_uuid(), gone, lost.host, 0)
        states = {each['volume']: each['state'] for each in self.listed(
            'cache', 'list', status=4)}
        self.assertEqual({lost.id: 'lost', failed.id: 'lost',
                          fileless.id: 'lost', gone: 'stale'}, states)
        self.assertEqual({
            lost.id: 'unmanaged', failed.id: 'unmanaged',
            fileless.id: 'unmanaged', gone: 'removed from the cache'},
            self.clean())
        self.assertEqual(set(), self.entries())
        self.assertEqual([], self.listed('cache', 'list'))

    def test_a_volume_that_the_cache_does_not_know_is_left_unless_named(self):
        _image, volume = self.cache(entry=False)
        theirs = self.create()
        theirs.update({'display_name': f'image-{uuidutils.generate_uuid()}'})
        theirs.save()
        found, = self.listed('cache', 'list', status=3)
        self.assertEqual((volume.id, 'no entry'),
                         (found['volume'], found['state']))
        self.assertIn('the cache does not know it',
                      self.clean('--all')[volume.id])
        self.assertEqual({volume.id: 'deleted'}, self.clean(volume.id))
        self.assertIsNone(self.truth(volume))
        self.assertIsNotNone(self.truth(theirs))

    def test_what_is_busy_or_has_snapshots_is_refused(self):
        _image, volume = self.cache(days=40)
        snapshot = self.snapshot(volume)
        self.assertEqual('refused: its volume has snapshots',
                         self.clean()[volume.id])
        self.driver.delete_snapshot(snapshot)
        snapshot.destroy()
        volume.update({'status': 'backing-up'})
        volume.save()
        self.assertEqual('refused: its volume is backing-up',
                         self.clean()[volume.id])
        self.assertEqual(1, self.command('cache', 'clean', 'unknown')[0])
        self.assertEqual([], self.asked)
