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
    """The longest CPU time that a greenthread had to wait for its turn."""

    def __init__(self):
        self.longest_ms = 0.0
        self._going = True
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._going = False
        self._thread.join()

    def reset(self):
        """Begin anew, after this turn."""
        time.sleep(0.02)
        self.longest_ms = 0.0

    def _tick(self):
        before = time.thread_time()
        while self._going:
            time.sleep(0.001)
            now = time.thread_time()
            self.longest_ms = max(self.longest_ms, (now - before) * 1000)
            before = now


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
        self._ours_ms = self._wall_ms = 0.0
        self._write(volumes)
        self._ticker = Ticker()

    def run(self):
        """Report the cost of each step, and of all that is not Cinder's."""
        context = self._bench.context
        gc.collect()
        gc.freeze()
        before = self._resident_bytes()
        with self._ticker:
            self._step('do_setup', lambda: self._driver.do_setup(context))
            self._step('check_for_setup_error',
                       self._driver.check_for_setup_error)
            volumes = self._step(
                "Cinder's own load of the volumes",
                lambda: objects.VolumeList.get_all_by_host(
                    context, self._driver.host), cinders=True)
            self._step('update_provider_info', lambda:
                       self._driver.update_provider_info(volumes, []))
            self._step('ensure_export', lambda: self._export(volumes))
            self._step('set_initialized', self._driver.set_initialized)
            if self._bench.ours:
                self._step('first report', lambda:
                           self._driver.get_volume_stats(refresh=True))
                self._step('until all volumes are checked', self._checked,
                           serving=False)
        if self._bench.ours:
            self._bench.emit(operation='start', error=None,
                             cpu_ms=self._ours_ms, wall_ms=self._wall_ms)
        self._bench.emit(operation='memory after the start', error=None,
                         volumes=len(volumes),
                         bytes_held=self._resident_bytes() - before)

    def _step(self, name, action, cinders=False, serving=True):
        self._ticker.reset()
        wall, cpu = time.monotonic(), time.process_time()
        result = action()
        cpu_ms = (time.process_time() - cpu) * 1000
        wall_ms = (time.monotonic() - wall) * 1000
        longest_ms = self._ticker.longest_ms
        if not cinders:
            self._ours_ms += cpu_ms
            if serving:
                self._wall_ms += wall_ms
        self._bench.emit(operation=f'start: {name}', error=None,
                         cpu_ms=cpu_ms, wall_ms=wall_ms,
                         longest_ms=longest_ms)
        return result

    def _export(self, volumes):
        for volume in volumes:
            if volume.status == 'in-use':
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
