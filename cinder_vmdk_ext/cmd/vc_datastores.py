# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext vc datastore`` and ``vc host``."""

import argparse
import functools

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import vc_command
from cinder_vmdk_ext.vsphere import datastores
from cinder_vmdk_ext.vsphere import storage_api


def _count(values: list[str]) -> str:
    return str(len(values))


COLUMNS = (
    columns.Column('name', 'Name'),
    columns.Column('reference', 'Reference', long=True),
    columns.Column('type', 'Type'),
    columns.Column('datacenter', 'Datacenter', telling=True),
    columns.Column('capacity_bytes', 'Capacity', columns.size),
    columns.Column('free_bytes', 'Free', columns.size),
    columns.Column('uncommitted_bytes', 'Uncommitted', columns.size,
                   long=True),
    columns.Column('accessible', 'Accessible', columns.truth),
    columns.Column('maintenance', 'Maintenance', telling=True),
    columns.Column('url', 'URL', long=True),
    columns.Column('cluster', 'Datastore cluster', telling=True),
    columns.Column('hosts', 'Hosts', _count),
    columns.Column('vms', 'VMs', _count))
_SHOWN = (*COLUMNS[:-2],
          columns.Column('hosts', 'Hosts', columns.listed),
          columns.Column('vms', 'VMs', columns.listed))
_MOUNTS = (
    columns.Column('host', 'Host'),
    columns.Column('mounted', 'Mounted', columns.truth),
    columns.Column('accessible', 'Accessible', columns.truth),
    columns.Column('access_mode', 'Access'))


def row(found: datastores.DatastoreFacts) -> columns.Row:
    """The values of :data:`COLUMNS`."""
    return (*found[:-2], [each.host for each in found.mounts], found.vms)


def _named(parser: argparse.ArgumentParser, new: bool = False
           ) -> argparse.ArgumentParser:
    parser.add_argument(
        'name', metavar='NAME', help='name of the datastore'
        if new else 'name or reference of the datastore')
    return parser


class ListVcDatastore(vc_command.VcListing):
    """List the datastores, with their hosts and VMs."""

    COLUMNS = COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--cluster', metavar='NAME',
                            help='only those that the hosts of this cluster '
                            'mount')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read them."""
        with self.api(parsed_args) as api:
            return [row(each) for each
                    in api.datastores.all(parsed_args.cluster)]


class _ShowOne(vc_command.VcShowing):
    """A command that shows one datastore, with all columns."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        return _named(super().get_parser(prog_name))


class ShowVcDatastore(_ShowOne):
    """Show a datastore: space, state, hosts and VMs."""

    COLUMNS = _SHOWN

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Read it."""
        with self.api(parsed_args) as api:
            return row(api.datastores.get(parsed_args.name))


class _DatastoreChanging(vc_command.VcChanging):
    """A command that changes one datastore."""

    NEW = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        return _named(super().get_parser(prog_name), self.NEW)


class CreateVcNfs(_DatastoreChanging):
    """Mount an NFS 3 export on hosts, as a datastore.

    Hosts that mount it already are not changed, so that a command that failed
    halfway can be repeated.
    """

    DONE = 'mounted'
    NEW = True
    VERSION = '3'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        several = self.VERSION != '3'
        parser.add_argument(
            '--server', action='append', required=True, metavar='ADDRESS',
            help='address of the NFS server' + (
                '; may be repeated, for several addresses of one server'
                if several else ''))
        parser.add_argument('--path', required=True, metavar='PATH',
                            help='path of the export on the server')
        parser.add_argument('--host', action='append', default=[],
                            metavar='NAME', help='host that mounts the '
                            'export; may be repeated')
        parser.add_argument('--cluster', metavar='NAME',
                            help='cluster whose hosts all mount the export')
        parser.add_argument('--read-only', action='store_true',
                            help='mount the export read-only')
        parser.set_defaults(security=None)
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Mount it."""
        done = api.datastores.create_nfs(
            parsed_args.name, parsed_args.server, parsed_args.path,
            parsed_args.host, parsed_args.cluster, version=self.VERSION,
            read_only=parsed_args.read_only, security=parsed_args.security)
        return [(f'{parsed_args.name} on {host}', '') for host in done]

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The export."""
        servers = columns.listed(parsed_args.server)
        return (f' from {servers}:{parsed_args.path}'
                + (', read-only' if parsed_args.read_only else ''))


class CreateVcNfs41(CreateVcNfs):
    """Mount an NFS 4.1 export on hosts, as a datastore.

    Hosts that mount it already are not changed, so that a command that failed
    halfway can be repeated.
    """

    VERSION = '4.1'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--security', choices=('AUTH_SYS', 'SEC_KRB5', 'SEC_KRB5I'),
            default='AUTH_SYS', help='security type; default: AUTH_SYS')
        return parser


class CreateVcVmfs(_DatastoreChanging):
    """Format an unused disk of a host with VMFS, as a datastore."""

    DONE = 'created'
    NEW = True

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--host', required=True, metavar='NAME',
                            help='host that sees the disk')
        parser.add_argument('--device', required=True, metavar='NAME',
                            help="the disk's canonical name (naa....) or "
                            'device path')
        parser.add_argument('--vmfs-version', type=int, choices=(5, 6),
                            help='default: the newest')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Format it."""
        return [(parsed_args.name, api.datastores.create_vmfs(
            parsed_args.name, parsed_args.host, parsed_args.device,
            parsed_args.vmfs_version))]

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The disk that is formatted."""
        return (f' on the disk {parsed_args.device} of host '
                f'{parsed_args.host}, which will be formatted')


class CreateVcLocal(_DatastoreChanging):
    """Create a datastore from a folder on a host."""

    DONE = 'created'
    NEW = True

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--host', required=True, metavar='NAME',
                            help='host that has the folder')
        parser.add_argument('--path', required=True, metavar='PATH',
                            help='path of the folder on the host')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Make it."""
        return [(parsed_args.name, api.datastores.create_local(
            parsed_args.name, parsed_args.host, parsed_args.path))]

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The folder."""
        return f' from {parsed_args.path} on host {parsed_args.host}'


class RenameVcDatastore(_DatastoreChanging):
    """Rename a datastore.

    Refused if it holds volumes of Cinder, because their records contain its
    name.
    """

    DONE = 'renamed'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('new_name', metavar='NEW_NAME',
                            help='the new name, 1 to 42 characters')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Rename it."""
        return [(parsed_args.new_name, api.datastores.rename(
            parsed_args.name, parsed_args.new_name))]

    def subject(self, things: list[tuple[str, str]],
                parsed_args: argparse.Namespace) -> str:
        """The datastore, by its name before the change."""
        return f'datastore {parsed_args.name}'

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The new name."""
        return f' to {parsed_args.new_name}'


class DeleteVcDatastore(_DatastoreChanging):
    """Unmount an NFS export from all hosts, or destroy a VMFS datastore.

    Refused while VMs are registered on it, and for a VMFS datastore also
    while it holds a file of a disk.
    """

    DONE = 'deleted'

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Delete it."""
        return [(parsed_args.name,
                 api.datastores.delete(parsed_args.name))]


class BrowseVcDatastore(vc_command.VcListing):
    """List files and folders on a datastore."""

    COLUMNS = (
        columns.Column('path', 'Path'),
        columns.Column('kind', 'Kind'),
        columns.Column('size_bytes', 'Size', columns.size),
        columns.Column('modified_at', 'Modified at'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = _named(super().get_parser(prog_name))
        parser.add_argument('folder', metavar='FOLDER', nargs='?',
                            default='', help='default: the top folder')
        parser.add_argument('--recursive', action='store_true',
                            help='with subfolders')
        parser.add_argument('--pattern', default='*', metavar='PATTERN',
                            help='pattern of names, as *.vmdk; default: all')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Search it."""
        with self.api(parsed_args) as api, self.calling(
                vmware_exceptions.FileNotFoundException):
            return [(each.path, each.kind, each.size_bytes,
                     each.modified_at and each.modified_at.isoformat())
                    for each in api.datastores.browse(
                        parsed_args.name, parsed_args.folder,
                        parsed_args.pattern, parsed_args.recursive)]


class RefreshVcDatastore(_ShowOne):
    """Refresh the vCenter's data about a datastore's space, and show it."""

    COLUMNS = _SHOWN

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Refresh it."""
        with self.api(parsed_args) as api:
            return row(api.datastores.refresh(parsed_args.name))


class EnterVcMaintenance(_DatastoreChanging):
    """Put a datastore into maintenance mode. Refused while it has VMs."""

    DONE = 'put into maintenance mode'

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Enter maintenance mode."""
        return [(parsed_args.name,
                 api.datastores.enter_maintenance(parsed_args.name))]


class ExitVcMaintenance(_DatastoreChanging):
    """Take a datastore out of maintenance mode."""

    DONE = 'taken out of maintenance mode'

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Leave maintenance mode."""
        return [(parsed_args.name,
                 api.datastores.exit_maintenance(parsed_args.name))]


class ReachVcDatastore(vc_command.VcListing):
    """Show for each host of a cluster whether it can write to a datastore.

    Exits with 3 if one of them cannot.
    """

    COLUMNS = (*_MOUNTS, columns.Column('usable', 'Usable', columns.truth))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = _named(super().get_parser(prog_name))
        parser.add_argument('cluster', metavar='CLUSTER',
                            help='name or reference of the cluster')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read how the hosts of the cluster mount it."""
        with self.api(parsed_args) as api:
            found = api.datastores.reach(parsed_args.name,
                                         parsed_args.cluster)
        self.app.found = not found or not all(each.usable for each in found)
        return [(*each, each.usable) for each in found]


class ShowVcIo(_ShowOne):
    """Show Storage I/O Control of a datastore."""

    COLUMNS = (
        columns.Column('enabled', 'Enabled', columns.truth),
        columns.Column('mode', 'Threshold'),
        columns.Column('percent', '% of peak throughput'),
        columns.Column('threshold_ms', 'Latency (ms)'),
        columns.Column('statistics', 'Statistics', columns.truth))

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Read it."""
        with self.api(parsed_args) as api:
            return tuple(api.datastores.io(parsed_args.name))


class SetVcIo(_DatastoreChanging):
    """Set Storage I/O Control of a datastore. Other settings do not change."""

    DONE = 'set'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        either = functools.partial(parser.add_argument,
                                   action='store_const', dest='enabled')
        either('--enable', const=True, help='switch it on')
        either('--disable', const=False, help='switch it off')
        parser.add_argument('--automatic', type=int, metavar='PERCENT',
                            help='threshold as a percentage of the peak '
                            'throughput: 50 to 100')
        parser.add_argument('--manual', type=int, metavar='MS',
                            help='threshold as a latency in milliseconds: 5 '
                            'to 100')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Set it."""
        return [(parsed_args.name, api.datastores.set_io(
            parsed_args.name, enabled=parsed_args.enabled,
            percent=parsed_args.automatic,
            threshold_ms=parsed_args.manual))]

    def subject(self, things: list[tuple[str, str]],
                parsed_args: argparse.Namespace) -> str:
        """The datastore."""
        return f'Storage I/O Control of datastore {parsed_args.name}'

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """The settings."""
        return ': ' + ', '.join(
            each for each, given in (
                ('enabled', parsed_args.enabled),
                ('disabled', parsed_args.enabled is False),
                (f'threshold {parsed_args.automatic} % of the peak '
                 'throughput', parsed_args.automatic is not None),
                (f'threshold {parsed_args.manual} ms',
                 parsed_args.manual is not None)) if given)


class RescanVcHost(vc_command.VcChanging):
    """Rescan hosts for disks and VMFS volumes."""

    DONE = 'rescanned'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', nargs='*',
                            help='name or reference of a host')
        parser.add_argument('--cluster', metavar='NAME',
                            help='all hosts of this cluster')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Rescan them."""
        return [(each.host, each.reference) for each in api.datastores.rescan(
            parsed_args.name, parsed_args.cluster)]
