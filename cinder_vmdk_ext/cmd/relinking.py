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
    """Give a lost volume its VM or disk again.

    The instance UUID, the UUID or path of the disk, the name, or the record
    of a sweep shows that it belongs to the volume. A VM gets the volume's
    name, UUID and marks; it is taken out of quarantine, and a template becomes
    a VM. A disk without a VM gets one, and is moved into its folder. Cinder's
    record then names the pool.
    Refused before anything changes: a VM or disk that another VM uses, that
    another record names, that another deployment made, that is part of a chain
    of snapshots or is not on a pool; and a volume that is not lost. If it is
    in doubt whether it belongs to the volume, or if it has another size, the
    refusal names a value, and --accept with this value permits it. The
    command may be repeated.
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
        parser.add_argument('volume', metavar='VOLUME',
                            help='id or name of the volume')
        target = parser.add_mutually_exclusive_group(required=True)
        target.add_argument(
            '--vm', metavar='VM', help='reference (vm-12), name or inventory '
            'path of the VM')
        target.add_argument(
            '--disk', metavar='PATH',
            help="path of a disk without a VM, as '[datastore] "
            "folder/name.vmdk'")
        parser.add_argument(
            '--accept', action='append', default=[], metavar='VALUE',
            help='doubtful value that a refusal names: the UUID of a disk, '
            'or its size (2GiB); may be repeated')
        target.add_argument(
            '--vmx', metavar='PATH',
            help="configuration file of its VM, which was removed from the "
            "inventory, as '[datastore] folder/name.vmx': it is registered "
            'again')
        command.add_confirmation(parser, 'only show what would be done')
        return parser

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Plan, ask, plan again, relink."""
        self.names(parsed_args)
        volume = self._volume(parsed_args.volume)
        with self.owning(parsed_args, volume,
                         f'volume {volume.id}') as (name, opened):
            return (name, volume.id, volume.display_name or '',
                    *self._done_to(opened, volume, parsed_args))

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
                    f'{len(found)} volumes have the id or name {wanted!r}; '
                    'give an id that volume list shows')
        return found[0]

    def _done_to(self, opened: Any, volume: Any,
                 parsed_args: argparse.Namespace) -> columns.Row:
        """:returns: the columns from the target on"""
        if parsed_args.vmx:
            return self._registered(opened, volume, parsed_args)
        plan, done = self._relinked(opened, volume, parsed_args)
        return plan.target, list(plan.shown_by), list(plan.steps), done

    def _registered(self, opened: Any, volume: Any,
                    parsed_args: argparse.Namespace) -> columns.Row:
        """Register the VM, and relink the volume to it where needed.

        What is not the volume's is taken out of the inventory again.
        """
        path = parsed_args.vmx
        opened.relink.check_registering(
            volume, collect.EvidenceReader(opened).without_files(), path)
        steps = [f'{path} is registered']
        if parsed_args.dry_run:
            return path, [], steps, 'would be relinked'
        if not self.agreed(
                parsed_args, f'Register {path} for volume {volume.id}?'):
            return path, [], steps, 'left'
        moref = opened.relink.register(volume, path)
        parsed_args.vm, parsed_args.yes = moref, True
        try:
            plan, _done = self._relinked(opened, volume, parsed_args)
        except Exception:
            opened.relink.unregister(moref)
            raise
        return (plan.target, list(plan.shown_by), [*steps, *plan.steps],
                'relinked')

    def _relinked(self, opened: Any, volume: Any,
                  parsed_args: argparse.Namespace
                  ) -> tuple[relink.Plan, str]:
        plan = self._plan(opened, volume, parsed_args)
        if not plan.steps:
            return plan, 'nothing to do'
        if parsed_args.dry_run:
            return plan, 'would be relinked'
        if not self.agreed(
                parsed_args, f'Relink volume {volume.id} to {plan.target} '
                f'({"; ".join(plan.steps)})?'):
            return plan, 'left'
        with self.app.backends.locking(), opened.relink.alone(), \
                locks.volumes(volume.id):
            # The plan may be out of date after the question: plan again.
            volume.refresh()
            agreed, plan = plan, self._plan(opened, volume, parsed_args)
            if not plan.steps:
                return plan, 'nothing to do'
            if _agreed_to(plan) != _agreed_to(agreed):
                raise exceptions.RelinkRefused(
                    'what is to be done has changed meanwhile; repeat the '
                    'command')
            opened.relink.carry_out(volume, plan)
        return plan, 'relinked'

    def _plan(self, opened: Any, volume: Any,
              parsed_args: argparse.Namespace) -> relink.Plan:
        with self.calling(exceptions.UnknownObject):
            return opened.relink.plan(
                volume, collect.EvidenceReader(opened).without_files(),
                vm=parsed_args.vm, disk=parsed_args.disk,
                accepted=parsed_args.accept)


def _agreed_to(plan: relink.Plan) -> tuple[object, ...]:
    """What the operator has seen of a plan, and what it means."""
    return (plan.target, plan.shown_by, plan.steps, plan.disk.place,
            plan.machine and plan.machine.moref)
