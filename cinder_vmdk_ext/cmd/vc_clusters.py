# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext vc cluster``: clusters of hosts."""

import argparse

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import vc_command
from cinder_vmdk_ext.cmd import vc_datastores
from cinder_vmdk_ext.vsphere import storage_api

_COLUMNS = (
    columns.Column('name', 'Name'),
    columns.Column('reference', 'Reference'),
    columns.Column('datacenter', 'Datacenter'),
    columns.Column('hosts', 'Hosts', columns.listed),
    columns.Column('datastores', 'Datastores', columns.listed, long=True),
    columns.Column('drs', 'DRS', columns.truth),
    columns.Column('ha', 'HA', columns.truth))


class ListVcCluster(vc_command.VcListing):
    """List the clusters of hosts."""

    COLUMNS = _COLUMNS

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read them."""
        with self.api(parsed_args) as api:
            return [tuple(each) for each in api.clusters.all()]


class ShowVcCluster(vc_command.VcShowing):
    """Show a cluster of hosts."""

    COLUMNS = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        return _named(super().get_parser(prog_name))

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Read it."""
        with self.api(parsed_args) as api:
            return tuple(api.clusters.get(parsed_args.name))


class ListVcClusterDatastores(vc_command.VcListing):
    """List the datastores that the hosts of a cluster mount."""

    COLUMNS = vc_datastores.COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        return _named(super().get_parser(prog_name))

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read them."""
        with self.api(parsed_args) as api:
            return [vc_datastores.row(each) for each
                    in api.datastores.all(parsed_args.name)]


class CreateVcCluster(vc_command.VcChanging):
    """Create a cluster without hosts."""

    DONE = 'created'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = _named(super().get_parser(prog_name))
        parser.add_argument('--datacenter', metavar='NAME',
                            help='its datacenter; default: the only one')
        parser.add_argument('--drs', action='store_true',
                            help='switch on DRS, which balances its VMs')
        parser.add_argument('--ha', action='store_true',
                            help='switch on HA, which restarts VMs after a '
                            'host has failed')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Make it."""
        return [(parsed_args.name, api.clusters.create(
            parsed_args.name, parsed_args.datacenter, drs=parsed_args.drs,
            ha=parsed_args.ha))]


class DeleteVcCluster(vc_command.VcChanging):
    """Remove a cluster. Refused if it has hosts."""

    DONE = 'deleted'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        return _named(super().get_parser(prog_name))

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Remove it."""
        return [(parsed_args.name, api.clusters.delete(parsed_args.name))]


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument('name', metavar='NAME',
                        help='name or reference of the cluster')
    return parser
