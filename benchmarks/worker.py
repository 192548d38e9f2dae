# SPDX-License-Identifier: Apache-2.0
"""Runs and measures the operations of one driver, upstream's or ours.

Each driver has a separate process, so that imports, threads and garbage of
one do not affect the other. It reads a plan as JSON from its standard input,
and writes results to its standard output, one JSON object per line.
"""

import json
import sys

PLAN = json.load(sys.stdin)
if PLAN.get('runtime') == 'eventlet':
    from sandbox.embedded import patched  # noqa: F401

# Imported after the patching, as Cinder's own services do.
import contextlib  # noqa: E402
import functools  # noqa: E402
import gc  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import types  # noqa: E402
import warnings  # noqa: E402

from oslo_config import cfg  # noqa: E402

from cinder import coordination  # noqa: E402
from cinder.volume.drivers.vmware import vmdk  # noqa: E402
from cinder.volume import volume_types  # noqa: E402

from benchmarks import endurance  # noqa: E402
from benchmarks import floor  # noqa: E402
from benchmarks import start  # noqa: E402
from cinder_vmdk_ext import driver as ours  # noqa: E402
from cinder_vmdk_ext.inventory import refresher  # noqa: E402
from cinder_vmdk_ext import model  # noqa: E402
from cinder_vmdk_ext.vsphere import tasks  # noqa: E402
from sandbox import service_user  # noqa: E402
from sandbox.embedded import database  # noqa: E402
from sandbox.embedded import section  # noqa: E402
from simulator import control  # noqa: E402

BACKEND = f'cinder-1@{section.NAME}'
# The call of the long poll; each of its replies counts as one notice.
NOTICE = 'WaitForUpdatesEx'
# For how long other users change VMs and datastores.
BUSY_SECONDS = 10
BUSY_REPORTS = 20
BUSY_CREATES = 5
IDLE_SECONDS = 30
# For how long a run waits whose calls alone matter.
PATIENT_SECONDS = 600.0


class Bench:
    """A driver, a database and volumes to work on."""

    def __init__(self, plan):
        self.plan = plan
        self.ours = plan['driver'] == 'ours'
        self.vcenter = types.SimpleNamespace(**plan['vcenter'])
        self.control = control.Control(self.vcenter.control_url)
        self.database = database.Database()
        self.database.setUp()
        self.context = self.database.context
        self.number = 0
        self._coordinate()
        self.before = self.control.sessions(), self.control.watching()
        # Cinder's database is not measured, for either driver.
        for name in ('get_volume_type_extra_specs',
                     'get_volume_type_qos_specs'):
            setattr(volume_types, name, functools.lru_cache(
                getattr(volume_types, name)))
        for name in ('volume_type_get', 'volume_type_encryption_get'):
            setattr(volume_types.db, name, _remembering(
                getattr(volume_types.db, name)))
        cls = ours.VmdkExtDriver if self.ours else vmdk.VMwareVcVmdkDriver
        # Upstream's driver needs other privileges than the plugin's.
        login = service_user.of(self.vcenter) if self.ours else self.vcenter
        self.user = login.user
        self.driver = cls(configuration=section.read(**section.of_vcenter(
            self.vcenter, vmware_host_username=login.user,
            vmware_host_password=login.password,
            vmware_task_poll_interval=2.0, vmware_enable_volume_stats=True,
            vmware_api_retry_count=10,
            vmware_datastore_regex=plan.get('datastores_named'))),
            host=BACKEND)

        # A start is measured with its queries.
        if plan.get('patient'):
            # A notice that is late, or a run that is slow, costs no call.
            for module, name in ((tasks, 'UNSEEN_SECONDS'),
                                 (tasks, 'PROGRESS_SECONDS'),
                                 (refresher, 'DELAY_SECONDS')):
                setattr(module, name, PATIENT_SECONDS)
        if self.ours and 'volumes' not in plan:
            promised = self.driver.backend.promised
            read = promised._rows
            promised._rows = functools.cache(lambda: list(read()))
            promised.start()  # as set_initialized does

    def _coordinate(self):
        self.folder = tempfile.TemporaryDirectory(prefix='bench-locks-')
        cfg.CONF.set_override('backend_url', f'file://{self.folder.name}',
                              'coordination')
        cfg.CONF.set_override('lock_path', self.folder.name,
                              'oslo_concurrency')
        coordination.COORDINATOR.start()

    # -- Measuring ----------------------------------------------------------

    def measure(self, name, action, times=1, **more):
        """Run an action, and report its cost.

        :param times: how often it runs; the median of the times and the mean
            of the calls are reported
        :returns: the action's last result
        """
        if self.plan.get('patient'):
            self.settle(0.1)
        self.control.reset_journal()
        walls, cpus = [], []
        error = found = None
        for _ in range(times):
            cpu, begun = time.process_time(), time.monotonic()
            try:
                found = action()
            except Exception as caught:
                error = f'{type(caught).__name__}: {caught}'
            walls.append(time.monotonic() - begun)
            cpus.append(time.process_time() - cpu)
        journal = self.control.journal()
        notices = journal['methods'].get(NOTICE, {})
        self.emit(operation=name, error=error,
                  wall_ms=statistics.median(walls) * 1000,
                  cpu_ms=statistics.median(cpus) * 1000,
                  calls=round((journal['calls'] - notices.get('calls', 0))
                              / times, 1),
                  notices=round(notices.get('calls', 0) / times),
                  bytes=round((journal['request_bytes']
                               + journal['response_bytes']) / times),
                  methods={method: each['calls'] for method, each
                           in journal['methods'].items()}, **more)
        return found

    def settle(self, seconds=0.3):
        """Wait until what is done in the background has ended.

        :param seconds: after so long without a call it has
        """
        for _ in range(100):
            self.control.reset_journal()
            time.sleep(seconds)
            if set(self.control.journal()['methods']) <= {NOTICE}:
                return

    def emit(self, **result):
        print(json.dumps({'driver': self.plan['driver'], **result}),
              flush=True)

    # -- Work of Cinder's manager -------------------------------------------

    def pool(self):
        """The pool for the next volume: with pools, each in turn."""
        if not self.ours:
            return section.NAME
        self.number += 1
        return f'LocalDS_{self.number % self.plan["datastores"]}'

    def new_volume(self, size_gib=1, pool=None, **specs):
        fields = {}
        if specs:
            fields['volume_type_id'] = self.volume_type(**specs)['id']
        return self.database.volume(
            size_gib, host=f'{BACKEND}#{pool or self.pool()}', **fields)

    def volume_type(self, **specs):
        name = ','.join(f'{key}={value}' for key, value
                        in sorted(specs.items()))
        with contextlib.suppress(Exception):
            return volume_types.get_by_name_or_id(self.context, name)
        return volume_types.get_volume_type(
            self.context, self.database.volume_type(name, **specs).id)

    def made(self, volume, update):
        volume.update(update or {})
        volume.status = 'available'
        volume.save()
        self.await_notice(volume.id)

    def await_notice(self, uuid):
        """Wait until the long poll has reported a new VM."""
        deadline = time.monotonic() + (
            PATIENT_SECONDS if self.plan.get('patient') else 2)
        while (self.ours and time.monotonic() < deadline and not
                self.driver.volumeops.backing_view.moref_of(uuid)):
            time.sleep(0.005)

    def created(self, **more):
        volume = self.new_volume(**more)
        self.made(volume, self.driver.create_volume(volume))
        return volume

    # -- The operations ------------------------------------------------------

    def run(self):
        if 'volumes' in self.plan:
            start.Start(self, self.plan['volumes'], _resident_bytes).run()
            self.end()
            return
        context = self.context
        self.measure('do_setup', lambda: self.driver.do_setup(context))
        self.driver.check_for_setup_error()
        for name in self.plan['operations']:
            try:
                getattr(self, name)()
            except Exception as error:
                # An error before the measurement; the others still run.
                self.emit(operation=name, error=f'{type(error).__name__}: '
                          f'{error}')
        self.end()

    def end(self):
        if self.ours:
            self.driver.backend.reconciler.stop()
            self.driver.backend.promised.stop()
            self.driver.backend.stream.stop()
        self.driver.session.logout()

    def first_view(self):
        """The first view, all that is ours, and what they cost at least."""
        wall, cpu = time.monotonic(), time.process_time()
        self.measure('first view', self.driver.backend.inventory_source.read)
        self.driver.volumeops.read_backings()
        self.emit(operation='first view and all that is ours',
                  cpu_ms=(time.process_time() - cpu) * 1000,
                  wall_ms=(time.monotonic() - wall) * 1000)
        least = floor.Floor(self.driver.session, self.driver.backend.client)
        for name, found in (('first view', least.inventory()),
                            ('first view and all that is ours', least.all())):
            self.emit(operation=f'{name}: TLS and lxml alone',
                      **found._asdict())

    def stats(self):
        if self.ours:
            self.first_view()
        self.measure('stats, first',
                     lambda: self.driver.get_volume_stats(refresh=True))
        if self.ours:
            self.driver.get_volume_stats(refresh=True)
        self.measure('stats',
                     lambda: self.driver.get_volume_stats(refresh=True),
                     times=25 if self.ours else 1)

    def select(self):
        volume = self.new_volume(pool=section.NAME)
        self.driver._select_ds_for_volume(volume)
        self.settle()
        self.measure('select',
                     lambda: self.driver._select_ds_for_volume(volume),
                     times=5 if self.ours else 1)

    def create(self):
        volume = self.new_volume()
        self.measure('create, first',
                     lambda: self.driver.create_volume(volume))
        volumes = [self.new_volume() for _ in range(7 if self.ours else 1)]
        each = iter(volumes)
        self.measure('create', lambda: self.driver.create_volume(next(each)),
                     times=len(volumes))

    def delete(self):
        volume = self.created()
        self.measure('delete', lambda: self.driver.delete_volume(volume))

    def attach(self):
        volume = self.created()
        instance = self.plan['instance']
        connector = {'instance': instance, 'ip': '127.0.0.1',
                     'host': 'compute', 'initiator': 'iqn'}
        self.measure('attach', lambda: self.driver.initialize_connection(
            volume, connector))

    def snapshot(self, kind='COW'):
        cfg.CONF.set_override('vmware_snapshot_format', kind, section.NAME)
        volume = self.created()
        snapshot = self.database.snapshot(volume)
        snapshot.update(self.measure(
            f'snapshot, {kind}',
            lambda: self.driver.create_snapshot(snapshot)) or {})
        snapshot.save()
        if kind == 'template':
            self.await_notice(snapshot.id)
        new = self.new_volume(pool=volume.host.partition('#')[2])
        self.made(new, self.measure(
            f'volume from snapshot, {kind}',
            lambda: self.driver.create_volume_from_snapshot(new, snapshot)))
        self.measure(f'delete snapshot, {kind}',
                     lambda: self.driver.delete_snapshot(snapshot))

    def template(self):
        self.snapshot('template')

    def clone(self, kind='full'):
        source = self.created(clone_type=kind)
        volume = self.new_volume(pool=source.host.partition('#')[2],
                                 clone_type=kind)
        self.made(volume, self.measure(
            f'clone, {kind}',
            lambda: self.driver.create_cloned_volume(volume, source)))

    def linked_clone(self):
        self.clone('linked')

    def extend(self):
        volume = self.created()
        self.measure('extend', lambda: self.driver.extend_volume(volume, 2))

    def retype(self, what='adapter', **specs):
        specs = specs or {'adapter_type': 'busLogic'}
        volume = self.created()
        new_type = self.volume_type(**specs)
        there = {'host': volume.host, 'capabilities': {}}
        self.measure(f'retype, {what}', lambda: self.driver.retype(
            self.context, volume, new_type, {'extra_specs': {}}, there))

    def retype_disk(self):
        self.retype('disk type', vmdk_type='thick')

    def lose_session(self):
        self.created()
        volume = self.new_volume()
        self.control.kill_sessions(self.user)
        self.measure('create, session lost',
                     lambda: self.driver.create_volume(volume))

    def parallel(self):
        count = self.plan['parallel']
        volumes = [self.new_volume() for _ in range(count)]
        failures = []

        def create(volume):
            try:
                self.driver.create_volume(volume)
            except Exception as error:
                failures.append(f'{type(error).__name__}: {error}')

        threads = [threading.Thread(target=create, args=(volume,))
                   for volume in volumes]

        def run():
            for each in threads:
                each.start()
            for each in threads:
                each.join()

        self.measure('parallel creates', run, count=count, failures=failures)

    # -- Measurements of our driver alone -------------------------------------

    def memory(self):
        """Memory of the view, and memory that 10,000 operations add."""
        before = _resident_bytes()
        known = self.driver.backend.inventory_source.read()
        self.emit(operation='memory of the view',
                  bytes_held=_resident_bytes() - before)
        self.driver.volumeops.read_backings()
        place = self.driver.backend.reservations
        source = self.driver.backend.inventory_source
        wanted = model.Requirement(1 << 30, pinned=frozenset(
            list(known.datastores)[:1]))
        for _ in range(2):  # the first time fills the bounded caches
            before = _resident_bytes()
            for _ in range(10000):
                with place.operation():
                    place.place(wanted, source.read(),
                                self.driver.backend.settings, min)
                self.driver.get_volume_stats(refresh=True)
        self.emit(operation='memory of 10,000 operations',
                  bytes_held=_resident_bytes() - before)

    def busy(self):
        """Cost of reports, changes and creates, for each kind of churn."""
        for rates in self.plan['churn']:
            self._busy(rates)

    def _busy(self, rates):
        name = 'busy, ' + ', '.join(f'{rate} {kind} a second'
                                    for kind, rate in rates.items())
        report = functools.partial(self.driver.get_volume_stats, refresh=True)
        self.driver.backend.inventory_source.read()
        self.driver.volumeops.read_backings()
        for _ in range(20 if 'ours' in rates else 0):
            self.created()
        report()
        with _changes(self.plan['vcenter'], rates) as changed:
            self.control.reset_journal()
            before, cpu = changed(), time.process_time()
            time.sleep(BUSY_SECONDS)
            cpu, count = time.process_time() - cpu, changed() - before
            ours = self.control.journal()['methods'].get(NOTICE, {})
            self.emit(operation=f'{name}: a change in the background',
                      cpu_ms=cpu / count * 1000, changes=count,
                      calls_of_1000=ours.get('calls', 0) / count * 1000,
                      bytes_of_1000=(
                          ours.get('request_bytes', 0)
                          + ours.get('response_bytes', 0)) / count * 1000)
            costs = []
            for _ in range(BUSY_REPORTS):
                time.sleep(BUSY_SECONDS / BUSY_REPORTS)
                cpu = time.thread_time()  # without the background thread
                report()
                costs.append((time.thread_time() - cpu) * 1000)
            volumes = iter([self.new_volume() for _ in range(BUSY_CREATES)])
            creates = []
            for volume in volumes:
                cpu = time.process_time()
                self.driver.create_volume(volume)
                creates.append((time.process_time() - cpu) * 1000)
        self.emit(operation=f'{name}: report, median',
                  cpu_ms=statistics.median(costs))
        self.emit(operation=f'{name}: report, most', cpu_ms=max(costs))
        self.emit(operation=f'{name}: create',
                  cpu_ms=statistics.median(creates))

    def load(self):
        """What the driver has the vCenter do while nothing happens."""
        if self.ours:
            self.driver.backend.inventory_source.read()
            self.driver.volumeops.read_backings()
        time.sleep(1)
        self.control.reset_journal()
        time.sleep(IDLE_SECONDS)
        journal, watching = self.control.journal(), self.control.watching()
        sessions, watched = self.before
        hour = 3600 / IDLE_SECONDS
        self.emit(operation='load: idle',
                  sessions=len(self.control.sessions()) - len(sessions),
                  watching={name: count - watched.get(name, 0)
                            for name, count in watching.items()},
                  calls_an_hour=journal['calls'] * hour,
                  bytes_an_hour=(journal['request_bytes']
                                 + journal['response_bytes']) * hour)

    def crowd(self):
        """Many creates at once, for which the driver chooses datastores."""
        self.driver.backend.inventory_source.read()
        self.driver.volumeops.read_backings()
        count, pools = self.plan['crowd'], section.NAME
        volumes = [self.new_volume(pool=pools, vmdk_type='thick')
                   for _ in range(count)]
        failures = []

        def create(volume):
            try:
                self.driver.create_volume(volume)
            except Exception as error:
                failures.append(f'{type(error).__name__}: {error}')

        def run():
            threads = [threading.Thread(target=create, args=(volume,))
                       for volume in volumes]
            for each in threads:
                each.start()
            for each in threads:
                each.join()

        self.measure('crowd of creates', run, count=count, failures=failures)
        taken = self.driver.backend.reservations.by_datastore()
        self.emit(operation='crowd: most on one datastore',
                  most=max(taken.values(), default=0) >> 30,
                  datastores=len(taken))

    def endure(self):
        """Operations for minutes, while others change the vCenter."""
        self.driver.backend.inventory_source.read()
        self.driver.volumeops.read_backings()
        gc.collect()
        gc.freeze()
        self.driver.set_initialized()
        with _changes(self.plan['vcenter'], self.plan['churn'][0]):
            endurance.Endurance(self, _memory_bytes).run(
                self.plan['minutes'])

    def stall(self):
        """The longest time that a report makes another greenthread wait."""
        longest = [0.0]
        going = [True]

        def tick():
            before = time.thread_time()
            while going:
                time.sleep(0)
                now = time.thread_time()
                longest[0] = max(longest[0], now - before)
                before = now

        gc.collect()
        gc.freeze()
        thread = threading.Thread(target=tick)
        thread.start()
        self.driver.backend.inventory_source.read()
        self.driver.volumeops.read_backings()
        self.emit(operation='longest wait, first view and all that is ours',
                  longest_ms=longest[0] * 1000)
        for name, report, times in (
                ('first report', self.driver.backend.reporter.report, 1),
                ('report', self.driver.backend.reporter.report, 100),
                ('report after a create', lambda:
                    self.driver.get_volume_stats(refresh=True), 1)):
            if name == 'report after a create':
                self.driver.get_volume_stats(refresh=True)
                self.created()
            time.sleep(0.1)
            longest[0] = 0.0
            for _ in range(times):
                report()
                time.sleep(0)
            self.emit(operation=f'longest wait, {name}',
                      longest_ms=longest[0] * 1000)
        going.clear()
        thread.join()


def _remembering(function):
    """Answer a query of Cinder's database from memory, after the first."""
    known = {}

    def ask(context, key, *more, **options):
        found = repr((key, more, sorted(options.items())))
        if found not in known:
            known[found] = function(context, key, *more, **options)
        answer = known[found]
        return dict(answer) if isinstance(answer, dict) else answer
    return ask


@contextlib.contextmanager
def _changes(vcenter, rates):
    """Change VMs or datastores during this block.

    :param rates: changes per second of each kind (benchmarks.busy)
    :returns: a function that returns the number of changes so far
    """
    with subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', 'benchmarks.busy'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True) as process:
        def ask():
            process.stdin.write('\n')
            process.stdin.flush()
            return int(process.stdout.readline())

        plan = {'vcenter': vcenter, 'rates': rates}
        process.stdin.write(json.dumps(plan) + '\n')
        while not ask():
            time.sleep(0.1)
        yield ask
        process.stdin.close()


def _resident_bytes():
    gc.collect()
    return _memory_bytes()


def _memory_bytes():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    logging.disable(logging.CRITICAL)
    Bench(PLAN).run()
