# SPDX-License-Identifier: Apache-2.0
"""Measures reports and placements on an inventory in memory, by its size.

No vCenter takes part, so any size can be measured within seconds: what is
measured is the work after the long poll's notices. Every datastore is mounted
by one cluster.
"""

import dataclasses
import gc
import itertools
import statistics
import time
import tracemalloc
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from cinder_vmdk_ext.backings import locator as backing_locator
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.inventory import reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import reporter
from cinder_vmdk_ext.scheduling import reservations
from cinder_vmdk_ext.vsphere import references

HOSTS_A_CLUSTER = 32
VOLUMES = 10000
REPEATS = 60
CLAIMS = 500


class World:
    """A vCenter's inventory and VMs, whose parts can be changed."""

    def __init__(self, datastores: int, hosts: int, machines: int) -> None:
        self._assembly = reader.Assembly()
        self._clusters = max(1, hosts // HOSTS_A_CLUSTER)
        self._fill(datastores, hosts)
        self.index = shadow.BackingIndex()
        self.index.update({
            f'vm-{number}': self._machine(number, datastores)
            for number in range(machines)})
        self.backings = shadow.Backings(index=self.index)
        self.inventory = self._assembly.inventory()
        self._assembly.changed = set()
        self.promises: tuple[model.Promise, ...] = ()

    def _fill(self, datastores: int, hosts: int) -> None:
        named: dict[int, frozenset[str]] = {
            cluster: frozenset(
                f'host-{number}' for number in range(hosts)
                if number % self._clusters == cluster)
            for cluster in range(self._clusters)}
        for cluster, members in named.items():
            moref = f'domain-c{cluster}'
            self._put('clusters', model.Cluster(
                moref, f'cluster-{cluster}', f'resgroup-{cluster}', members))
            for host in members:
                self._put('hosts', model.Host(host, host, moref))
        self._put('datacenters', model.Datacenter('datacenter-1', 'DC'))
        for number in range(datastores):
            members = named[number % self._clusters]
            self._put('datastores', model.Datastore(
                f'datastore-{number}', f'ds-{number}', f'ds:///{number}/',
                capacity_bytes=10 << 40, free_bytes=5 << 40,
                datacenter='datacenter-1', mounted_hosts=members,
                usable_hosts=members))

    def _put(self, field: str, value: Any) -> None:
        self._assembly._known[field][value.moref] = value
        self._assembly._note(field, value.moref)

    @staticmethod
    def _machine(number: int, datastores: int) -> shadow.Backing:
        volume = f'{number:032x}' if number < VOLUMES else ''
        return shadow.Backing(
            moref=f'vm-{number}', uuid=volume or f'{number:032x}',
            name=f'vm {number}', volume_id=volume,
            datastores=(f'datastore-{number % datastores}',),
            change_version=f'2026-11-29T00:00:00.{number:06}Z',
            folder=f'[ds-{number % datastores}] volume-{number:036}')

    def publish(self) -> None:
        """Make the next inventory, as the live view does after a notice."""
        found = self._assembly.inventory()
        found.follow(self.inventory, self._assembly.changed)
        self._assembly.changed = set()
        self.inventory = found

    # -- As the sources of a reporter ----------------------------------------

    def read(self) -> model.Inventory:
        return self.inventory

    def read_backings(self) -> shadow.Backings:
        if not self.backings.current:
            self.backings = shadow.Backings(index=self.index)
        return self.backings

    @staticmethod
    def backings_known() -> bool:
        return True

    # -- Changes --------------------------------------------------------------

    def change_datastore(self, number: int) -> None:
        moref = f'datastore-{number % len(self.inventory.datastores)}'
        known = self.inventory.datastores[moref]
        self._put('datastores', dataclasses.replace(
            known, free_bytes=known.free_bytes - 1000000000))
        self.publish()

    def rename_datastore(self, number: int) -> None:
        moref = f'datastore-{number % len(self.inventory.datastores)}'
        self._put('datastores', dataclasses.replace(
            self.inventory.datastores[moref], name=f'renamed-{number}'))
        self.publish()

    def add_datastore(self, number: int) -> None:
        number = len(self.inventory.datastores)
        self._put('datastores', dataclasses.replace(
            self.inventory.datastores['datastore-0'],
            moref=f'datastore-{number}', name=f'ds-{number}',
            url=f'ds:///{number}/'))
        self.publish()

    def remove_datastore(self, number: int) -> None:
        moref = f'datastore-{len(self.inventory.datastores) - 1}'
        self._assembly.drop(references.Ref('Datastore', moref))
        self.publish()

    def change_cluster(self, number: int) -> None:
        known = self.inventory.clusters['domain-c0']
        self._put('clusters', dataclasses.replace(
            known, name=f'cluster {number}'))
        self.publish()

    def change_host(self, number: int) -> None:
        known = self.inventory.hosts['host-1']
        self._put('hosts', dataclasses.replace(
            known, in_maintenance=bool(number % 2)))
        self.publish()

    def change_promise(self, number: int) -> None:
        number %= len(self.inventory.datastores)
        self.promises = (model.Promise(
            f'ds-{number}', 10, f'ds:///{number}/ datastore-{number}'),)

    def move_volume(self, number: int) -> None:
        vm = self.index.by_moref[f'vm-{number}']
        self.index.update({vm.moref: vm._replace(
            datastores=(f'datastore-{number % 7}',))})

    def change_machine(self, number: int) -> None:
        vm = self.index.by_moref[f'vm-{len(self.index.by_moref) - 1}']
        self.index.update({vm.moref: vm._replace(
            change_version=str(number))})

    def change_nothing(self, number: int) -> None:
        pass


def measure(datastores: int, hosts: int, machines: int
            ) -> Iterator[dict[str, Any]]:
    """Yield the CPU time of each kind of report, and of a placement."""
    world = World(datastores, hosts, machines)
    settings = model.Settings('vmdk')
    books = reservations.Reservations()
    reports = _reporter(world, settings, books)
    begun = time.process_time()
    reports.report()
    yield _result('memory: report, first', [time.process_time() - begun])
    for name, change in (
            ('nothing', world.change_nothing),
            ('a VM of another user', world.change_machine),
            ('a datastore', world.change_datastore),
            ("a volume's VM, moved", world.move_volume),
            ('promised space', world.change_promise),
            ('a host', world.change_host),
            ("a datastore's name", world.rename_datastore),
            ('a new datastore', world.add_datastore),
            ('a datastore is gone', world.remove_datastore),
            ('a cluster', world.change_cluster)):
        yield _result(f'memory: report, changed: {name}', _costs(
            change, reports.report))
    yield from _placements(world, settings, books)


def held(datastores: int, hosts: int) -> dict[str, Any]:
    """The memory of an inventory, of 10,000 volumes' VMs and of a report."""
    gc.collect()
    tracemalloc.start()
    world = World(datastores, hosts, VOLUMES)
    reports = _reporter(world, model.Settings('vmdk'),
                        reservations.Reservations())
    reports.report()
    gc.collect()
    held_bytes, _most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {'operation': f'memory: held with {VOLUMES} volumes',
            'bytes_held': held_bytes}


def _reporter(world: World, settings: model.Settings,
              books: reservations.Reservations) -> reporter.Reporter:
    located = backing_locator.Locator(
        world, world, settings)  # type: ignore[arg-type]
    return reporter.Reporter(
        world, settings, lambda: world.promises,
        volumes=located.volumes_by_datastore, expected=books.expected,
        everywhere=lambda: {'location_info': 'VmdkExtDriver:1'})


def _placements(world: World, settings: model.Settings,
                books: reservations.Reservations
                ) -> Iterator[dict[str, Any]]:
    """Choose the datastore of a create, while others are under way."""
    numbers = itertools.cycle(range(len(world.inventory.datastores)))

    def place() -> None:
        books.place(model.Requirement(
            1 << 30, thin=True, pinned=frozenset({
                f'datastore-{next(numbers)}'})), world.inventory, settings,
            min)
    yield _result('memory: placement', _costs(world.change_nothing, place))
    for _ in range(CLAIMS):
        place()
    yield _result(f'memory: placement, {CLAIMS} claims', _costs(
        world.change_nothing, place))


def _costs(change: Callable[[int], None],
           action: Callable[[], Any]) -> list[float]:
    found = []
    for number in range(REPEATS):
        change(number)
        begun = time.process_time()
        action()
        found.append(time.process_time() - begun)
    return found


def _result(name: str, costs: list[float]) -> dict[str, Any]:
    return {'operation': name, 'cpu_ms': statistics.median(costs) * 1000,
            'most_ms': max(costs) * 1000}
