# SPDX-License-Identifier: Apache-2.0
"""Starts a driver as cinder-volume does, with volumes that are there already.

A part of the worker. It makes Cinder's records of the volumes, and calls what
Cinder's manager calls in ``init_host``.
"""

import gc
import threading
import time

from oslo_utils import timeutils

from cinder import objects

try:
    from cinder.db.sqlalchemy import models  # until Cinder 28
except ImportError:
    from cinder.db import models

from sandbox.embedded import database

# The worker of reconciliation pauses between two passes.
QUIET_SECONDS = 300.0
POLL_SECONDS = 0.5


class Ticker:
    """How long another thread, native or green, had to wait for its turn.

    In CPU time of the process, which other programs do not lengthen, and in
    time. Python's garbage collector stops all threads; its longest run is
    noted too, since most objects that it looks at are Cinder's.
    """

    def __init__(self):
        self._reset()
        self._going = True
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self):
        gc.callbacks.append(self._collecting)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._going = False
        self._thread.join()
        gc.callbacks.remove(self._collecting)

    def begin(self):
        """Begin anew, after this turn."""
        time.sleep(0.02)
        self._reset()

    def found(self):
        """The longest waits since then."""
        time.sleep(0.01)  # the last wait ends
        return {'longest_ms': self._cpu_ms, 'longest_wall_ms': self._wall_ms,
                'collector_ms': self._collector_ms}

    def _reset(self):
        self._cpu_ms = self._wall_ms = self._collector_ms = 0.0

    def _tick(self):
        before, cpu_before = time.monotonic(), time.process_time()
        while self._going:
            # More often would itself be a large part of the CPU time.
            time.sleep(0.004)
            now, cpu = time.monotonic(), time.process_time()
            self._cpu_ms = max(self._cpu_ms, (cpu - cpu_before) * 1000)
            self._wall_ms = max(self._wall_ms, (now - before) * 1000)
            before, cpu_before = now, cpu

    def _collecting(self, phase, info):
        now = time.thread_time()
        if phase == 'start':
            self._collecting_since = now
        else:
            self._collector_ms = max(
                self._collector_ms, (now - self._collecting_since) * 1000)


class Start:
    """A start, step by step; Cinder's own work is measured apart."""

    def __init__(self, bench, volumes, resident_bytes):
        """:param bench: the worker's Bench
        :param volumes: what benchmarks.many_volumes has made
        :param resident_bytes: returns the memory of the process
        """
        self._bench = bench
        self._driver = bench.driver
        self._resident_bytes = resident_bytes
        self._total = {'cpu_ms': 0.0, 'wall_ms': 0.0, 'longest_ms': 0.0,
                       'longest_wall_ms': 0.0, 'collector_ms': 0.0}
        # Cinder drops its records before it serves. A run that measures
        # memory keeps them, so that what they take can be subtracted.
        self._measures_memory = bench.plan.get('runtime') != 'eventlet'
        self._cinders_bytes = 0
        self._volumes = None
        self._write(volumes)
        self._ticker = Ticker()

    def run(self):
        """Report the cost of each step, and of all that is not Cinder's."""
        gc.collect()
        gc.freeze()
        before = self._resident_bytes()
        with self._ticker:
            self._serve()
            self._bench.emit(operation='start: until it serves', error=None,
                             **self._total)
            self._memory('memory when it serves', before)
            if self._bench.ours:
                self._step('in the background, until all are checked',
                           self._checked)
                self._memory('memory after the start', before)

    def _serve(self):
        """What Cinder's manager calls before it serves."""
        context = self._bench.context
        self._step('do_setup', lambda: self._driver.do_setup(context))
        self._step('check_for_setup_error',
                   self._driver.check_for_setup_error)
        before = self._resident_bytes()
        volumes = self._step(
            "Cinder's own load of the volumes",
            lambda: objects.VolumeList.get_all_by_host(
                context, self._driver.host), cinders=True)
        self._cinders_bytes = self._resident_bytes() - before
        self._step('update_provider_info', lambda:
                   self._driver.update_provider_info(volumes, []))
        exported = [each for each in volumes if each.status == 'in-use']
        self._step('ensure_export', lambda: self._export(exported))
        if self._measures_memory:
            self._volumes = volumes
        volumes = exported = None
        # Its records refer to one another, so only this frees them.
        self._step("Python's collection of Cinder's records", gc.collect,
                   cinders=True)
        self._step('set_initialized', self._driver.set_initialized)
        self._step('first report', lambda:
                   self._driver.get_volume_stats(refresh=True))

    def _memory(self, name, before):
        """The memory of the process, without that of Cinder's records."""
        if not self._measures_memory:
            return
        self._bench.emit(
            operation=name, error=None, bytes_held=self._resident_bytes()
            - before - self._cinders_bytes)

    def _step(self, name, action, cinders=False):
        self._ticker.begin()
        wall, cpu = time.monotonic(), time.process_time()
        result = action()
        cpu_ms = (time.process_time() - cpu) * 1000
        wall_ms = (time.monotonic() - wall) * 1000
        found = {'cpu_ms': cpu_ms, 'wall_ms': wall_ms,
                 **self._ticker.found()}
        if not cinders:
            for key, value in found.items():
                self._total[key] = (
                    self._total[key] + value if key in ('cpu_ms', 'wall_ms')
                    else max(self._total[key], value))
        self._bench.emit(operation=f'start: {name}', error=None, **found)
        return result

    def _export(self, volumes):
        for volume in volumes:
            self._driver.ensure_export(self._bench.context, volume)

    def _checked(self):
        """Wait until reconciliation has checked what was attached."""
        reconciler = self._driver.backend.reconciler
        deadline = time.monotonic() + QUIET_SECONDS
        while reconciler.unchecked and time.monotonic() < deadline:
            reconciler.noticed.set()
            time.sleep(POLL_SECONDS)
        if reconciler.unchecked:
            raise TimeoutError(f'{reconciler.unchecked} are not checked')

    def _write(self, volumes):
        """Cinder's records, in two statements."""
        type_id = self._bench.database.volume().volume_type_id
        for each in objects.VolumeList.get_all(self._bench.context):
            each.destroy()
        now = timeutils.utcnow()
        rows = [{
            'id': each['id'], 'size': 1, 'display_name': 'v',
            'host': f'{self._driver.host}#{each["datastore"]}',
            'status': 'in-use' if 'instance' in each else 'available',
            'attach_status': ('attached' if 'instance' in each
                              else 'detached'),
            'project_id': 'p', 'user_id': 'u', 'deleted': False,
            'provider_id': 'vmdk-ext:backed', 'created_at': now,
            'volume_type_id': type_id} for each in volumes]
        attachments = [{
            'id': each['id'], 'volume_id': each['id'], 'deleted': False,
            'instance_uuid': each['instance'], 'attach_status': 'attached',
            'attached_host': 'compute', 'created_at': now, 'updated_at': now,
            'connector': '{"instance": "%s"}' % each['vm']}
            for each in volumes if 'instance' in each]
        manager = database.api.main_context_manager
        with manager.writer.using(self._bench.context) as session:
            session.bulk_insert_mappings(models.Volume, rows)
            session.bulk_insert_mappings(models.VolumeAttachment,
                                         attachments)
