# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext vc snapshot``: snapshots of VMs."""

import argparse

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import vc_command
from cinder_vmdk_ext.vsphere import storage_api


class TreeVcSnapshot(vc_command.VcListing):
    """List a VM's snapshots, each below the one that it goes on from."""

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
    """Take a snapshot of a VM; one with a volume of Cinder is refused."""

    DONE = 'created'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = _named(super().get_parser(prog_name))
        parser.add_argument('name', metavar='NAME', help='of the snapshot')
        parser.add_argument('--description', default='', metavar='TEXT',
                            help='of the snapshot')
        parser.add_argument('--memory', action='store_true',
                            help='also of the memory of a VM that runs')
        parser.add_argument('--quiesce', action='store_true',
                            help='have VMware Tools still the file systems')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Take it."""
        return [(parsed_args.name, api.snapshots.create(
            parsed_args.vm, parsed_args.name, parsed_args.description,
            memory=parsed_args.memory, quiesce=parsed_args.quiesce))]


class _SnapshotChanging(vc_command.VcChanging):
    """Of one snapshot."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        return _named(super().get_parser(prog_name), snapshot=True)


class RenameVcSnapshot(_SnapshotChanging):
    """Give a snapshot another name, and another description."""

    DONE = 'renamed'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('new_name', metavar='NEW_NAME',
                            help='1 to 80 characters')
        parser.add_argument('--description', metavar='TEXT',
                            help='default: as it is')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Rename it."""
        return [(parsed_args.new_name, api.snapshots.rename(
            parsed_args.vm, parsed_args.snapshot, parsed_args.new_name,
            parsed_args.description))]


class DeleteVcSnapshot(_SnapshotChanging):
    """Delete a snapshot; its content goes into what was taken after it."""

    DONE = 'deleted'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--children', action='store_true',
                            help='with all that were taken after it')
        parser.add_argument('--no-consolidate', action='store_true',
                            help='leave the merging of files for later')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Delete it."""
        return [(parsed_args.snapshot, api.snapshots.delete(
            parsed_args.vm, parsed_args.snapshot,
            children=parsed_args.children,
            consolidate=not parsed_args.no_consolidate))]


class RevertVcSnapshot(_SnapshotChanging):
    """Have a VM as it was at a snapshot; one that runs is refused.

    What the VM is now is lost.
    """

    DONE = 'reverted to'

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Revert to it."""
        return [(parsed_args.snapshot, api.snapshots.revert(
            parsed_args.vm, parsed_args.snapshot))]


class ExportVcSnapshot(vc_command.VcListing):
    """Write a snapshot's disk to a file, streamOptimized.

    The file is whole, or it is not there. Nothing of the vCenter changes.
    """

    COLUMNS = (
        columns.Column('file', 'File'),
        columns.Column('size_bytes', 'Size', columns.size))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = _named(super().get_parser(prog_name), snapshot=True)
        parser.add_argument('file', metavar='FILE',
                            help='that does not exist yet')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Write it."""
        with self.api(parsed_args) as api:
            return [(parsed_args.file, api.snapshots.export(
                parsed_args.vm, parsed_args.snapshot, parsed_args.file,
                self._tell))]

    def _tell(self, count: int) -> None:
        if self.app.stderr.isatty():
            self.app.stderr.write(f'\r{columns.size(count)} \r')


def _named(parser: argparse.ArgumentParser, snapshot: bool = False
           ) -> argparse.ArgumentParser:
    parser.add_argument('vm', metavar='VM', help='its name or reference')
    if snapshot:
        parser.add_argument('snapshot', metavar='SNAPSHOT',
                            help='its name or reference')
    return parser
