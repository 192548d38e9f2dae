# SPDX-License-Identifier: Apache-2.0
"""The inventory in memory equals the vCenter's, after any change."""

import itertools
import random
import subprocess
import sys
import threading
import time
from unittest import mock

from pyVmomi import vim

from cinder_vmdk_ext.inventory import cache
from cinder_vmdk_ext.tests.functional import live_view_case
from cinder_vmdk_ext.vsphere import updates

POLLED = live_view_case.POLLED


class ReadTestCase(live_view_case.LiveViewCase):

    def test_nothing_is_called_before_the_first_read(self):
        self.sim.reset_journal()
        time.sleep(0.2)
        self.assertEqual({}, self.calls())
        self.assertNotIn(live_view_case.POLLER, self.threads())

    def test_the_first_read_is_what_a_reader_tells(self):
        self.assertEqual(self.reader.read(), self.view.read())

    def test_the_first_read_takes_no_other_read(self):
        self.sim.reset_journal()
        self.view.read()
        self.assertNotIn('RetrievePropertiesEx', self.calls())

    def test_a_slow_first_read_takes_no_other_read(self):
        self.sim.reset_journal()
        self.sim.fault(method='WaitForUpdatesEx', delay_ms=1500)
        with mock.patch.object(cache, 'SYNC_SECONDS', 0.1):
            found = self.view.read()
        self.assertNotIn('RetrievePropertiesEx', self.calls())
        self.sim.reset_faults()
        self.assertEqual(self.reader.read(), found)

    def test_further_reads_take_no_call_and_give_the_same_object(self):
        first = self.view.read()
        self.sim.reset_journal()
        for _ in range(100):
            self.assertIs(first, self.view.read())
        self.assertEqual({}, self.calls())

    def test_what_did_not_change_is_the_same_object(self):
        before = self.view.read()
        self.datastore('LocalDS_1').RenameDatastore('Gold')
        self.addCleanup(self.datastore('Gold').RenameDatastore, 'LocalDS_1')
        self.until(lambda: self.view.read() is not before)
        self.assertFollows()
        changed = [moref for moref, each in self.view.read().datastores.items()
                   if each is not before.datastores[moref]]
        self.assertEqual(1, len(changed))

    def test_stop_destroys_the_collector_and_ends_the_thread(self):
        self.view.read()
        self.sim.reset_journal()
        self.stream.stop()
        self.until(lambda: live_view_case.POLLER not in self.threads())
        calls = self.calls()
        self.assertEqual((1, 1), (calls['DestroyPropertyCollector'],
                                  calls['DestroyView']))
        self.assertEqual(self.reader.read(), self.view.read(),
                         'after the end each read goes to the vCenter')

    def test_fifty_threads_read_at_once(self):
        found = []
        threads = [threading.Thread(
            target=lambda: found.append(self.view.read())) for _ in range(50)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        self.assertEqual(50, len(found))
        self.assertEqual(1, len({id(each) for each in found}))


class FollowTestCase(live_view_case.LiveViewCase):

    def test_space_that_a_disk_takes(self):
        before = self.synced()
        vm = self.make_vm('takes-space', disks_mib=[64])
        self.addCleanup(self.destroy, vm)
        for datastore in vm.datastore:
            datastore.RefreshDatastoreStorageInfo()
        self.assertFollows()
        self.assertNotEqual(before.datastores, self.view.known().datastores)

    def test_a_datastore_in_maintenance(self):
        self.synced()
        datastore = self.datastore('LocalDS_1')
        datastore.DatastoreEnterMaintenanceMode()
        self.addCleanup(datastore.DatastoreExitMaintenanceMode_Task)
        self.until(lambda: self.view.known().datastores[
            datastore._moId].maintenance_mode == 'inMaintenance')
        self.assertFollows()

    def test_a_mount_that_becomes_read_only(self):
        self.synced()
        datastore = self.datastore('LocalDS_2')
        mount = {'datastore': datastore.name,
                 'host': datastore.host[0].key.name}
        self.control('POST', '/mounts', mount | {'accessMode': 'readOnly'})
        self.addCleanup(self.control, 'POST', '/mounts',
                        mount | {'accessMode': 'readWrite'})
        key = datastore.host[0].key._moId
        self.until(lambda: key not in self.view.known().datastores[
            datastore._moId].usable_hosts)
        self.assertFollows()

    def test_a_member_that_joins_a_datastore_cluster(self):
        self.synced()
        datastore = self.datastore('LocalDS_3')
        pod = self.all(vim.StoragePod)[0]
        self.wait(pod.MoveIntoFolder_Task([datastore]))
        self.until(lambda: datastore._moId in self.view.known().storage_pods[
            pod._moId].datastores)
        self.assertFollows()

    def test_changes_that_come_together_share_calls(self):
        self.synced()
        datastore = self.datastore('LocalDS_1')
        self.addCleanup(datastore.RenameDatastore, 'LocalDS_1')
        self.sim.reset_journal()
        begun = time.monotonic()
        for number in range(20):
            datastore.RenameDatastore(f'name-{number}')
        self.assertFollows()
        calls = self.sim.journal()['methods']['WaitForUpdatesEx']['calls']
        self.assertLessEqual(calls, 2 + (
            time.monotonic() - begun) / updates.GATHER_SECONDS)

    def test_an_object_that_is_removed(self):
        self.synced()
        made = self.datacenter.datastoreFolder.CreateStoragePod('short-lived')
        self.until(lambda: made._moId in self.view.known().storage_pods)
        self.wait(made.Destroy_Task())
        self.until(lambda: made._moId not in self.view.known().storage_pods)
        self.assertFollows()


class Broken:
    """A reply of which a part has come, and then nothing or nonsense."""

    def __init__(self, reply, dice):
        self._reply = reply
        self._dice = dice

    def __getattr__(self, name):
        return getattr(self._reply, name)

    def stream(self, size):
        content = b''.join(self._reply.stream(size))
        yield content[:self._dice.randrange(len(content) - 20)]
        yield self._dice.choice((b'', b'<', b'</x>', b'\0', b'\xff\xfe'))


class FuzzTestCase(live_view_case.LiveViewCase):
    """Random changes, lost replies and lost sessions."""

    flags = live_view_case.LiveViewCase.flags | {'dc': 2}
    STEPS = 80

    def rename(self, dice):
        datastore = dice.choice(self.all(vim.Datastore))
        datastore.RenameDatastore(f'ds-{dice.randrange(1 << 30)}')

    def host_maintenance(self, dice):
        host = dice.choice(self.all(vim.HostSystem))
        self.wait(host.ExitMaintenanceMode_Task(0)
                  if host.runtime.inMaintenanceMode
                  else host.EnterMaintenanceMode_Task(0))

    def mount(self, dice):
        datastore = dice.choice(self.all(vim.Datastore))
        self.control('POST', '/mounts', {
            'datastore': datastore.name,
            'host': dice.choice(datastore.host).key.name,
            'accessMode': dice.choice(('readOnly', 'readWrite')),
            'accessible': dice.random() < 0.7})

    def datacenter_made(self, dice):
        empty = [each for each in self.all(vim.Datacenter)
                 if not each.datastore]
        if empty and dice.random() < 0.5:
            self.wait(dice.choice(empty).Destroy_Task())
        else:
            self.content.rootFolder.CreateDatacenter(
                f'dc-{dice.randrange(1 << 30)}')

    def member(self, dice):
        pod = self.all(vim.StoragePod)[0]
        # Of its own datacenter.
        outside = [each for each in pod.parent.childEntity
                   if isinstance(each, vim.Datastore)]
        if outside:
            self.wait(pod.MoveIntoFolder_Task([dice.choice(outside)]))

    def lost_reply(self, dice):
        self.sim.fault(method='WaitForUpdatesEx', count=1,
                       cut=dice.choice(('before', 'after')))
        self.rename(dice)

    def broken_reply(self, dice):
        """An answer of the long poll ends too soon, or is no XML."""
        real = self.http._post
        damaged = threading.Event()

        def post(method, *args, **kwargs):
            reply = real(method, *args, **kwargs)
            if method not in POLLED or damaged.is_set():
                return reply
            damaged.set()
            return Broken(reply, dice)
        name = dice.randrange(1 << 30)
        datastore = dice.choice(self.all(vim.Datastore))
        with mock.patch.object(self.http, '_post', post):
            # The first changes may be in the answer to an earlier request.
            self.until(lambda: damaged.wait(0.1)
                       or datastore.RenameDatastore(
                           f'ds-{name}-{next(self.numbers)}'))

    def lost_session(self, dice):
        ours = self.session._session_id
        self.client.content.sessionManager.TerminateSession([ours])

    def test_a_difference_outlives_no_update(self):
        dice = random.Random(7)
        self.numbers = itertools.count()
        # Both datacenters have datastores of the same names.
        for datastore in self.all(vim.Datastore):
            datastore.RenameDatastore(f'ds-{dice.randrange(1 << 30)}')
        self.synced()
        changes = (self.rename, self.rename, self.host_maintenance,
                   self.mount, self.mount, self.datacenter_made, self.member,
                   self.lost_reply, self.broken_reply, self.lost_session)
        for step in range(self.STEPS):
            change = dice.choice(changes)
            change(dice)
            with self.subTest(step=step, change=change.__name__):
                self.assertFollows(change.__name__)


class EventletTestCase(live_view_case.LiveViewCase):
    """The same under eventlet's monkey patching, in a process of its own."""

    PROGRAM = '''
from sandbox.embedded import patched
import eventlet
import sys, threading, time
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext.inventory import cache as inventory_cache
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext.vsphere import session, soap, updates
host, port, user, password, cacert = sys.argv[1:]
s = session.Session(host, user, password, 3, 0.5, port=int(port),
                    cacert=cacert, insecure=False)
http = soap.Client(s.https,
                   cooperative_yield=concurrency.cooperative_yield)
reader = inventory_reader.InventoryReader(s, http)
stream = updates.Stream(s, http)
view = inventory_cache.LiveView(stream, reader)
found = []
threads = [threading.Thread(target=lambda: found.append(view.read()))
           for _ in range(20)]
[t.start() for t in threads]; [t.join() for t in threads]
assert len({id(each) for each in found}) == 1, 'several views'
assert view.known() == reader.read()
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        eventlet.sleep(0.005)
eventlet.spawn(tick)
begun = time.monotonic()
while len(ticks) < 5:  # the long poll is in flight, for 20 s
    time.sleep(0.2)
    assert time.monotonic() - begun < 15, 'the poll blocks the others'
begun = time.monotonic()
stream.stop()
s.logout()
assert time.monotonic() - begun < 15, 'the end waits for the poll'
print('ok')
'''

    def test_greenthreads_share_the_view_and_run_beside_it(self):
        ended = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', self.PROGRAM,
             self.vcenter.host, str(self.vcenter.port), self.login.user,
             self.login.password, self.vcenter.cacert],
            capture_output=True, text=True, timeout=300)
        self.assertEqual('ok', ended.stdout.strip(), ended.stderr)
