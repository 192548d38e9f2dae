# SPDX-License-Identifier: Apache-2.0
"""Starts the simulators, and runs the operations of each driver."""

import contextlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from pyVmomi import vim

from benchmarks import in_memory
from benchmarks import many_volumes
from simulator import client
from simulator import control

DRIVERS = ('upstream', 'ours')
OPERATIONS = ('stats', 'select', 'create', 'delete', 'attach', 'snapshot',
              'template', 'clone', 'linked_clone', 'extend', 'retype',
              'retype_disk')
# Operations whose cost grows with the inventory; upstream's take minutes.
HOT = ('stats', 'select', 'create', 'delete')
WARM = ('attach', 'clone', 'linked_clone', 'extend', 'retype')
TIMEOUT_SECONDS = 900
START_SECONDS = 1200
CROWD = 500
# Of a start: volumes, and how many of them are attached.
VOLUMES, ATTACHED = 10000, 3000

Result = dict[str, Any]


class Size(NamedTuple):
    """The size of an inventory.

    With one cluster, its hosts mount every datastore. With several, each
    datastore is mounted by one cluster.
    """

    datastores: int
    hosts: int
    machines: int
    clusters: int = 1

    def __str__(self) -> str:
        return f'{self.datastores}x{self.hosts}x{self.machines}'


SMALL, MEDIUM, LARGE, HUGE = (
    Size(10, 8, 100), Size(100, 32, 1000), Size(500, 64, 5000),
    Size(1000, 128, 20000))
# Close to the most that a vCenter may have.
LARGEST = Size(1500, 2496, 45000, clusters=78)
# Changes per second: VMs of other users, datastores, shadow VMs.
CHURN = ({'machines': 20}, {'machines': 100}, {'datastores': 20},
         {'ours': 100})


@contextlib.contextmanager
def vcenter(size: Size, **flags: Any) -> Iterator[client.Simulator]:
    """A simulated vCenter of a size, with more flags of the simulator."""
    made = client.for_plugin(
        ds=size.datastores, cluster=size.clusters,
        host=size.hosts // size.clusters, standalone_host=0,
        vm=round(size.machines / size.clusters),
        ds_mount_all=size.clusters == 1, ds_mount_cluster=size.clusters > 1,
        ds_capacity='10TiB', autostart=False, **flags)
    try:
        made.start(timeout_s=START_SECONDS)
        yield made
    finally:
        made.stop()


class Site:
    """Runs both drivers on one simulated vCenter, one after the other."""

    def __init__(self, size: Size, started: client.Simulator) -> None:
        self.size = size
        self._vcenter = started
        self._control = control.Control(started.control_url)
        content = started.connect().content
        view = content.viewManager.CreateContainerView(
            content.rootFolder, [vim.VirtualMachine], True)
        self._instance = view.view[0]._moId
        view.Destroy()

    def compare(self, operations: tuple[str, ...], *, delay_ms: int = 0,
                task_ms: int = 0, drivers: tuple[str, ...] = DRIVERS,
                **more: Any) -> list[Result]:
        """Run operations of the drivers, one driver after the other.

        :param delay_ms: delay of every call, in milliseconds
        :param task_ms: least duration of every task, in milliseconds
        """
        found = []
        for driver in drivers:
            with self._slowed(delay_ms, task_ms):
                found += self._run({'driver': driver,
                                    'operations': operations, **more})
        conditions = {'size': str(self.size), 'delay_ms': delay_ms,
                      'task_ms': task_ms,
                      'runtime': more.get('runtime', 'native')}
        return [conditions | result for result in found]

    @contextlib.contextmanager
    def _slowed(self, delay_ms: int, task_ms: int) -> Iterator[None]:
        if task_ms:
            self._control.fault(method='.*_Task', delay_ms=delay_ms,
                                task_delay_ms=task_ms)
        if delay_ms:
            self._control.fault(method='.*', delay_ms=delay_ms)
        try:
            yield
        finally:
            self._control.reset_faults()

    def _run(self, plan: dict[str, Any]) -> list[Result]:
        where = {name: getattr(self._vcenter, name) for name in (
            'host', 'port', 'user', 'password', 'cacert', 'control_url')}
        plan = {'vcenter': where, 'instance': self._instance,
                'datastores': self.size.datastores} | plan
        with subprocess.Popen(
                [sys.executable, '-W', 'ignore', '-m', 'benchmarks.worker'],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True) as worker:
            try:
                out, errors = worker.communicate(
                    json.dumps(plan), timeout=plan.get(
                        'timeout_seconds', TIMEOUT_SECONDS))
            except subprocess.TimeoutExpired:
                worker.kill()
                out, errors = worker.communicate()
        if worker.returncode:
            # The results until then are still returned.
            print(f'{plan["driver"]} on {self.size} ended early:\n'
                  f'{errors[-2000:]}', file=sys.stderr)
        return [json.loads(line) for line in out.splitlines()
                if line.startswith('{')]


def quick() -> Iterator[Result]:
    """Counts of every operation, at the two smaller sizes, with no delay."""
    for size in (SMALL, MEDIUM):
        with vcenter(size) as started:
            site = Site(size, started)
            yield from site.compare(
                OPERATIONS + ('lose_session',) if size == SMALL else
                ('stats', 'select', 'create', 'delete'))
            if size == MEDIUM:
                yield from site.compare(('busy',), drivers=('ours',),
                                        churn=CHURN[:1])


def counts() -> list[Result]:
    """Results of our driver alone at the smallest size, for a test."""
    with vcenter(SMALL) as started:
        return Site(SMALL, started).compare(OPERATIONS, drivers=('ours',),
                                            patient=True)


def full() -> Iterator[Result]:
    """All sizes but the largest, with delays and loads: 25 minutes."""
    yield from memory()
    for size in (SMALL, MEDIUM, LARGE):
        with vcenter(size) as started:
            site = Site(size, started)
            yield from site.compare(OPERATIONS if size == SMALL else HOT)
            if size == SMALL:
                for delay_ms in (5, 20):
                    yield from site.compare(OPERATIONS, delay_ms=delay_ms,
                                            task_ms=500)
                yield from site.compare(('lose_session',))
                yield from site.compare(('load',))
            else:
                yield from site.compare(('stats', *WARM), drivers=('ours',))
            if size != SMALL:
                yield from site.compare(
                    ('busy',), drivers=('ours',),
                    churn=CHURN if size == LARGE else CHURN[:1])
            if size == LARGE:
                yield from site.compare(('load',), drivers=('ours',))
                yield from site.compare(('memory',), drivers=('ours',))
                yield from site.compare(('stall',), drivers=('ours',),
                                        runtime='eventlet')
            if size != MEDIUM:
                yield from _parallel(site)
    with vcenter(HUGE) as started:
        yield from Site(HUGE, started).compare(
            (*HOT, 'busy'), drivers=('ours',), churn=CHURN[:1])


def memory() -> Iterator[Result]:
    """Reports and placements without a vCenter, at any size."""
    for size in (SMALL, MEDIUM, LARGE, HUGE, LARGEST):
        for result in in_memory.measure(*size[:3]):
            yield _without_vcenter(size) | result


def _without_vcenter(size: Size) -> Result:
    return {'driver': 'ours', 'size': str(size), 'delay_ms': 0, 'task_ms': 0,
            'runtime': 'native'}


def large() -> Iterator[Result]:
    """The largest size, with our driver alone (``make bench-large``)."""
    with vcenter(LARGEST) as started:
        site = Site(LARGEST, started)
        yield from site.compare((*HOT, 'load', 'busy'), drivers=('ours',),
                                churn=CHURN)
        yield from site.compare(('memory',), drivers=('ours',))
        yield from site.compare(('stall',), drivers=('ours',),
                                runtime='eventlet')
        # All hosts mount the first datastore, which would be preferred.
        yield from site.compare(
            ('crowd',), drivers=('ours',), crowd=CROWD,
            datastores_named='LocalDS_[1-9].*')


def start(volumes: int = VOLUMES, attached: int = ATTACHED,
          prepared: pathlib.Path | None = None) -> Iterator[Result]:
    """A start with many volumes (``make bench-start``).

    :param prepared: a folder that keeps the simulated vCenter with its
        volumes, so that another run need not make them
    """
    yield _without_vcenter(LARGEST) | in_memory.held(*LARGEST[:2])
    size = started_with(volumes, attached)
    known = prepared and prepared / 'volumes.json'
    flags = {'state_load': prepared} if known and known.exists() else {}
    with vcenter(size, **flags) as started:
        if known and known.exists():
            made = json.loads(known.read_text())
        else:
            made = many_volumes.make(started, volumes, attached)
            if known:
                control.Control(started.control_url).save_state(prepared)
                known.write_text(json.dumps(made))
        site = Site(size, started)
        for driver, runtime in (('ours', 'eventlet'), ('ours', 'native'),
                                ('upstream', 'eventlet')):
            yield from site.compare((), drivers=(driver,), runtime=runtime,
                                    volumes=made)


def started_with(volumes: int, attached: int) -> Size:
    """The inventory of a start with so many volumes."""
    return Size(100, 32, many_volumes.machines(volumes, attached))


def _parallel(site: Site) -> Iterator[Result]:
    for runtime in ('native', 'eventlet'):
        for driver in DRIVERS:
            # Fifty creates by upstream's driver in a large inventory take ten
            # minutes.
            count = 50 if driver == 'ours' or site.size == SMALL else 4
            if count == 4 and runtime != 'native':
                continue  # both runtimes are bound by the CPU
            # Upstream's driver keeps nothing that would make a second create
            # faster.
            warm = ('select',) if driver == 'ours' else ()
            yield from site.compare(
                (*warm, 'parallel'), delay_ms=5, task_ms=500,
                drivers=(driver,), parallel=count, runtime=runtime)
