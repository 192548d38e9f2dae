# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext vc disk``: virtual disks, by their paths."""

import argparse

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext.cmd import vc_command
from cinder_vmdk_ext.vsphere import storage_api
from cinder_vmdk_ext.vsphere import virtual_disks


class ListVcDisk(vc_command.VcListing):
    """List the disks of a VM, or on a datastore."""

    COLUMNS = (
        columns.Column('path', 'Path'),
        columns.Column('size_bytes', 'Size', columns.size),
        columns.Column('provisioning', 'Type'),
        columns.Column('adapter', 'Adapter', telling=True),
        columns.Column('vms', 'Used by', columns.listed),
        columns.Column('parent', 'Parent', telling=True),
        columns.Column('uuid', 'UUID', long=True))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        place = parser.add_mutually_exclusive_group(required=True)
        place.add_argument('--vm', metavar='NAME', help='or its reference')
        place.add_argument('--datastore', metavar='NAME',
                           help='or its reference')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read them."""
        with self.api(parsed_args) as api:
            found = (api.disks.of_vm(parsed_args.vm) if parsed_args.vm
                     else api.disks.of_datastore(parsed_args.datastore))
        return [tuple(each) for each in found]


class _DiskChanging(vc_command.VcChanging):
    """Of one disk."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('path', metavar='PATH',
                            help='"[datastore] folder/name.vmdk"')
        return parser

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Change it.

        :returns: its path afterwards
        """
        raise NotImplementedError

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Change it."""
        return [(self.change(api, parsed_args), '')]


class CreateVcDisk(_DiskChanging):
    """Make an empty disk, and its folder where that is missing."""

    DONE = 'created'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--size', type=command.size, required=True,
                            metavar='SIZE', help='as 20GiB')
        return _laid_out(parser, 'thin')

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Make it."""
        return api.disks.create(
            parsed_args.path, parsed_args.size,
            provisioning=parsed_args.type, adapter=parsed_args.adapter)


class DeleteVcDisk(_DiskChanging):
    """Delete a disk with its files; one that a VM uses is refused."""

    DONE = 'deleted'

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Delete it."""
        return api.disks.delete(parsed_args.path)


class CopyVcDisk(_DiskChanging):
    """Copy a disk; one of a VM that runs is refused."""

    DONE = 'copied'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('to', metavar='TO', help='path of the copy')
        return _laid_out(parser, None)

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Copy it."""
        return api.disks.copy(
            parsed_args.path, parsed_args.to, provisioning=parsed_args.type,
            adapter=parsed_args.adapter)


class MoveVcDisk(_DiskChanging):
    """Move or rename a disk; one that a VM uses is refused."""

    DONE = 'moved'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('to', metavar='TO', help='its new path')
        return parser

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Move it."""
        return api.disks.move(parsed_args.path, parsed_args.to)


class ExtendVcDisk(_DiskChanging):
    """Make a disk larger; one that a VM uses is refused."""

    DONE = 'extended'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--size', type=command.size, required=True,
                            metavar='SIZE', help='afterwards, as 20GiB')
        parser.add_argument('--eager-zero', action='store_true',
                            help='write zeros to what is added')
        return parser

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Extend it."""
        return api.disks.extend(parsed_args.path, parsed_args.size,
                                eager_zero=parsed_args.eager_zero)


class InflateVcDisk(_DiskChanging):
    """Give a thin disk all its space."""

    DONE = 'inflated'

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Inflate it."""
        return api.disks.inflate(parsed_args.path)


class EagerZeroVcDisk(_DiskChanging):
    """Write zeros to what was never written of a thick disk."""

    DONE = 'zeroed'

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Zero it."""
        return api.disks.eager_zero(parsed_args.path)


def _laid_out(parser: argparse.ArgumentParser, provisioning: str | None
              ) -> argparse.ArgumentParser:
    parser.add_argument(
        '--type', choices=sorted(virtual_disks.TYPES), default=provisioning,
        help=f'default: {provisioning or "as the disk has it"}')
    parser.add_argument(
        '--adapter', choices=sorted(virtual_disks.ADAPTERS),
        default='lsiLogic', help='that it is for; default: lsiLogic')
    return parser
