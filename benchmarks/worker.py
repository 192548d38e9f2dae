# SPDX-License-Identifier: Apache-2.0
"""One driver, upstream's or ours, put through its operations and measured.

A process of its own, so that neither driver pays for the other's imports,
threads or garbage. It takes a plan as JSON on its standard input and answers
on its standard output, one JSON object a line.
"""

import json
import sys

PLAN = json.load(sys.stdin)
if PLAN.get('runtime') == 'eventlet':
    import eventlet
    eventlet.monkey_patch()

# Imported after the patching, as Cinder's own services do.
import contextlib  # noqa: E402
import functools  # noqa: E402
import logging  # noqa: E402
import resource  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import types  # noqa: E402
import warnings  # noqa: E402

from oslo_config import cfg  # noqa: E402

from cinder import coordination  # noqa: E402
from cinder.volume.drivers.vmware import vmdk  # noqa: E402
from cinder.volume import volume_types  # noqa: E402

from cinder_vmdk_ext import driver as ours  # noqa: E402
from cinder_vmdk_ext.tests import control  # noqa: E402
from cinder_vmdk_ext.tests import database  # noqa: E402
from cinder_vmdk_ext.tests import section  # noqa: E402

BACKEND = f'cinder-1@{section.NAME}'
# A call that waits for news ends when there are some: its cost is a notice.
NOTICE = 'WaitForUpdatesEx'


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
        # Cinder's database is not what is measured: of either driver.
        volume_types.get_volume_type_extra_specs = functools.lru_cache(
            volume_types.get_volume_type_extra_specs)
        cls = ours.VmdkExtDriver if self.ours else vmdk.VMwareVcVmdkDriver
        self.driver = cls(configuration=section.read(**section.of_vcenter(
            self.vcenter, vmware_task_poll_interval=2.0,
            vmware_enable_volume_stats=True,
            vmware_api_retry_count=10)), host=BACKEND)

    def _coordinate(self):
        self.folder = tempfile.TemporaryDirectory(prefix='bench-locks-')
        cfg.CONF.set_override('backend_url', f'file://{self.folder.name}',
                              'coordination')
        cfg.CONF.set_override('lock_path', self.folder.name,
                              'oslo_concurrency')
        coordination.COORDINATOR.start()

    # -- Measuring ----------------------------------------------------------

    def measure(self, name, action, **more):
        """Run an action and tell what it cost."""
        self.control.reset_journal()
        cpu, begun = time.process_time(), time.monotonic()
        error = None
        try:
            action()
        except Exception as caught:
            error = f'{type(caught).__name__}: {caught}'
        wall, cpu = time.monotonic() - begun, time.process_time() - cpu
        journal = self.control.journal()
        notices = journal['methods'].get(NOTICE, {})
        self.tell(operation=name, error=error, wall_ms=wall * 1000,
                  cpu_ms=cpu * 1000,
                  calls=journal['calls'] - notices.get('calls', 0),
                  notices=notices.get('calls', 0),
                  bytes=journal['request_bytes'] + journal['response_bytes'],
                  methods={method: each['calls'] for method, each
                           in journal['methods'].items()}, **more)

    def tell(self, **result):
        print(json.dumps({'driver': self.plan['driver'], **result}),
              flush=True)

    # -- What the manager does ----------------------------------------------

    def pool(self):
        """Where the scheduler put a volume: with pools, each in turn."""
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

    def created(self, **more):
        volume = self.new_volume(**more)
        self.made(volume, self.driver.create_volume(volume))
        return volume

    # -- The operations ------------------------------------------------------

    def run(self):
        context = self.context
        self.measure('do_setup', lambda: self.driver.do_setup(context))
        self.driver.check_for_setup_error()
        for name in self.plan['operations']:
            getattr(self, name)()
        if self.ours:
            self.driver._stream.stop()
        self.driver.session.logout()

    def stats(self):
        if self.ours:
            self.measure('first view', self.driver._reader.read)
        self.measure('stats, first',
                     lambda: self.driver.get_volume_stats(refresh=True))
        if self.ours:  # its VMs are told meanwhile
            self.driver.volumeops.read_backings()
            self.driver.get_volume_stats(refresh=True)
        self.measure('stats',
                     lambda: self.driver.get_volume_stats(refresh=True))

    def select(self):
        volume = self.new_volume(pool=section.NAME)
        self.driver._select_ds_for_volume(volume)
        self.measure('select',
                     lambda: self.driver._select_ds_for_volume(volume))

    def create(self):
        volume = self.new_volume()
        self.measure('create, first',
                     lambda: self.driver.create_volume(volume))
        # Another one, so that every pool's place is known.
        volume = self.new_volume()
        self.measure('create', lambda: self.made(
            volume, self.driver.create_volume(volume)))
        return volume

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
        self.measure(f'snapshot, {kind}', lambda: snapshot.update(
            self.driver.create_snapshot(snapshot) or {}))
        snapshot.save()
        new = self.new_volume(pool=volume.host.partition('#')[2])
        self.measure(f'volume from snapshot, {kind}', lambda: self.made(
            new, self.driver.create_volume_from_snapshot(new, snapshot)))
        self.measure(f'delete snapshot, {kind}',
                     lambda: self.driver.delete_snapshot(snapshot))

    def template(self):
        self.snapshot('template')

    def clone(self, kind='full'):
        source = self.created(clone_type=kind)
        volume = self.new_volume(pool=source.host.partition('#')[2],
                                 clone_type=kind)
        self.measure(f'clone, {kind}', lambda: self.made(
            volume, self.driver.create_cloned_volume(volume, source)))

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
        self.control.kill_sessions(self.vcenter.user)
        volume = self.new_volume()
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

    def ten_thousand_reads(self):
        before = _resident_kib()
        for _ in range(10000):
            self.driver.get_volume_stats(refresh=True)
        self.tell(operation='memory of 10,000 reports',
                  kib=_resident_kib() - before)


def _resident_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    logging.disable(logging.CRITICAL)
    Bench(PLAN).run()
