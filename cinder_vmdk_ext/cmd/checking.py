# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext check``."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg

from cinder import exception

from cinder_vmdk_ext.audit import readiness
from cinder_vmdk_ext.audit import takeover
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import driver
from cinder_vmdk_ext import exceptions


class Check(command.Listing):
    """Check the vCenter's connection, the configuration and the volume types.

    For each backend: connection and login, the certificate's remaining days,
    the clock, privileges, hosts, storage policies, pools, the pools that take
    each volume type, and option names. For Cinder: the scheduler's filters,
    coordination, and datastores that several backends use. Changes nothing.
    With --takeover also what a switch from upstream's driver does to each
    volume; backends that still have that driver are then checked, too.
    Exits with 3 if a check ends in a warning or a failure.
    """

    COLUMNS = (
        columns.Column('backend', 'Backend', telling=True),
        columns.Column('check', 'Check'),
        columns.Column('result', 'Result'),
        columns.Column('detail', 'Detail'),
        columns.Column('volume', 'Volume', long=True),
        columns.Column('pool', 'Pool', long=True),
        columns.Column('changes', 'Changes', columns.listed, long=True))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--takeover', action='store_true', help="also show what a switch "
            "from upstream's driver to this one does to each volume")
        return parser

    def names(self, parsed_args: argparse.Namespace) -> list[str]:
        """The backends that are checked."""
        if not parsed_args.takeover:
            return super().names(parsed_args)
        with self.calling(exceptions.InvalidSettings, cfg.Error):
            self.app.backends.load(parsed_args.config_file)
            found: list[str] = self.app.backends.names(parsed_args.backend,
                                                       upstream=True)
            return found

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Run every check."""
        rows: list[columns.Row] = []
        datastores = {}
        shared = False
        for name in self.names(parsed_args):
            with contextlib.ExitStack() as stack:
                try:
                    opened = stack.enter_context(
                        self.app.backends.opened(name))
                except (exception.CinderException, cfg.Error,
                        *_VCENTER_ERRORS) as error:
                    rows.append(_row(name, readiness.Result(
                        'connection', readiness.FAILURE,
                        exceptions.first_line(error))))
                    continue
                rows += [_row(name, each) for each in _of(opened)]
                if parsed_args.takeover:
                    rows += [_volume_row(name, each) for each
                             in takeover.of_backend(opened)]
                datastores[name] = readiness.datastores(opened)
                shared = shared or bool(opened.owner.cluster_name)
        rows += [_row('', each) for each in readiness.of_cinder(shared)]
        rows += [_row('', each) for each in readiness.of_sections(datastores)]
        self.app.found = any(row[2] != readiness.SUCCESS for row in rows)
        return rows


_VCENTER_ERRORS = (exceptions.VMWARE_ERRORS, OSError)


def _row(backend: str, result: readiness.Result) -> columns.Row:
    return (backend, *result, '', '', [])


def _volume_row(backend: str, found: takeover.TakenOver) -> columns.Row:
    """A table has the volume and its pool in the detail."""
    detail = f'{found.volume}: ' + '; '.join(filter(None, (
        f'pool {found.pool}' if found.pool else 'no pool', found.detail)))
    return (backend, 'takeover', found.result, detail, found.volume,
            found.pool, found.changes)


def _of(opened: Any) -> Iterator[readiness.Result]:
    options = opened.upstream.configuration
    yield readiness.Result(
        'connection', readiness.SUCCESS,
        f'{options.vmware_host_ip} accepts the login of '
        f'{options.vmware_host_username}')
    yield from readiness.of_backend(
        opened, options.config_group,
        driver.VmdkExtDriver.get_driver_options())
