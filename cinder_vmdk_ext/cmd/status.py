# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext status`` and ``cinder-vmdk-ext metrics``."""

import argparse
import collections
from typing import Any

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext.monitoring import endpoint
from cinder_vmdk_ext.monitoring import figures

_OFF = ('vmdk_ext_status_port is 0 in its section, so the service serves no '
        'status')


class Status(command.Listing):
    """Show the state of a backend's running service.

    Asks cinder-volume on this machine, at vmdk_ext_status_port, and makes no
    call to the vCenter. Exits with 3 if the service does not answer, or if
    its vCenter does not.
    """

    COLUMNS = (
        columns.Column('backend', 'Backend'),
        columns.Column('state', 'State'),
        columns.Column('reason', 'Reason'),
        columns.Column('report_age_seconds', 'Last report', columns.duration),
        columns.Column('view_age_seconds', 'Age of the view',
                       columns.duration),
        columns.Column('session_active', 'Logged in', columns.truth),
        columns.Column('logins', 'Logins', long=True),
        columns.Column('pools', 'Pools'),
        columns.Column('pools_available', 'Available', long=True),
        columns.Column('tasks', 'Tasks', columns.listed),
        columns.Column('promised_bytes', 'Promised', columns.size),
        columns.Column('claimed_bytes', 'Claimed', columns.size, long=True),
        columns.Column('volumes_at_risk', 'At risk', long=True),
        columns.Column('locks', 'Locks', columns.listed),
        columns.Column('pid', 'Process', long=True),
        columns.Column('host', 'Host', long=True))

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Ask each service."""
        rows = []
        for name in self.names(parsed_args):
            found, why_not = _asked(self.app.backends.connection(name))
            if found is None:
                self.app.found = True
                rows.append((name, 'no answer', why_not,
                             *(None for _each in self.COLUMNS[3:])))
                continue
            self.app.found |= found['backend_state'] != 'up'
            rows.append(_row(name, found))
        return rows


def _row(name: str, found: figures.Figures) -> columns.Row:
    return (
        name, found['backend_state'], found['reason'],
        found['report_age_seconds'], found['view_age_seconds'],
        found['session_active'], found['logins'], len(found['pools']),
        sum(pool['available'] for pool in found['pools']),
        [f'{each["task"]} ({each["seconds"]:.0f} s)'
         for each in found['tasks_in_flight']],
        sum(each['size_bytes'] for each in found['promised']),
        sum(each['size_bytes'] for each in found['claimed']),
        found['volumes_at_risk'],
        [f'{each["name"]} ({each["seconds"]:.0f} s)'
         for each in found['locks']], found['pid'], found['host'])


class Metrics(command.OfBackends):
    """Print figures for Prometheus, as text.

    They are those of the running service, if it serves them at
    vmdk_ext_status_port. Otherwise the command reads the pools itself. With
    --audit, they include the number of findings of each kind. The output is
    for a file that Prometheus's node_exporter collects; Prometheus can also
    read the service's port itself.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--audit', action='store_true',
                            help='run an audit, which searches the '
                            'datastores, and count its findings')
        parser.add_argument('--output', metavar='FILE',
                            help='write to FILE, replaced in one step')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Collect and print."""
        with self.app.working():
            found = figures.text(list(self._collected(parsed_args)))
            if parsed_args.output:
                self.app.write(parsed_args.output, found)
        if not parsed_args.output:
            self.app.stdout.write(found)

    def _collected(self, parsed_args: argparse.Namespace
                   ) -> list[figures.Figures]:
        served = {name: _asked(self.app.backends.connection(name))[0]
                  for name in self.names(parsed_args)}
        if all(served.values()) and not parsed_args.audit:
            return [each for each in served.values() if each]
        many = []
        for name, opened in self.opened(parsed_args):
            each = served[name] or figures.of_report(
                name, opened.owner.host or '', opened.upstream.statistics())
            if parsed_args.audit:
                each = each | {'audit': _audited(opened)}
            many.append(each)
        return many


def _audited(opened: Any) -> dict[str, int]:
    counted = collections.Counter(each.kind for each in compare.compare(
        collect.EvidenceReader(opened).read()))
    return {kind: counted[kind] for kind in compare.KINDS}


def _asked(options: Any) -> tuple[figures.Figures | None, str]:
    """The figures that a backend's service serves; None, and why not."""
    port = options.vmdk_ext_status_port
    if not port:
        return None, _OFF
    try:
        return endpoint.ask(port), ''
    except (OSError, ValueError) as error:
        return None, (f'no service answers at {endpoint.ADDRESS}:{port}: '
                      f'{error}')
