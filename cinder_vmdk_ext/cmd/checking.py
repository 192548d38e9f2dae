# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext check``."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg

from cinder import exception

from cinder_vmdk_ext.audit import readiness
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
    Exits with 3 if a check ends in a warning or a failure.
    """

    COLUMNS = (
        columns.Column('backend', 'Backend', telling=True),
        columns.Column('check', 'Check'),
        columns.Column('result', 'Result'),
        columns.Column('detail', 'Detail'))

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
                    rows.append((name, 'connection', readiness.FAILURE,
                                 str(error).partition('\n')[0]))
                    continue
                rows += [(name, *each) for each in _of(opened)]
                datastores[name] = readiness.datastores(opened)
                shared = shared or bool(opened.owner.cluster_name)
        rows += [('', *each) for each in readiness.of_cinder(shared)]
        rows += [('', *each) for each in readiness.of_sections(datastores)]
        self.app.found = any(row[2] != readiness.SUCCESS for row in rows)
        return rows


_VCENTER_ERRORS = (exceptions.VMWARE_ERRORS, OSError)


def _of(opened: Any) -> Iterator[readiness.Result]:
    options = opened.upstream.configuration
    yield readiness.Result(
        'connection', readiness.SUCCESS,
        f'{options.vmware_host_ip} accepts the login of '
        f'{options.vmware_host_username}')
    yield from readiness.of_backend(
        opened, options.config_group,
        driver.VmdkExtDriver.get_driver_options())
