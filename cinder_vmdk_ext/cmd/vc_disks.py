# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext vc disk``: virtual disks by their paths."""

import argparse

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext.cmd import vc_command
from cinder_vmdk_ext.vsphere import storage_api
from cinder_vmdk_ext.vsphere import virtual_disks


class ListVcDisk(vc_command.VcListing):
    """List the disks of a VM, or the disks on a datastore."""

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
        place.add_argument('--vm', metavar='NAME',
                           help='name or reference of the VM')
        place.add_argument('--datastore', metavar='NAME',
                           help='name or reference of the datastore')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read them."""
        with self.api(parsed_args) as api:
            found = (api.disks.of_vm(parsed_args.vm) if parsed_args.vm
                     else api.disks.of_datastore(parsed_args.datastore))
        return [tuple(each) for each in found]


class _DiskChanging(vc_command.VcChanging):
    """A command that changes one disk."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('path', metavar='PATH',
                            help='path of the disk, as "[datastore] '
                            'folder/name.vmdk"')
        return parser

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Change the disk.

        :returns: the disk's path after the change
        """
        raise NotImplementedError

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Change it."""
        return [(self.change(api, parsed_args), '')]


class CreateVcDisk(_DiskChanging):
    """Create an empty disk, and its folder if that is missing."""

    DONE = 'created'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--size', type=command.size, required=True,
                            metavar='SIZE', help='size, as 20GiB')
        return _laid_out(parser, 'thin')

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Make it."""
        return api.disks.create(
            parsed_args.path, parsed_args.size,
            provisioning=parsed_args.type, adapter=parsed_args.adapter)


class DeleteVcDisk(_DiskChanging):
    """Delete a disk with its files. Refused if a VM uses the disk."""

    DONE = 'deleted'

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Delete it."""
        return api.disks.delete(parsed_args.path)


class _ToAnotherPath(_DiskChanging):
    """A change whose result is a disk at another path."""

    TO = ''  # the help of the argument

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('to', metavar='TO', help=self.TO)
        return parser

    def subject(self, things: list[tuple[str, str]],
                parsed_args: argparse.Namespace) -> str:
        """The disk, by its path before the change."""
        return str(parsed_args.path)

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """Where the disk or its copy will be."""
        return f' to {parsed_args.to}'


class CopyVcDisk(_ToAnotherPath):
    """Copy a disk. Refused if a running VM uses the disk."""

    DONE = 'copied'
    TO = 'path of the copy'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        return _laid_out(super().get_parser(prog_name), None)

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Copy it."""
        return api.disks.copy(
            parsed_args.path, parsed_args.to, provisioning=parsed_args.type,
            adapter=parsed_args.adapter)


class MoveVcDisk(_ToAnotherPath):
    """Move or rename a disk. Refused if a VM uses the disk."""

    DONE = 'moved'
    TO = 'new path of the disk'

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Move it."""
        return api.disks.move(parsed_args.path, parsed_args.to)


class ExtendVcDisk(_DiskChanging):
    """Extend a disk. Refused if a VM uses the disk."""

    DONE = 'extended'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--size', type=command.size, required=True,
                            metavar='SIZE', help='new size, as 20GiB')
        parser.add_argument('--eager-zero', action='store_true',
                            help='write zeros to the added space')
        return parser

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Extend it."""
        return api.disks.extend(parsed_args.path, parsed_args.size,
                                eager_zero=parsed_args.eager_zero)

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The new size."""
        return f' to {columns.size(parsed_args.size)}'


class InflateVcDisk(_DiskChanging):
    """Allocate all space of a thin disk."""

    DONE = 'inflated'

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Inflate it."""
        return api.disks.inflate(parsed_args.path)


class EagerZeroVcDisk(_DiskChanging):
    """Write zeros to the unwritten blocks of a thick disk."""

    DONE = 'zeroed'

    def change(self, api: storage_api.StorageApi,
               parsed_args: argparse.Namespace) -> str:
        """Zero it."""
        return api.disks.eager_zero(parsed_args.path)


class ListVcDiskIo(vc_command.VcListing):
    """List shares, limits and reservations of a VM's disks.

    A limit of -1 is none. Limits and reservations are I/O operations a
    second.
    """

    COLUMNS = (
        columns.Column('path', 'Path'),
        columns.Column('level', 'Level'),
        columns.Column('shares', 'Shares'),
        columns.Column('limit_iops', 'Limit'),
        columns.Column('reservation_iops', 'Reservation'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('vm', metavar='VM',
                            help='name or reference of the VM')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read them."""
        with self.api(parsed_args) as api:
            return [tuple(each) for each in api.disks.io(parsed_args.vm)]


class SetVcDiskIo(vc_command.VcChanging):
    """Set shares, limit or reservation of a VM's disk.

    What is not named does not change. Refused if the VM has a volume of
    Cinder: QoS specs set those of volumes.
    """

    DONE = 'set'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('vm', metavar='VM',
                            help='name or reference of the VM')
        parser.add_argument('path', metavar='PATH',
                            help='path of the disk, as vc disk list --vm '
                            'shows it')
        parser.add_argument('--shares', type=_shares, metavar='SHARES',
                            help='low, normal, high, or a number from 200 to '
                            '4000')
        parser.add_argument('--limit', type=int, metavar='IOPS',
                            help='I/O operations a second, 16 or more; -1 '
                            'for no limit')
        parser.add_argument('--reservation', type=int, metavar='IOPS',
                            help='I/O operations a second')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Set them."""
        return [(api.disks.set_io(
            parsed_args.vm, parsed_args.path, shares=parsed_args.shares,
            limit=parsed_args.limit, reservation=parsed_args.reservation),
            '')]

    def subject(self, things: list[tuple[str, str]],
                parsed_args: argparse.Namespace) -> str:
        """The disk and its VM."""
        return f'I/O of {parsed_args.path} of VM {parsed_args.vm}'

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The values."""
        return ': ' + ', '.join(
            f'{name} {value}' for name in ('shares', 'limit', 'reservation')
            for value in [getattr(parsed_args, name)] if value is not None)


def _shares(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _laid_out(parser: argparse.ArgumentParser, provisioning: str | None
              ) -> argparse.ArgumentParser:
    parser.add_argument(
        '--type', choices=sorted(virtual_disks.TYPES), default=provisioning,
        help=f'disk type; default: {provisioning or "that of the disk"}')
    parser.add_argument(
        '--adapter', choices=sorted(virtual_disks.ADAPTERS),
        default='lsiLogic',
        help='adapter type of the disk; default: lsiLogic')
    return parser
