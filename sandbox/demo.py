# SPDX-License-Identifier: Apache-2.0
"""Demonstrates how volumes are created, changed, deleted and checked.

Each line after a "$" is a command of the real clients, with its real,
unedited output. The checks at the end do not depend on the clients: they
compare Cinder's database with the objects that pyVmomi finds in the vCenter.
"""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from pathlib import Path
import shutil
import sys
import tempfile
import time
from typing import Protocol

import sqlalchemy

from sandbox import clients
from sandbox import cloud
from sandbox import configuration
from sandbox import inspection

# All have one size, so that the scheduler, which chooses the one with the most
# free space, spreads the volumes over all of them.
SIMULATOR_ARGUMENTS = ('-ds', '3', '-ds-capacity', '100GiB')

Progress = Callable[[str], None]


class Scene(Protocol):
    """A sandbox, of whatever kind."""

    @property
    def database_url(self) -> str:
        """Cinder's database, to be read with SQLAlchemy."""

    def announcing(self, announce: Callable[[str], None]
                   ) -> tuple[clients.Clients, clients.Clients]:
        """Clients of a user and of an administrator."""


def run(make: Callable[[Path, Progress], cloud.Sandbox]) -> int:
    """Run the whole demonstration.

    :param make: makes the sandbox in the given folder
    :returns: 0 when every check passed, else 1
    """
    began = time.monotonic()

    def progress(line: str) -> None:
        print('[%5.1f s] %s' % (time.monotonic() - began, line), flush=True)

    configuration.BUILD.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix='demo-', dir=configuration.BUILD))
    folder.rmdir()  # only the name was wanted; the sandbox makes its folder
    sandbox = make(folder, progress)
    passed = False
    try:
        with sandbox:
            progress('ready: Cinder (%s) at %s, vCenter at %s:%d'
                     % (sandbox.runtime, sandbox.cinder_url,
                        sandbox.vcenter.host, sandbox.vcenter.port))
            with inspection.Inspector(sandbox.vcenter) as inspector:
                passed = Demonstration(sandbox, inspector).run()
    finally:
        if passed:
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.exists():
            print('The logs are kept in %s' % (folder / 'log'))
    progress('all stopped; %s' % ('every check passed' if passed
                                  else 'NOT every check passed'))
    return 0 if passed else 1


@dataclasses.dataclass(frozen=True)
class Row:
    """The record of a volume in Cinder's database."""

    volume_id: str
    name: str
    host: str


class Demonstration:
    """One round through a volume's life by a user, with checks.

    Where a cloud has users, it is a member of a project; only the pools are
    an administrator's to see.
    """

    def __init__(self, scene: Scene,
                 inspector: inspection.Inspector) -> None:
        self._database = sqlalchemy.create_engine(
            scene.database_url, poolclass=sqlalchemy.pool.NullPool)
        self._inspector = inspector
        self._clients, self._admin = scene.announcing(
            lambda text: print(text, flush=True))
        self._machines_before = inspector.machines()
        self._files_before = inspector.files()

    def run(self) -> bool:
        """Returns whether every check passed."""
        _title('The pools, one per datastore, before there is any volume')
        self._admin.cinder('get-pools', '--detail')
        self._create()
        self._derive()
        self._change()
        _title('The volumes and the pools now')
        self._clients.openstack('volume', 'list', '--long')
        self._wait_for_fresh_pools()
        self._admin.cinder('get-pools', '--detail')
        placed = self.check_places()
        self._delete()
        return self.check_nothing_left() and placed

    # -- the round ---------------------------------------------------------

    def _create(self) -> None:
        _title('Three volumes, one of each disk type')
        for type_name, size_gib in (('thin', 1), ('thick', 2),
                                    ('eagerZeroedThick', 1)):
            name = 'demo-%s' % type_name
            self._clients.openstack('volume', 'create', '--type', type_name,
                                    '--size', str(size_gib), name,
                                    *_columns('id', 'status'))
            self._show_when_settled(name)

    def _derive(self) -> None:
        _title('A snapshot, a volume from it, and a clone')
        self._clients.openstack('volume', 'snapshot', 'create', '--volume',
                                'demo-thin', 'demo-snapshot',
                                *_columns('id', 'status'))
        self._clients.settled_snapshot(self._snapshot_id('demo-snapshot'))
        self._clients.openstack('volume', 'snapshot', 'list')
        self._clients.openstack('volume', 'create', '--snapshot',
                                'demo-snapshot', 'demo-from-snapshot',
                                *_columns('id', 'status'))
        self._show_when_settled('demo-from-snapshot')
        self._clients.openstack('volume', 'create', '--source', 'demo-thick',
                                'demo-clone', *_columns('id', 'status'))
        self._show_when_settled('demo-clone')

    def _change(self) -> None:
        _title('A larger disk, and another disk type')
        self._clients.openstack('volume', 'set', '--size', '3',
                                'demo-eagerZeroedThick')
        self._show_when_settled('demo-eagerZeroedThick')
        self._clients.openstack('volume', 'set', '--type', 'thin',
                                '--migration-policy', 'never', 'demo-clone')
        self._show_when_settled('demo-clone')

    def _delete(self) -> None:
        _title('All deleted')
        snapshot_id = self._snapshot_id('demo-snapshot')
        self._clients.openstack('volume', 'snapshot', 'delete',
                                'demo-snapshot')
        self._clients.wait_until_gone(
            self._clients.python.volume_snapshots, snapshot_id)
        rows = self._rows()
        self._clients.openstack('volume', 'delete',
                                *(row.name for row in rows))
        for row in rows:
            self._clients.wait_until_gone(self._clients.python.volumes,
                                          row.volume_id)
        self._clients.openstack('volume', 'list')

    # -- the checks --------------------------------------------------------

    def check_places(self) -> bool:
        """Show each volume's place; returns whether all are right."""
        _title("Cinder's database against the vCenter (by pyVmomi)")
        shadow_vms = self._inspector.shadow_vms()
        lines, passed = [], True
        for row in self._rows():
            machine = shadow_vms.get(row.volume_id)
            complaint = _complaint(row, machine)
            passed = passed and not complaint
            lines.append((row.name, row.host, _datastores(machine),
                          complaint or 'ok'))
        _table(('volume', 'host in the database', 'datastore in the vCenter',
                'check'), lines)
        return passed

    def check_nothing_left(self) -> bool:
        """Show what is left since this object was made; whether nothing."""
        _title('Nothing is left (by pyVmomi)')
        machines = sorted(
            machine.name for machine in self._inspector.machines()
            if machine.moref not in {before.moref for before
                                     in self._machines_before})
        files = sorted(self._inspector.files() - self._files_before)
        rows = [row.name for row in self._rows()]
        left = [('volumes in the database', rows),
                ('shadow VMs and templates', machines),
                ('files on the datastores', files)]
        _table(('what', 'left', 'check'),
               [(what, ', '.join(which) or 'none', 'LEFT' if which else 'ok')
                for what, which in left])
        return not any(which for _, which in left)

    def _rows(self) -> list[Row]:
        with self._database.connect() as database:
            return [Row(*values) for values in database.execute(
                sqlalchemy.text(
                    'SELECT id, display_name, host FROM volumes '
                    "WHERE deleted = 0 AND display_name LIKE 'demo-%' "
                    'ORDER BY created_at'))]

    # -- waiting -----------------------------------------------------------

    def _show_when_settled(self, name: str) -> None:
        volume = next(one for one in self._clients.python.volumes.list()
                      if one.name == name)
        self._clients.settled_volume(volume.id)
        self._clients.openstack(
            'volume', 'show', name,
            *_columns('status', 'size', 'type', 'os-vol-host-attr:host'))

    def _snapshot_id(self, name: str) -> str:
        found: str = next(one.id for one
                          in self._clients.python.volume_snapshots.list()
                          if one.name == name)
        return found

    def _wait_for_fresh_pools(self, timeout_seconds: float = 120.0) -> None:
        """Wait until the scheduler has a report that is younger than now."""
        pools = self._admin.python.pools
        before = {pool.name: pool.timestamp for pool
                  in pools.list(detailed=True)}
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if all(pool.timestamp != before.get(pool.name)
                   for pool in pools.list(detailed=True)):
                return
            time.sleep(0.5)


def _complaint(row: Row, machine: inspection.Machine | None) -> str:
    """The error in a volume's place; empty: it is right."""
    if machine is None:
        return 'NO SHADOW VM'
    if len(machine.disks) != 1:
        return '%d DISKS' % len(machine.disks)
    disk = machine.disks[0]
    if disk.datastore != row.host.partition('#')[2]:
        return 'ANOTHER DATASTORE'
    return ''


def _datastores(machine: inspection.Machine | None) -> str:
    return ', '.join(disk.datastore for disk in machine.disks) \
        if machine else '-'


def _columns(*names: str) -> Iterator[str]:
    for name in names:
        yield from ('-c', name)


def _title(text: str) -> None:
    print('\n== %s\n' % text, flush=True)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows])
              for column in range(len(head))]
    for row in [head, ['-' * width for width in widths], *rows]:
        print('  '.join(cell.ljust(width) for cell, width
                        in zip(row, widths)).rstrip())
    sys.stdout.flush()
