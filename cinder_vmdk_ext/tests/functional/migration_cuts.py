# SPDX-License-Identifier: Apache-2.0
"""Breaks migrations between two vCenters off, at every call.

``make migration-run`` runs it. The calls are those that change something in
either vCenter, and the messages between the two services. As in the crash
matrix, a service is killed before or after a call, or a call's request or
reply is lost. Then the killed service starts again. A case is right if the
volume is available, on one side, with its content; if the audit finds nothing
but what a sweep may move; and if a volume that stayed can then be migrated.
"""

import contextlib
import copy
import re
import sys
import threading
import time
import unittest
from unittest import mock

import oslo_messaging

from cinder import objects

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import quarantine
from cinder_vmdk_ext.tests.functional import crash_matrix
from cinder_vmdk_ext.tests.functional import migration_case
from cinder_vmdk_ext.volumes import backups

MOST_CALLS = 30
#: Messages without a reply.
CASTS = 'create_volume', 'delete_volume'
Killed = crash_matrix.Killed


class Calls(migration_case.Calls):
    """Messages between services that may be dead."""

    def __init__(self, services):
        super().__init__(services)
        #: Hosts whose service is dead, and messages that wait for it.
        self.dead, self.queue = set(), []
        self.lost = Exception, Killed

    def _service(self, volume, name):
        if migration_case.HOST in self.dead:
            raise Killed  # it makes no calls any more
        service = super()._service(volume, name)
        if volume.host.partition('#')[0] in self.dead:
            raise oslo_messaging.MessagingTimeout(name)
        return service

    @contextlib.contextmanager
    def _answered(self):
        """The caller of a service that is killed meets a timeout."""
        try:
            yield
        except Killed:
            if migration_case.HOST in self.dead:
                raise
            raise oslo_messaging.MessagingTimeout('no reply') from None

    def initialize_connection(self, *args, **kwargs):
        with self._answered():
            return super().initialize_connection(*args, **kwargs)

    def terminate_connection(self, *args, **kwargs):
        with self._answered():
            super().terminate_connection(*args, **kwargs)

    def update_migrated_volume(self, *args, **kwargs):
        with self._answered():
            super().update_migrated_volume(*args, **kwargs)

    def delete_volume(self, context, volume):
        if migration_case.HOST in self.dead:
            raise Killed
        if volume.host.partition('#')[0] in self.dead:
            self.queue.append(copy.deepcopy(volume))
        else:
            super().delete_volume(context, volume)

    def deliver(self, context):
        """What a service finds in its queue when it starts."""
        waiting, self.queue = self.queue, []
        for each in waiting:
            self.delete_volume(context, each)


class CutsTestCase(migration_case.MigrationCase):

    def setUp(self):
        super().setUp()
        self.calls = Calls(self.calls.services)
        # No call waits for an import that was killed.
        self.enterContext(mock.patch.object(backups, '_PART', 0))
        self.enterContext(mock.patch.object(
            threading, 'excepthook', lambda args: None))
        self.counts = {}

    # -- Cutting off ---------------------------------------------------------

    @contextlib.contextmanager
    def killing(self, side, mode, call, hit):
        """Kill a side's service at a call to its vCenter."""
        driver = side.driver
        session, end = driver.session, driver.terminate_connection
        real = session.invoke_api

        def invoke(module, method, *args, **kwargs):
            if hit['method']:
                raise Killed
            name = args[0] if method == 'call' else method
            if not re.fullmatch(crash_matrix.CHANGING, str(name)):
                return real(module, method, *args, **kwargs)
            hit['count'] += 1
            if hit['count'] <= call:
                return real(module, method, *args, **kwargs)
            hit['method'] = name
            self.calls.dead.add(side.HOST)
            if mode == 'killed after':
                real(module, method, *args, **kwargs)
            raise Killed

        def ended(*args, **kwargs):
            if hit['method']:
                raise Killed
            return end(*args, **kwargs)

        session.invoke_api = invoke
        with mock.patch.object(driver, 'terminate_connection', ended):
            try:
                yield
            finally:
                del session.invoke_api

    @contextlib.contextmanager
    def losing(self, side, mode, call, hit):
        """Lose the request or the reply of a call to a side's vCenter."""
        rule = side.control.fault(
            method=crash_matrix.CHANGING, skip=call, count=1,
            cut='before' if mode == 'request lost' else 'after')
        try:
            yield
        finally:
            if any(each['id'] == rule['id'] and each['hits']
                   for each in side.control.faults()):
                hit['method'] = 'call'
            side.control.remove_fault(rule)

    @contextlib.contextmanager
    def silenced(self, _side, mode, call, hit):
        """Kill the source at a message, or let a call time out."""
        left = [call]

        def look(name):
            if mode == 'call lost' and name in CASTS:
                return  # its sender waits for no reply
            left[0] -= 1
            if left[0] == -1:
                hit['method'] = name
                if mode == 'call lost':
                    raise oslo_messaging.MessagingTimeout(name)
                self.calls.dead.add(migration_case.HOST)
                raise Killed
        self.calls.meanwhile = look
        try:
            yield
        finally:
            self.calls.meanwhile = lambda name: None

    # -- A case --------------------------------------------------------------

    def run_case(self, cut, side, mode, call):
        """One case.

        :returns: what was cut off; None: there is no such call
        """
        volume = self.filled()
        before = self.checksum(volume)
        hit = {'method': None, 'count': 0}
        with contextlib.suppress(Exception, Killed), cut(
                side, mode, call, hit):
            self.migrate(volume)
        self.recover()
        self.check(volume, before)
        found = self.fresh(volume)
        if hit['method'] and self.side_of(found) is self:
            self.migrate(found)
            self.check(found, before)
            self.assertIs(self.far, self.side_of(self.fresh(found)))
            self.counts['stayed'] = self.counts.get('stayed', 0) + 1
        self.remove_all()
        return hit['method']

    def side_of(self, volume):
        return (self if volume.host.startswith(f'{migration_case.HOST}#')
                else self.far)

    def recover(self):
        """Start dead services again, and let everything come to rest."""
        for side in self, self.far:
            for task in side.service.content.taskManager.recentTask[-4:]:
                with contextlib.suppress(Exception):
                    while task.info.state in ('queued', 'running'):
                        time.sleep(0.05)
        dead, self.calls.dead = self.calls.dead, set()
        for side in self.far, self:
            if side.HOST in dead:
                self.restart(side)
        self.calls.deliver(self.context)
        for each in objects.VolumeList.get_all(self.context):
            if each.status == 'error_deleting':
                # An administrator deletes it again.
                self.calls.delete_volume(self.context, each)
        deadline = time.monotonic() + 120
        while not self.rests() and time.monotonic() < deadline:
            time.sleep(0.05)

    def rests(self):
        self.sweep()
        return all(each.status == 'available' and each.migration_status in (
            None, 'success', 'error') for each
            in objects.VolumeList.get_all(self.context))

    def check(self, volume, checksum):
        found = self.fresh(volume)
        self.assertEqual(
            [(volume.id, 'available', None)],
            [(each.id, each.status, each._name_id) for each
             in objects.VolumeList.get_all(self.context)])
        side = self.side_of(found)
        truth = side.truth(found)
        self.assertEqual(checksum, side.checksum(found))
        self.assertEqual(volume.id, truth.disk.backing.uuid)
        for each in self, self.far:
            self.check_rest(each)
        self.assertEqual(checksum, side.checksum(found))
        self.assertEqual([], self.files())

    def check_rest(self, side):
        """The audit finds nothing but what a sweep may move."""
        side.reconcile()
        found = self.look(side)
        self.assertEqual([], [each for each in found
                              if not each.sweepable or not each.owner])
        mover = quarantine.Quarantine(side.driver.backend)
        for each in found:
            mover.move(each)
        self.assertEqual([], self.look(side))
        self.counts['leftovers'] = (
            self.counts.get('leftovers', 0) + len(found))

    @staticmethod
    def look(side):
        return [each for each in compare.compare(collect.EvidenceReader(
            side.driver.backend).read()) if each.kind != 'quarantined']

    def remove_all(self):
        for each in objects.VolumeList.get_all(self.context):
            each.destroy()
        for side in self, self.far:
            side._remove_shadow_vms()

    def run_all(self, cut, side, modes):
        cases = 0
        for mode in modes:
            for call in range(MOST_CALLS):
                with self.subTest(mode=mode, call=call, host=side.HOST):
                    method = self.run_case(cut, side, mode, call)
                    print(f'{side.HOST}, {mode}, call {call + 1}: {method}',
                          file=sys.stderr, flush=True)
                    if method is None:
                        break
                    cases += 1
        print(f'{cases} cases, {self.counts}', file=sys.stderr)

    def test_the_source_is_killed(self):
        self.run_all(self.killing, self, crash_matrix.MODES[:2])

    def test_the_destination_is_killed(self):
        self.run_all(self.killing, self.far, crash_matrix.MODES[:2])

    def test_calls_of_the_source_are_lost(self):
        self.run_all(self.losing, self, crash_matrix.MODES[2:])

    def test_calls_of_the_destination_are_lost(self):
        self.run_all(self.losing, self.far, crash_matrix.MODES[2:])

    def test_at_each_message(self):
        self.run_all(self.silenced, self, ('killed', 'call lost'))


def load_tests(loader, tests, pattern):
    """They have a run of their own (``make migration-run``)."""
    return unittest.TestSuite() if pattern else tests


if __name__ == '__main__':
    unittest.main()
