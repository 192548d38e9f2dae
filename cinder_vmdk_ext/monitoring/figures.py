# SPDX-License-Identifier: Apache-2.0
"""Collects the figures of a backend, as values and as text for Prometheus.

The values come from memory: reading them makes no call and no query, and holds
a lock only as long as a copy takes.
"""

import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from oslo_utils import units
import prometheus_client
from prometheus_client import core
from prometheus_client import exposition

from cinder_vmdk_ext import locks

Figures = dict[str, Any]
#: The type of content of :func:`text`.
CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST
_PREFIX = 'cinder_vmdk_'
# Figures of a pool's report in GiB, and their names here in bytes.
_SPACE = {'total_capacity_gb': 'capacity', 'free_capacity_gb': 'free',
          'provisioned_capacity_gb': 'provisioned',
          'datastore_free_gb': 'datastore_free'}
_HELP = {
    'up': 'Whether the vCenter answers.',
    'report_age_seconds': 'Seconds since the vCenter confirmed the last '
                          'report to the scheduler.',
    'view_age_seconds': 'Seconds since the vCenter confirmed the inventory '
                        'in memory.',
    'session_active': 'Whether there is a session with the vCenter.',
    'logins': 'Logins to the vCenter.',
    'tasks_in_flight': 'Tasks of the vCenter that operations wait for.',
    'locks_held': 'Locks that the process holds.',
    'volumes_at_risk': 'Attached volumes whose disk lies in the folder of '
                       'an instance.',
    'task_seconds': 'Ended tasks, and the seconds that operations waited.',
    'claimed_bytes': 'Space that operations have claimed, which the vCenter '
                     'does not show yet.',
    'promised_bytes': 'Space promised to volumes that have no disk yet.',
    'promised_volumes': 'Volumes that have no disk yet.',
    'pool_available': 'Whether the pool takes new volumes.',
    'pool_volumes': 'Volumes on the pool.',
    'pool_capacity_bytes': 'Capacity, as reported to the scheduler.',
    'pool_free_bytes': 'Free space, as reported to the scheduler.',
    'pool_provisioned_bytes': 'Provisioned space, as reported to the '
                              'scheduler.',
    'pool_datastore_free_bytes': 'Free space of the datastore itself.',
    'audit_findings': 'Findings of the last audit, by kind.',
}


def of_driver(reference: Any) -> Figures | None:
    """The figures of a driver, or None if the driver has ended.

    :param reference: a weak reference to it
    """
    driver = reference()
    return None if driver is None else of(driver.backend)


def of(backend: Any) -> Figures:
    """The figures of a Backend."""
    session = backend.upstream.session_if_any
    waiter = getattr(session, 'task_waiter', None)
    last = backend.reporter.latest() if backend.reporter else None
    report: Mapping[str, Any] = last[0] if last else {}
    age_seconds = last[1] if last else None
    inventory = backend.reporter and backend.reporter.inventory()
    return {
        'backend': backend.upstream.configuration.config_group,
        'host': backend.owner.host, 'pid': os.getpid(),
        **_states(report, age_seconds),
        'session_active': getattr(session, 'cookie', None) is not None,
        'logins': getattr(session, 'logins', 0),
        'view_age_seconds': (backend.view.age_seconds()
                             if backend.view else None),
        'tasks_in_flight': [
            {'task': task, 'seconds': seconds} for task, seconds
            in (waiter.in_flight() if waiter else ())],
        'tasks': [{'kind': kind, 'result': result, 'count': ended.number,
                   'seconds': ended.seconds} for (kind, result), ended
                  in sorted((waiter.ended() if waiter else {}).items())],
        'locks': [{'name': name, 'seconds': seconds}
                  for name, seconds in locks.held()],
        'claimed': [
            {'datastore': _named(moref, inventory), 'size_bytes': size}
            for moref, size
            in sorted(backend.reservations.by_datastore().items())],
        'promised': [
            {'pool': each.pool, 'size_bytes': each.size_gib * units.Gi,
             'volumes': each.volumes}
            for each in backend.promised.latest() if each.own],
        'volumes_at_risk': len(backend.reconciler.at_risk),
        'pools': list(map(_pool, report.get('pools', ()))),
    }


def _states(report: Mapping[str, Any],
            age_seconds: float | None) -> Figures:
    return {'report_age_seconds': age_seconds,
            'backend_state': report.get('backend_state', 'unknown'),
            'reason': report.get('backend_state_reason', '')}


def of_report(backend: str, host: str, report: Mapping[str, Any]) -> Figures:
    """The figures of a report alone, as the driver makes it."""
    age_seconds = report.get('stats_age_seconds', 0)
    return {'backend': backend, 'host': host,
            **_states(report, age_seconds if age_seconds >= 0 else None),
            'pools': list(map(_pool, report.get('pools', ())))}


def _named(moref: str, inventory: Any) -> str:
    known = inventory.datastores.get(moref) if inventory else None
    return known.plain_name if known else moref


def _pool(report: Mapping[str, Any]) -> Figures:
    return {'name': report.get('pool_name', ''),
            'available': report.get('pool_state') == 'available',
            'reason': report.get('pool_state_reason', ''),
            'volumes': report.get('total_volumes'),
            **{f'{name}_bytes': int(report[key] * units.Gi)
               for key, name in _SPACE.items()
               if isinstance(report.get(key), (int, float))}}


def text(many: Iterable[Figures]) -> str:
    """The figures of backends as text for Prometheus."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(_Collector(list(many)))
    made: bytes = prometheus_client.generate_latest(registry)
    return made.decode('utf-8')


class _Collector:
    """Passes the current figures to prometheus_client."""

    def __init__(self, many: list[Figures]) -> None:
        self._many = many

    def describe(self) -> list[Any]:
        """No descriptions: families exist only when they are collected."""
        return []

    def collect(self) -> Iterator[Any]:
        """The families of samples."""
        families: dict[str, Any] = {}
        for each in self._many:
            for name, labels, value in _samples(each):
                if name not in families:
                    kind = (core.CounterMetricFamily if name == 'logins'
                            else core.GaugeMetricFamily)
                    families[name] = kind(_PREFIX + name, _HELP[name],
                                          labels=['backend', *labels])
                families[name].add_metric(
                    [each['backend'], *labels.values()], value)
        yield from families.values()
        ended = core.SummaryMetricFamily(
            f'{_PREFIX}task_seconds', _HELP['task_seconds'],
            labels=['backend', 'kind', 'result'])
        for each in self._many:
            for task in each.get('tasks', ()):
                ended.add_metric(
                    [each['backend'], task['kind'], task['result']],
                    task['count'], task['seconds'])
        yield ended


def _samples(figures: Figures
             ) -> Iterator[tuple[str, dict[str, str], float]]:
    """Names, labels other than the backend, and values."""
    yield 'up', {}, figures['backend_state'] == 'up'
    for name in ('report_age_seconds', 'view_age_seconds', 'session_active',
                 'logins', 'volumes_at_risk'):
        if figures.get(name) is not None:
            yield name, {}, float(figures[name])
    for name, key in (('tasks_in_flight', 'tasks_in_flight'),
                      ('locks_held', 'locks')):
        if key in figures:
            yield name, {}, len(figures[key])
    for each in figures.get('claimed', ()):
        yield ('claimed_bytes', {'datastore': each['datastore']},
               each['size_bytes'])
    for pool, size_bytes, count in _promised(figures):
        yield 'promised_bytes', {'pool': pool}, size_bytes
        yield 'promised_volumes', {'pool': pool}, count
    for each in figures['pools']:
        labels = {'pool': each['name']}
        yield 'pool_available', labels, each['available']
        for key in ('volumes', *(f'{name}_bytes'
                                 for name in _SPACE.values())):
            if each.get(key) is not None:
                yield f'pool_{key}', labels, each[key]
    for kind, count in figures.get('audit', {}).items():
        yield 'audit_findings', {'kind': kind}, count


def _promised(figures: Figures) -> Iterator[tuple[str, int, int]]:
    """Pools, bytes and numbers of volumes; a pool may have several places."""
    sums: dict[str, tuple[int, int]] = {}
    for each in figures.get('promised', ()):
        size_bytes, count = sums.get(each['pool'], (0, 0))
        sums[each['pool']] = (size_bytes + each['size_bytes'],
                              count + each['volumes'])
    for pool, (size_bytes, count) in sums.items():
        yield pool, size_bytes, count
