# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext vc snapshot``: snapshots of VMs."""

import argparse

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import vc_command
from cinder_vmdk_ext.vsphere import storage_api


class TreeVcSnapshot(vc_command.VcListing):
    """List a VM's snapshots as a tree, each below its parent."""

    COLUMNS = (
        columns.Column('name', 'Name'),
        columns.Column('reference', 'Reference'),
        columns.Column('description', 'Description', telling=True),
        columns.Column('depth', 'Depth'),
        columns.Column('created_at', 'Created at'),
        columns.Column('current', 'Current', columns.truth))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        return _named(super().get_parser(prog_name))

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read them."""
        with self.api(parsed_args) as api:
            found = api.snapshots.tree(parsed_args.vm)
        indented = parsed_args.formatter == 'table'
        return [('  ' * (each.depth - 1) * indented + each.name, *each[1:])
                for each in found]


class CreateVcSnapshot(vc_command.VcChanging):
    """Take a snapshot of a VM. Refused if the VM has a volume of Cinder."""

    DONE = 'created'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = _named(super().get_parser(prog_name))
        parser.add_argument('name', metavar='NAME',
                            help='name of the snapshot')
        parser.add_argument('--description', default='', metavar='TEXT',
                            help='description of the snapshot')
        parser.add_argument('--memory', action='store_true',
                            help='include the memory of a running VM')
        parser.add_argument('--quiesce', action='store_true',
                            help='let VMware Tools quiesce the file systems')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Take it."""
        return [(parsed_args.name, api.snapshots.create(
            parsed_args.vm, parsed_args.name, parsed_args.description,
            memory=parsed_args.memory, quiesce=parsed_args.quiesce))]

    def subject(self, things: list[tuple[str, str]],
                parsed_args: argparse.Namespace) -> str:
        """The snapshot and its VM."""
        return f'snapshot {parsed_args.name} of VM {parsed_args.vm}'


class _SnapshotChanging(vc_command.VcChanging):
    """A command that changes one snapshot."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        return _named(super().get_parser(prog_name), snapshot=True)

    def subject(self, things: list[tuple[str, str]],
                parsed_args: argparse.Namespace) -> str:
        """The snapshot and its VM."""
        return f'snapshot {parsed_args.snapshot} of VM {parsed_args.vm}'


class RenameVcSnapshot(_SnapshotChanging):
    """Change the name and the description of a snapshot."""

    DONE = 'renamed'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('new_name', metavar='NEW_NAME',
                            help='the new name, 1 to 80 characters')
        parser.add_argument('--description', metavar='TEXT',
                            help='new description; default: unchanged')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Rename it."""
        return [(parsed_args.new_name, api.snapshots.rename(
            parsed_args.vm, parsed_args.snapshot, parsed_args.new_name,
            parsed_args.description))]

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The new name."""
        return f' to {parsed_args.new_name}'


class DeleteVcSnapshot(_SnapshotChanging):
    """Delete a snapshot. Later snapshots and the VM keep their content."""

    DONE = 'deleted'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--children', action='store_true',
                            help='also delete all snapshots below it in the '
                            'tree')
        parser.add_argument('--no-consolidate', action='store_true',
                            help='do not merge the files now')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Delete it."""
        return [(parsed_args.snapshot, api.snapshots.delete(
            parsed_args.vm, parsed_args.snapshot,
            children=parsed_args.children,
            consolidate=not parsed_args.no_consolidate))]

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The snapshots that are deleted with it."""
        if not parsed_args.children:
            return ''
        below: list[str] = []
        depth = 0  # of the snapshot, once it is found
        for each in api.snapshots.tree(parsed_args.vm):
            if each.reference == things[0][1]:
                depth = each.depth
            elif depth and each.depth <= depth:
                break
            elif depth:
                below.append(each.name)
        return (f', with all snapshots below it: {columns.listed(below)}'
                if below else ', which has no snapshots below it')


class RevertVcSnapshot(_SnapshotChanging):
    """Revert a VM to a snapshot. Refused if the VM is running.

    The VM's present state is lost.
    """

    DONE = 'reverted to'

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Revert to it."""
        return [(parsed_args.snapshot, api.snapshots.revert(
            parsed_args.vm, parsed_args.snapshot))]

    def subject(self, things: list[tuple[str, str]],
                parsed_args: argparse.Namespace) -> str:
        """The VM, whose state changes."""
        return f'VM {parsed_args.vm}'

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The snapshot."""
        return (f' the snapshot {parsed_args.snapshot}, and its present state '
                'will be lost')


class ExportVcSnapshot(vc_command.VcListing):
    """Export a snapshot's disk to a streamOptimized VMDK file.

    The file exists only if it is complete. Nothing in the vCenter changes.
    """

    COLUMNS = (
        columns.Column('file', 'File'),
        columns.Column('size_bytes', 'Size', columns.size))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = _named(super().get_parser(prog_name), snapshot=True)
        parser.add_argument('file', metavar='FILE',
                            help='path of the file, which must not exist')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Write it."""
        with self.api(parsed_args) as api:
            return [(parsed_args.file, api.snapshots.export(
                parsed_args.vm, parsed_args.snapshot, parsed_args.file,
                self._show_progress))]

    def _show_progress(self, count: int) -> None:
        if self.app.stderr.isatty():
            self.app.stderr.write(f'\r{columns.size(count)} \r')


def _named(parser: argparse.ArgumentParser, snapshot: bool = False
           ) -> argparse.ArgumentParser:
    parser.add_argument('vm', metavar='VM',
                        help='name or reference of the VM')
    if snapshot:
        parser.add_argument('snapshot', metavar='SNAPSHOT',
                            help='name or reference of the snapshot')
    return parser
