# SPDX-License-Identifier: Apache-2.0
"""A report is never an error, and never an empty list."""

import dataclasses
import gc
import logging
import re
import sys
import threading
import unittest
from typing import Any
from unittest import mock

import hypothesis
from hypothesis import strategies

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.scheduling import reporter as scheduling_reporter
from cinder_vmdk_ext.tests.unit import scheduler
from cinder_vmdk_ext.tests.unit import worlds

NO_ANSWER = vmware_exceptions.VimConnectionException(
    'RetrievePropertiesEx: no reply\nand more that is not for a list')


def _object(field, moref, **values):
    """A change of an object that is no datastore.

    :param values: what of it; nothing of it: it goes, or it returns
    """
    return field, moref, values


def _moved(moref, to, members):
    """A host is in another cluster."""
    return (_object('hosts', moref, parent=to), *[
        _object('clusters', cluster, hosts=frozenset(hosts))
        for cluster, hosts in members.items()])


_POD_1 = frozenset({'datastore-1', 'datastore-2'})
_OF_A_HOST: list[dict[str, Any]] = [
    {'connection_state': 'disconnected'}, {'connection_state': 'connected'},
    {}]
_OF_A_CLUSTER: list[dict[str, Any]] = [
    {'hosts': frozenset()}, {'hosts': frozenset({'host-1', 'host-2'})},
    {'name': 'c1'}, {'name': 'c2'}, {'standalone': True},
    {'standalone': False}, {'resource_pool': ''},
    {'resource_pool': 'resgroup-1'}, {},
    {'unreadable': (('host', 'cannot be read: denied'),)},
    {'unreadable': ()}]
_OF_A_POD: list[dict[str, Any]] = [
    {'name': 'pod'}, {'name': 'ds-1'}, {'name': 'pod#'}, {'name': 'pod%23'},
    {'automation': 'manual'}, {'automation': 'automated'}, {},
    {'datastores': frozenset()}, {'datastores': frozenset({'datastore-0'})},
    {'datastores': frozenset({'datastore-1'})}, {'datastores': _POD_1},
    {'datastores': _POD_1 | {'datastore-3', 'datastore-5'}}]
# What changes besides a datastore, at once.
OTHERS: Any = [
    'tagged', 'compliant', 'valued', 'attribute',
    *[[_object('hosts', moref, **values)] for moref in ('host-1', 'host-2')
      for values in _OF_A_HOST],
    _moved('host-1', 'cluster-2', {'cluster-1': (),
                                   'cluster-2': ('host-1', 'host-2')}),
    _moved('host-2', 'cluster-1', {'cluster-1': ('host-1', 'host-2'),
                                   'cluster-2': ()}),
    _moved('host-1', 'cluster-1', {'cluster-1': ('host-1',),
                                   'cluster-2': ('host-2',)}),
    # The vCenter may report the parts one after another.
    _moved('host-2', 'cluster-1', {}), _moved('host-2', 'cluster-2', {}),
    *[[_object('clusters', moref, **values)]
      for moref in ('cluster-1', 'cluster-2') for values in _OF_A_CLUSTER],
    *[[_object('storage_pods', moref, **values)]
      for moref in ('group-p1', 'group-p2') for values in _OF_A_POD],
    # From one datastore cluster to the other.
    [_object('storage_pods', 'group-p1', datastores=_POD_1 - {'datastore-1'}),
     _object('storage_pods', 'group-p2',
             datastores=frozenset({'datastore-1', 'datastore-4'}))],
    [_object('storage_pods', 'group-p1', datastores=_POD_1),
     _object('storage_pods', 'group-p2',
             datastores=frozenset({'datastore-4'}))],
    [_object('datacenters', 'datacenter-1', name='DC2')],
    [_object('datacenters', 'datacenter-1', name='DC1')]]
# Which of six datastores changes, what of it, how many volumes it has then
# and how much is promised on another. Nothing of it: it goes, or it returns.
CHANGES: Any = strategies.tuples(
    strategies.sampled_from([f'datastore-{number}' for number in range(6)]),
    strategies.sampled_from([
        {'free_bytes': 1 << 31}, {'free_bytes': 1 << 35}, {'free_bytes': 0},
        {'accessible': False}, {'accessible': True},
        {'maintenance_mode': 'inMaintenance'},
        {'maintenance_mode': 'normal'}, {'name': 'another'},
        {'name': 'ds-1'}, {'name': 'ds-1 (DC1)'}, {'name': 'no pool'},
        {'name': 'pod'}, {'datacenter': 'datacenter-2'}, {}, {},
        {'capacity_bytes': 1 << 40}, {'capacity_bytes': 100 << 30},
        {'url': 'ds:///nfs/'}, {'url': 'ds:///of-its-own/'},
        {'type': 'tape'}, {'type': 'vmfs'},
        {'mounted_hosts': frozenset()}]),
    strategies.integers(0, 6), strategies.sampled_from([None, None, (), (
        model.Promise('ds-3', 7),), (model.Promise('ds-3', 7),
                                     model.Promise('ds-0', 2, volumes=2))]),
    strategies.one_of(strategies.none(), strategies.none(),
                      strategies.sampled_from(OTHERS)))
# Several changes may come before a report.
REPORTED = strategies.tuples(CHANGES, strategies.booleans())


class Reader:
    """Gives what is prepared: an inventory, or an error to raise."""

    def __init__(self, answer):
        self.answer = answer

    def read(self):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class ReporterTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.good = worlds.inventory(
            worlds.datastore(),
            worlds.datastore('datastore-2', 'lead', accessible=False))
        self.reader = Reader(self.good)
        self.clock = Clock()
        self.promised = ()

    def reporter(self, age=float, **settings):
        return scheduling_reporter.Reporter(
            self.reader, worlds.settings(**settings),
            lambda: self.promised, self.clock, age=age)

    def names(self, stats):
        return [pool['pool_name'] for pool in stats['pools']]

    def test_fresh_figures_are_of_no_age_and_the_backend_is_up(self):
        stats = self.reporter().report()
        self.assertEqual(('up', '', 0), (
            stats['backend_state'], stats['backend_state_reason'],
            stats['stats_age_seconds']))
        self.assertEqual(['gold', 'lead'], self.names(stats))

    def test_promises_are_read_before_the_claims(self):
        """A disk that is begun in between must not be lost to both."""
        order = []

        def promises():
            order.append('promises')
            return ()

        def expected(seen):
            order.append('claims')
            return seen
        scheduling_reporter.Reporter(self.reader, worlds.settings(), promises,
                                     expected=expected).report()
        self.assertEqual(['promises', 'claims'], order)

    def test_a_datastore_that_is_down_does_not_make_the_backend_down(self):
        """Cinder shows the last pool's state as the service's."""
        stats = self.reporter().report()
        self.assertEqual({'up'}, {pool['backend_state']
                                  for pool in stats['pools']})

    def test_without_an_answer_the_last_good_list_comes_with_its_age(self):
        reporter = self.reporter()
        before = reporter.report()['pools']
        self.reader.answer = NO_ANSWER
        self.clock.now += 75.9
        stats = reporter.report()
        self.assertEqual(('down', 75), (stats['backend_state'],
                                        stats['stats_age_seconds']))
        self.assertEqual(self.names({'pools': before}), self.names(stats))
        for old, new in zip(before, stats['pools']):
            self.assertEqual(('down', 75), (new['backend_state'],
                                            new['stats_age_seconds']))
            self.assertEqual(old['free_capacity_gb'],
                             new['free_capacity_gb'])

    def test_the_age_costs_no_copies_of_the_pools(self):
        reporter = self.reporter(age=lambda: self.clock.now - 2)
        self.clock.now = 2
        before = reporter.report()['pools']
        for now, changed, ages in ((20, False, {18}), (31, True, {29}),
                                   (2, False, {0}), (2, True, {0})):
            self.clock.now = now
            if changed:
                self.reader.answer = worlds.inventory(
                    worlds.datastore(free_gib=now),
                    worlds.datastore('datastore-2', 'lead',
                                     accessible=False))
            pools = reporter.report()['pools']
            self.assertEqual(ages, {pool['stats_age_seconds']
                                    for pool in pools})
            self.assertIs(before[1], pools[1])

    def test_the_age_grows_while_a_reply_is_waited_for(self):
        reporter = self.reporter(age=lambda: self.clock.now - 2)
        self.clock.now = 2
        self.assertEqual(0, reporter.report()['stats_age_seconds'])
        self.clock.now = 20
        stats = reporter.report()
        self.assertEqual(('up', 18), (stats['backend_state'],
                                      stats['stats_age_seconds']))
        self.assertEqual({18}, {pool['stats_age_seconds']
                                for pool in stats['pools']})
        self.clock.now = 45
        self.reader.answer = NO_ANSWER
        stats = reporter.report()
        self.assertEqual(('down', 43), (stats['backend_state'],
                                        stats['stats_age_seconds']))

    def test_the_cause_is_told_in_one_line(self):
        reporter = self.reporter()
        self.reader.answer = NO_ANSWER
        cause = reporter.report()['backend_state_reason']
        self.assertIn('no reply', cause)
        self.assertNotIn('\n', cause)

    def test_an_error_without_words_has_its_name_for_a_cause(self):
        self.reader.answer = TimeoutError()
        self.assertIn('TimeoutError',
                      self.reporter().report()['backend_state_reason'])

    def test_the_backend_comes_up_again_with_fresh_figures(self):
        reporter = self.reporter()
        reporter.report()
        self.reader.answer = NO_ANSWER
        reporter.report()
        self.reader.answer = worlds.inventory(worlds.datastore(free_gib=5))
        stats = reporter.report()
        self.assertEqual(('up', 0, 5), (
            stats['backend_state'], stats['stats_age_seconds'],
            stats['pools'][0]['free_capacity_gb']))

    def test_cinder_may_change_a_report_without_changing_the_next(self):
        """The volume manager and the scheduler write into it."""
        reporter = self.reporter()
        reporter.report()
        self.reader.answer = NO_ANSWER
        reporter.report()['pools'].clear()
        reporter.report()['pools'][0]['free_capacity_gb'] = -1
        stats = reporter.report()
        self.assertEqual(60, stats['pools'][0]['free_capacity_gb'])

    def test_a_pool_that_did_not_change_keeps_its_dictionary(self):
        """1,500 new dictionaries would cost more than all else."""
        reporter = self.reporter()
        before, after = (reporter.report()['pools'] for _ in range(2))
        self.assertIsNot(before, after)
        self.assertLessEqual(1, sum(
            one is other for one, other in zip(before, after, strict=True)))

    def test_what_cinders_manager_writes_is_not_in_its_way(self):
        """As VolumeManager._append_volume_stats and extra_capabilities."""
        reporter = self.reporter()
        for allocated in (5, 0, 7):
            expected = self.reporter().report()['pools']
            pools = reporter.report()['pools']
            for each in (*pools, *expected):
                each.update({'allocated_capacity_gb': allocated})
                each.update({'rack': 'a'})
            self.assertEqual(expected, pools)

    def test_what_others_write_into_a_pool_ends_by_itself(self):
        reporter = self.reporter()
        expected = reporter.report()['pools']
        reporter.report()['pools'][0]['free_capacity_gb'] = -1
        for _ in range(scheduling_reporter.RENEWAL_REPORTS):
            found = reporter.report()['pools']
        self.assertEqual(self.reporter().report()['pools'], found)
        self.assertEqual(len(expected), len(found))

    def test_a_first_report_that_fails_is_of_a_pool_that_takes_nothing(self):
        self.reader.answer = NO_ANSWER
        stats = self.reporter().report()
        self.assertEqual(('down', -1), (stats['backend_state'],
                                        stats['stats_age_seconds']))
        [pool] = scheduler.pool_states(
            {'volume_backend_name': 'vmdk'} | stats).values()
        for wanted in (scheduler.request(1),
                       scheduler.request(1, thick=True)):
            self.assertFalse(scheduler.passes(pool, wanted))

    def test_no_eligible_datastore_is_no_empty_list(self):
        """Cinder would forget the backend."""
        self.reader.answer = worlds.inventory()
        stats = self.reporter().report()
        self.assertEqual('up', stats['backend_state'])
        [pool] = scheduler.pool_states(
            {'volume_backend_name': 'vmdk'} | stats).values()
        self.assertFalse(scheduler.passes(pool, scheduler.request(1)))

    def test_a_database_that_does_not_answer_is_no_exception_either(self):
        reporter = self.reporter()
        reporter.report()
        self.promised = None  # as though the query had failed
        stats = reporter.report()
        self.assertEqual('down', stats['backend_state'])
        self.assertEqual(['gold', 'lead'], self.names(stats))

    def test_promised_space_counts(self):
        self.promised = [model.Promise('gold', 7)]
        self.assertEqual(47, self.reporter().report()['pools'][0][
            'provisioned_capacity_gb'])

    def test_a_regex_that_matches_nothing_is_the_reason_and_warned_of(self):
        reporter = self.reporter(datastore_regex=re.compile('silver'))
        with self.assertLogs(scheduling_reporter.__name__,
                             logging.WARNING) as logged:
            stats = [reporter.report(), reporter.report()]
        [warning] = [record.getMessage() for record in logged.records
                     if record.levelno >= logging.WARNING]
        for text in (warning, stats[0]['backend_state_reason'],
                     stats[1]['backend_state_reason']):
            self.assertIn("vmware_datastore_regex 'silver' (gold, lead)",
                          text)
        self.assertEqual('up', stats[0]['backend_state'])

    def test_volumes_that_cannot_be_counted_take_no_figures_away(self):
        reporter = scheduling_reporter.Reporter(
            self.reader, worlds.settings(), tuple, self.clock,
            volumes=lambda: 1 / 0)
        with self.assertLogs(scheduling_reporter.__name__, logging.WARNING):
            stats = reporter.report()
        self.assertEqual(('up', 60), (
            stats['backend_state'], stats['pools'][0]['free_capacity_gb']))

    def test_the_off_switch_makes_one_pool_of_all(self):
        stats = self.reporter(datastore_pools=False).report()
        self.assertNotIn('pools', stats)
        self.assertEqual((100, 60), (stats['total_capacity_gb'],
                                     stats['free_capacity_gb']))

    def test_the_off_switch_keeps_the_last_good_figures_too(self):
        reporter = self.reporter(datastore_pools=False)
        reporter.report()
        self.reader.answer = NO_ANSWER
        stats = reporter.report()
        self.assertEqual((60, 'down'), (stats['free_capacity_gb'],
                                        stats['backend_state']))

    def test_a_datastore_is_told_once_when_it_stops_and_when_it_starts(self):
        reporter = self.reporter()
        with self.assertLogs(scheduling_reporter.__name__,
                             logging.INFO) as logged:
            reporter.report()
            reporter.report()
            self.reader.answer = worlds.inventory(
                worlds.datastore(), worlds.datastore('datastore-2', 'lead'))
            reporter.report()
        messages = [record.getMessage() for record in logged.records]
        self.assertEqual(2, len(messages), messages)
        self.assertIn('lead takes no volumes: the vCenter reports it '
                      'inaccessible', messages[0])
        self.assertIn('lead takes volumes again', messages[1])

    @hypothesis.given(worlds.inventories(), worlds.SETTINGS)
    def test_any_inventory_makes_a_report_that_the_scheduler_reads(
            self, inventory, settings):
        stats = scheduling_reporter.Reporter(
            Reader(inventory), settings, tuple, self.clock).report()
        self.assertEqual('up', stats['backend_state'],
                         stats['backend_state_reason'])
        self.assertTrue(scheduler.pool_states(
            {'volume_backend_name': 'vmdk'} | stats))

    def test_an_inventory_that_makes_no_sense_is_no_exception(self):
        reporter = self.reporter()
        reporter.report()
        self.reader.answer = model.Inventory({'datastore-1': None})
        stats = reporter.report()
        self.assertEqual('down', stats['backend_state'])
        self.assertEqual(['gold', 'lead'], self.names(stats))
        self.clock.now += 3
        self.assertEqual(3, reporter.report()['stats_age_seconds'])

    @hypothesis.settings(max_examples=150)
    @hypothesis.given(strategies.lists(REPORTED, max_size=8),
                      strategies.booleans(), strategies.booleans(),
                      strategies.booleans())
    def test_reports_after_changes_are_as_though_they_were_made_anew(
            self, changes, pods, namesake, named):
        # Two of them are one storage; two are not there at first.
        datastores = {f'datastore-{number}': worlds.datastore(
            f'datastore-{number}', f'ds-{number}',
            url='ds:///nfs/' if number == 3 or (namesake and number == 0)
            else f'ds:///{number}/',
            hosts=(('host-1',), ('host-2',), ('host-1', 'host-2'))[
                number % 3]) for number in range(6)}
        volumes = {'datastore-1': ('a', 'b')}
        self.first = seen = self.reader.answer = dataclasses.replace(
            worlds.inventory(
                *list(datastores.values())[:4],
                hosts=(worlds.host(), worlds.host('host-2', 'cluster-2')),
                datacenters={'datacenter-2': 'DC2'}), storage_pods={
                    'group-p1': model.StoragePod(
                        'group-p1', 'pod', _POD_1, True, 'automated'),
                    'group-p2': model.StoragePod(
                        'group-p2', 'second', frozenset({'datastore-4'}),
                        True, 'automated')} if namesake or pods else {})
        settings = worlds.settings(
            storage_pods=pods, min_free_gib=5, drain_tag='drain',
            drain_attribute='drain', cluster_names=('c1',) if named else (),
            datastore_regex=re.compile('(?!no pool)'))

        def reporter():
            return scheduling_reporter.Reporter(
                self.reader, settings, lambda: self.promised,
                volumes=lambda: volumes)
        one = reporter()
        one.report()
        for (moref, values, count, promised, other), reported in changes:
            before, known = seen, seen.datastores
            if other == 'valued':
                values = {'custom_values': ((1, 'drain'), (2, 'x'))[:count]}
            if not values:
                known = {key: each for key, each in known.items()
                         if key != moref} if moref in known else {
                             **known, moref: datastores[moref]}
            elif moref in known:
                known = {**known, moref: dataclasses.replace(
                    known[moref], **values)}
            seen = dataclasses.replace(
                seen, datastores=known, **self.changed(seen, moref, other))
            if count % 2:
                seen.follow(before, {moref})
            else:
                seen.inherit(before)
            self.reader.answer = seen
            volumes = {**volumes, moref: tuple('abcdef'[:count])}
            if promised is not None:
                self.promised = promised
            if not reported:
                continue
            found = one.report()
            self.reader.answer = dataclasses.replace(seen)
            self.assertEqual(reporter().report(), found)
            self.assert_as_anew(settings, seen)
            self.reader.answer = seen

    def assert_as_anew(self, settings, seen):
        """What an inventory has from others is as though derived anew."""
        anew = dataclasses.replace(seen)
        self.assertEqual(
            list(pool_names.names(anew).items()),
            list(pool_names.names(seen).items()))
        self.assertEqual(anew._spellings, seen._spellings)
        self.assertEqual(anew._shared, seen._shared)
        self.assertEqual(anew._by_mounts, seen._by_mounts)
        self.assertEqual(anew.registering_hosts, seen.registering_hosts)
        self.assertEqual(anew.hosts_in_reach(settings),
                         seen.hosts_in_reach(settings))
        arranged, expected = (pool_names._arranged(each, settings)
                              for each in (seen, anew))
        self.assertEqual(expected[:4], arranged[:4])
        self.assertEqual(list(expected.pools), list(arranged.pools))
        self.assertEqual(pool_names._identities(anew, settings),
                         pool_names._identities(seen, settings))

    def changed(self, seen, moref, what):
        """Fields of an inventory after a change that is no datastore's.

        :param moref: the datastore that changes at the same time
        """
        if what == 'tagged':
            return {'tagged': seen.tagged ^ {moref}}
        if what == 'compliant':
            return {'compliant': {'silver': seen.compliant.get(
                'silver', frozenset()) ^ {moref}}}
        if what == 'attribute':
            return {'attributes': {} if seen.attributes else {1: 'drain'}}
        found = {}
        for field, changed, values in what if isinstance(what, (
                list, tuple)) else ():
            known = found.setdefault(field, dict(getattr(seen, field)))
            if changed not in known:
                first = getattr(self.first, field).get(changed)
                if first is not None and not values:
                    known[changed] = first
            elif values:
                known[changed] = dataclasses.replace(known[changed], **values)
            else:
                del known[changed]
        return found

    def test_a_change_of_one_datastore_looks_at_no_other(self):
        for change in ({'free_bytes': 1 << 30}, {'capacity_bytes': 1 << 40},
                       {'maintenance_mode': 'inMaintenance'}):
            self.reader.answer = self.good
            reporter = self.reporter()
            reporter.report()
            self.reader.answer = self.good.evolved(datastores={
                **self.good.datastores, 'datastore-1': dataclasses.replace(
                    worlds.datastore(), **change)})
            with mock.patch.object(scheduling_reporter.pool_stats, 'reports',
                                   wraps=pool_stats.reports) as reports:
                reporter.report()
            self.assertEqual([frozenset({'datastore-1'})],
                             [call.args[-1] for call in reports.mock_calls],
                             change)

    def calls_of_reports(self, size):
        """How many functions a report after each change calls.

        One of the datastores is mounted by another cluster, another is in
        another datacenter, and two are in a datastore cluster.
        """
        seen = dataclasses.replace(worlds.inventory(*(
            worlds.datastore(f'datastore-{number}', f'ds-{number}',
                             url=f'ds:///{number}/',
                             hosts=('host-2',) if number == 4 else (
                                 'host-1',),
                             datacenter=f'datacenter-{2 if number == 8 else 1}'
                             )
            for number in range(size)), datacenters={'datacenter-2': 'DC2'},
            hosts=(worlds.host(), worlds.host('host-2', 'cluster-2'),
                   worlds.host('host-3', 'cluster-2'))), storage_pods={
                    'group-p1': model.StoragePod(
                        'group-p1', 'pod', frozenset({
                            'datastore-5', 'datastore-6'}), True,
                        'automated')})
        volumes = model.VolumesByDatastore(
            {moref: ('a',) for moref in seen.datastores})
        self.reader.answer, self.promised = seen, ()
        reporter = scheduling_reporter.Reporter(
            self.reader, worlds.settings(
                storage_pods=True,
                datastore_regex=re.compile('(?!out of it)')),
            lambda: self.promised, volumes=lambda: volumes)
        reporter.report()
        found = {}

        def count(what):
            calls = []
            with mock.patch.object(scheduling_reporter, 'RENEWAL_REPORTS',
                                   10 * size):
                gc.disable()
                sys.setprofile(lambda frame, event, argument: calls.append(
                    event) if event in ('call', 'c_call') else None)
                try:
                    reporter.report()
                finally:
                    sys.setprofile(None)
                    gc.enable()
            found[what] = len(calls)
        for field, value in (('free_bytes', 1 << 30),
                             ('capacity_bytes', 1 << 40),
                             ('maintenance_mode', 'inMaintenance'),
                             ('usable_hosts', frozenset()),
                             ('name', 'renamed'), ('name', 'out of it')):
            seen = self.after(seen, 'datastore-1', dataclasses.replace(
                seen.datastores['datastore-1'], **{field: value}))
            count(field)
        volumes = model.VolumesByDatastore(
            {**volumes, 'datastore-2': ('a', 'b')}, volumes, ['datastore-2'])
        count('volumes')
        for size_gib in (7, 8):  # the first one finds out the identities
            self.promised = (model.Promise('ds-3', size_gib),)
            count('promises')
        for what, value in (('added', worlds.datastore(
                'datastore-999', 'new', url='ds:///new/')), ('gone', None)):
            seen = self.after(seen, 'datastore-999', value)
            count(what)
        for what, field, moref, values in (
                ('any cluster', 'clusters', 'cluster-2', {'name': 'first'}),
                ('cluster renamed', 'clusters', 'cluster-2', {'name': 'new'}),
                ('host left', 'clusters', 'cluster-2',
                 {'hosts': frozenset({'host-3'})}),
                ('no resource pool', 'clusters', 'cluster-2',
                 {'resource_pool': ''}),
                ('host moved', 'hosts', 'host-2', {'parent': 'cluster-1'}),
                ('joined', 'storage_pods', 'group-p1', {
                    'datastores': frozenset({'datastore-5', 'datastore-6',
                                             'datastore-7'})}),
                ('left', 'storage_pods', 'group-p1', {
                    'datastores': frozenset({'datastore-6', 'datastore-7'})}),
                ('manual', 'storage_pods', 'group-p1', {
                    'automation': 'manual'}),
                ('automated', 'storage_pods', 'group-p1', {
                    'automation': 'automated'}),
                ('datacenter renamed', 'datacenters', 'datacenter-2', {
                    'name': 'DC3'}),
                ('folder', 'datacenters', 'datacenter-1', {
                    'vm_folder': 'group-v9'})):
            seen = self.evolved(seen, field, moref, **values)
            count(what)
        return found

    def evolved(self, before, field, moref, **values):
        """The next inventory of a series, after a change of one object."""
        known = getattr(before, field)
        seen = self.reader.answer = dataclasses.replace(before, **{field: {
            **known, moref: dataclasses.replace(known[moref], **values)}})
        seen.follow(before, ())
        return seen

    def after(self, before, moref, datastore):
        """The next inventory of a series; None: the datastore is gone."""
        known = {**before.datastores, moref: datastore}
        if datastore is None:
            del known[moref]
        seen = self.reader.answer = dataclasses.replace(
            before, datastores=known)
        seen.follow(before, [moref])
        return seen

    def test_one_change_takes_as_many_calls_at_any_size(self):
        self.calls_of_reports(30)  # caches the ages of references
        few, many = map(self.calls_of_reports, (30, 200))
        del few['any cluster'], many['any cluster']  # groups all by hosts
        self.assertEqual(few, many)

    def pieces_of_a_report(self, size, meanwhile=lambda: None):
        """A first report, and how many functions it calls between yields."""
        self.reader.answer = worlds.inventory(*(
            worlds.datastore(f'datastore-{number}', f'ds-{number}',
                             url=f'ds:///{number}/')
            for number in range(size)))
        reporter, pieces = self.reporter(), [0]

        def count(frame, event, argument):
            pieces[-1] += event in ('call', 'c_call')

        def give_way():
            sys.setprofile(None)
            meanwhile()
            pieces.append(0)
            sys.setprofile(count)
        with mock.patch.object(scheduling_reporter.concurrency,
                               'cooperative_yield', give_way):
            sys.setprofile(count)
            try:
                found = reporter.report()
            finally:
                sys.setprofile(None)
        return found, pieces

    def test_a_first_report_lets_others_run_in_between(self):
        self.pieces_of_a_report(1500)  # caches the ages of references
        found, pieces = self.pieces_of_a_report(1500)
        self.assertEqual(1500, len(found['pools']))
        self.assertLess(max(pieces), sum(pieces) / 4)

    def test_what_changes_meanwhile_is_not_in_it(self):
        expected, _pieces = self.pieces_of_a_report(200)

        def change():
            self.reader.answer = worlds.inventory(worlds.datastore())
            self.promised = (model.Promise('ds-3', 7),)
        found, pieces = self.pieces_of_a_report(200, change)
        self.assertEqual(expected, found)
        self.assertLess(3, len(pieces))

    def test_the_last_reports_inventory_is_known_while_one_is_made(self):
        reporter, seen = self.reporter(), []
        self.assertIsNone(reporter.inventory())
        reporter.report()
        self.reader.answer = worlds.inventory(worlds.datastore(free_gib=5))
        with mock.patch.object(
                scheduling_reporter.concurrency, 'cooperative_yield',
                lambda: seen.append(reporter.inventory())):
            reporter.report()
        self.assertEqual([self.good] * len(seen), seen)
        self.assertIs(self.reader.answer, reporter.inventory())

    def test_threads_may_report_at_once(self):
        reporter = self.reporter()
        reports = []
        threads = [threading.Thread(
            target=lambda: reports.append(reporter.report()))
            for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([['gold', 'lead']] * 8, list(map(
            self.names, reports)))
