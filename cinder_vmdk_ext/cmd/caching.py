# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext cache list`` and ``cache clean``."""

import argparse
import datetime
import time
from typing import Any

from oslo_config import cfg
from oslo_utils import timeutils
from oslo_utils import units

from cinder import context as cinder_context
from cinder.db import api as db
from cinder import objects

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import image_cache
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import pool_names

POLL_SECONDS = 1.0
UNUSED_DAYS = 30.0
_COLUMNS = (
    columns.Column('backend', 'Backend', telling=True),
    columns.Column('image', 'Image'),
    columns.Column('volume', 'Volume'),
    columns.Column('pool', 'Pool'),
    columns.Column('size_bytes', 'Size', columns.size),
    columns.Column('state', 'State'),
    columns.Column('status', 'Status', long=True),
    columns.Column('unused_seconds', 'Unused for', columns.duration),
    columns.Column('used_by', 'Read by', columns.listed),
    columns.Column('hindrance', 'Not deletable', long=True),
    columns.Column('detail', 'Detail', long=True))
_Cached = image_cache.Cached


class _OfCache(command.Listing):
    """A command that reads the cached images of backends."""

    def cached(self, opened: Any) -> list[_Cached]:
        """The cached images of a backend, the one used last first."""
        context = cinder_context.get_admin_context()
        entries = [each for each in db.image_volume_cache_get_all(context)
                   if opened.owner.owns(each)]
        project = cfg.CONF.cinder_internal_tenant_project_id
        reader = collect.EvidenceReader(opened)
        volumes = objects.VolumeList.get_all(context, filters={
            'project_id': project}) if project else []
        pools = {each['host'].partition('#')[2]
                 for each in (*entries, *volumes) if each['host']}
        names = pool_names.by_datastore(opened.inventory(), opened.settings)
        evidence = reader.read(
            [moref for moref, name in names.items() if name in pools])
        return image_cache.read(evidence, reader.records, entries, project)


class ListCache(_OfCache):
    """List the images that Cinder's image-volume cache keeps.

    A cached image is a volume of Cinder's internal tenant, on each pool by
    itself. State: ready; lost: the disk of its volume is gone; stale: its
    volume has no record; no entry: a volume of the internal tenant that is
    named as a cached image, and that the cache does not know. Exits with 3 if
    one is not ready, and with 4 if one is lost.
    """

    COLUMNS = _COLUMNS

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read the entries, the volumes and their VMs."""
        rows = []
        for name, opened in self.opened(parsed_args):
            found = self.cached(opened)
            states = {each.state for each in found}
            self.app.found |= bool(states - {image_cache.READY})
            self.app.lost |= image_cache.LOST in states
            rows += [_row(name, each) for each in found]
        return rows


class CleanCache(_OfCache):
    """Delete cached images that were not used for a while.

    By default those of which no volume was made for 30 days; --all: whenever
    they were used. A lost image is cleared as well: its volume is unmanaged,
    since it has no disk to delete; and so is the entry of a volume that has
    no record. A volume that the cache does not know is deleted only if its id
    is given. Left with the reason: an image whose disk linked clones read,
    and a volume with snapshots or in another status than available or error.
    Volumes are deleted through Cinder's API, in the cloud of the environment
    (OS_CLOUD, or OS_AUTH_URL and so on), as an administrator. The next volume
    from the image fills the cache again.
    """

    COLUMNS = (*_COLUMNS, columns.Column('done', 'Done'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'image', nargs='*', metavar='IMAGE', default=[],
            help='id of an image, or of the volume of a cached image; '
            'default: all that were not used')
        parser.add_argument('--all', action='store_true',
                            help='also images that were used lately')
        parser.add_argument(
            '--unused-for', metavar='DAYS', default=UNUSED_DAYS,
            type=command.number('days', '30, or 0'),
            help='how long an image was not used (default: 30)')
        parser.add_argument(
            '--wait', metavar='SECONDS', default=600.0,
            type=command.number('seconds', '600'),
            help='how long Cinder may take for all (default: 600)')
        command.add_confirmation(parser, 'only list what would be done')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Choose, ask, read again, delete."""
        rows = []
        missing = set(parsed_args.image)
        for name, opened in self.opened(parsed_args):
            found = self.cached(opened)
            missing -= {word for word in missing
                        if any(each.is_called({word}) for each in found)}
            done = {each.volume_id: self._why_not(each, parsed_args)
                    for each in found}
            self._agree(found, done, parsed_args)
            if not all(done.values()):
                self._clean(opened, done, parsed_args)
            rows += [(*_row(name, each), done[each.volume_id])
                     for each in found]
        self.log_missing('there is no cached image of', missing)
        return rows

    def _why_not(self, cached: _Cached,
                 parsed_args: argparse.Namespace) -> str:
        """Why a cached image is left; '': it is deleted."""
        named = cached.is_called(parsed_args.image)
        if parsed_args.image and not named:
            return 'left: it was not named'
        if cached.hindrance:
            self.app.failed |= named
            return f'refused: {cached.hindrance}'
        if named or cached.state in (image_cache.LOST, image_cache.STALE):
            return ''
        if cached.state == image_cache.UNLISTED:
            return ('left: the cache does not know it; give the id of its '
                    'volume')
        seconds = _unused_seconds(cached.used_at)
        if parsed_args.all or (
                seconds is not None
                and seconds >= parsed_args.unused_for * 86400):
            return ''
        return 'left: it was used ' + (
            f'{columns.duration(seconds)} ago' if seconds is not None
            else 'at an unknown time')

    def _agree(self, found: list[_Cached], done: dict[str, str],
               parsed_args: argparse.Namespace) -> None:
        """Ask for each that is chosen."""
        for each in found:
            if done[each.volume_id]:
                continue
            if parsed_args.dry_run:
                done[each.volume_id] = 'would be ' + _deed(each)
            elif not self.agreed(
                    parsed_args, f'Image {each.image_id} on {each.pool} '
                    f'({columns.size(each.size_gib * units.Gi)}, '
                    f'{each.state}) is to be {_deed(each)}. Go on?'):
                done[each.volume_id] = 'left'

    def _clean(self, opened: Any, done: dict[str, str],
               parsed_args: argparse.Namespace) -> None:
        """Delete what has no word in ``done`` yet, and wait for the end."""
        # The questions may have taken time: read them again.
        now = {each.volume_id: each for each in self.cached(opened)}
        begun: dict[str, str] = {}
        for volume_id in [each for each in done if not done[each]]:
            cached = now.get(volume_id)
            if cached is None:
                done[volume_id] = 'left: it is no longer in the cache'
                continue
            done[volume_id] = self._why_not(cached, parsed_args)
            if done[volume_id]:
                continue
            try:
                if self._begin(cached):
                    begun[volume_id] = _deed(cached)
                else:
                    done[volume_id] = _deed(cached)
            except exceptions.VolumeApiFailed as error:
                self.app.failed = True
                done[volume_id] = f'failed: {error}'
        done.update(self._ended(begun, parsed_args.wait))

    def _begin(self, cached: _Cached) -> bool:
        """Ask Cinder for the deletion.

        A clone of the volume that is under way ends first: the driver holds
        the lock of both volumes for it.

        :returns: whether Cinder is at work on it; False: it is done
        """
        if cached.state == image_cache.STALE:
            # Cinder's API has no call for this. Its own code does the same.
            db.image_volume_cache_delete(
                cinder_context.get_admin_context(), cached.volume_id)
            return False
        api = self.app.backends.volume_api('')
        if cached.state == image_cache.LOST:
            if cached.status in image_cache.FAILED:
                api.reset(cached.volume_id, 'error')
            api.unmanage(cached.volume_id)
        else:
            api.delete(cached.volume_id)
        return True

    def _ended(self, begun: dict[str, str],
               wait_seconds: float) -> dict[str, str]:
        """Wait until the volumes have no record.

        :returns: what came of each, by its id
        """
        done: dict[str, str] = {}
        deadline = time.monotonic() + wait_seconds
        while True:
            records = objects.VolumeList.get_all(
                cinder_context.get_admin_context(),
                filters={'id': sorted(begun)}) if begun else []
            status = {each.id: each.status for each in records}
            late = time.monotonic() >= deadline
            for volume_id in list(begun):
                if volume_id not in status:
                    done[volume_id] = begun.pop(volume_id)
                elif status[volume_id].startswith('error') or late:
                    self.app.failed = True
                    del begun[volume_id]
                    done[volume_id] = (f'failed: the volume is '
                                       f'{status[volume_id]}')
            if not begun:
                return done
            time.sleep(POLL_SECONDS)


def _deed(cached: _Cached) -> str:
    return {image_cache.LOST: 'unmanaged',
            image_cache.STALE: 'removed from the cache'}.get(
                cached.state, 'deleted')


def _unused_seconds(moment: datetime.datetime | None) -> float | None:
    if moment is None:
        return None
    return max(0.0, (timeutils.utcnow()
                     - moment.replace(tzinfo=None)).total_seconds())


def _row(backend: str, cached: _Cached) -> columns.Row:
    return (backend, cached.image_id, cached.volume_id, cached.pool,
            cached.size_gib * units.Gi, cached.state, cached.status,
            _unused_seconds(cached.used_at), list(cached.used_by),
            cached.hindrance, cached.detail)
