# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext volume relink``."""

import argparse
from typing import Any

from oslo_utils import uuidutils

from cinder import context as cinder_context
from cinder import exception
from cinder import objects

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import config
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.volumes import relink


class RelinkVolume(command.Showing):
    """Give a lost volume the VM or the disk that is its own.

    It is its own by its instance UUID, the UUID or path of its disk, its name,
    or what a sweep noted of it. A VM gets the volume's name, UUID and marks,
    and comes back from quarantine or from being a template; a disk that no VM
    has gets a VM, and is moved into its folder. Cinder's record then names
    the pool.
    Refused, before anything changes: what another VM uses, another record
    names or another deployment made, one of a chain of snapshots, what lies on
    no pool, a volume that is not lost. What only seems to be its own, or has
    another size, is refused unless --accept names the value that the refusal
    names. May be repeated.
    """

    COLUMNS = (
        columns.Column('backend', 'Backend'),
        columns.Column('id', 'ID'),
        columns.Column('name', 'Name'),
        columns.Column('target', 'VM or disk'),
        columns.Column('shown_by', 'Its own by', columns.listed),
        columns.Column('changes', 'Changes', columns.listed),
        columns.Column('done', 'Done'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('volume', metavar='VOLUME', help='its id or name')
        target = parser.add_mutually_exclusive_group(required=True)
        target.add_argument(
            '--vm', metavar='VM', help='its reference (vm-12), its name, or '
            'its path in the inventory')
        target.add_argument(
            '--disk', metavar='PATH',
            help="of a disk that no VM has: '[datastore] folder/name.vmdk'")
        parser.add_argument(
            '--accept', action='append', default=[], metavar='VALUE',
            help='the value in doubt that a refusal names: the UUID of a '
            'disk, or its size (2GiB); may be repeated')
        command.add_confirmation(parser, 'only show what would be done')
        return parser

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Plan, ask, plan again, act."""
        self.names(parsed_args)
        volume = self._volume(parsed_args.volume)
        for name, opened in self.opened(parsed_args):
            if opened.owner.owns(volume):
                plan, done = self._done_to(opened, volume, parsed_args)
                return (name, volume.id, volume.display_name or '',
                        plan.target, list(plan.shown_by), list(plan.steps),
                        done)
        with self.calling(exceptions.UnknownObject):
            raise exceptions.UnknownObject(
                f'volume {volume.id} is of another backend: its host is '
                f'{volume.host}')

    def _volume(self, wanted: str) -> Any:
        context = cinder_context.get_admin_context()
        volume_id = config.name_patterns().volume_id(wanted) or wanted
        found: list[Any] = []
        with self.calling(exceptions.UnknownObject):
            if uuidutils.is_uuid_like(volume_id):
                try:
                    return objects.Volume.get_by_id(context, volume_id)
                except exception.VolumeNotFound:
                    pass
            else:
                found = list(objects.VolumeList.get_all(
                    context, filters={'display_name': wanted}))
            if len(found) != 1:
                raise exceptions.UnknownObject(
                    f'{len(found)} volumes are called {wanted!r}; give an id '
                    'that volume list shows')
        return found[0]

    def _done_to(self, opened: Any, volume: Any,
                 parsed_args: argparse.Namespace) -> tuple[relink.Plan, str]:
        plan = self._plan(opened, volume, parsed_args)
        if not plan.steps:
            return plan, 'nothing to do'
        if parsed_args.dry_run:
            return plan, 'would be relinked'
        if not parsed_args.yes and not self.app.agreed(
                f'Relink volume {volume.id} to {plan.target} '
                f'({"; ".join(plan.steps)})?'):
            return plan, 'left'
        with self.app.backends.locking(), opened.relink.alone(), \
                locks.volumes(volume.id):
            # Time has passed, perhaps at the question.
            volume.refresh()
            plan = self._plan(opened, volume, parsed_args)
            opened.relink.carry_out(volume, plan)
        return plan, 'relinked'

    def _plan(self, opened: Any, volume: Any,
              parsed_args: argparse.Namespace) -> relink.Plan:
        with self.calling(exceptions.UnknownObject):
            return opened.relink.plan(
                volume, collect.EvidenceReader(opened).without_files(),
                vm=parsed_args.vm, disk=parsed_args.disk,
                accepted=parsed_args.accept)
