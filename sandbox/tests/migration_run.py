# SPDX-License-Identifier: Apache-2.0
"""Generic migration between two vCenters, by real services of Cinder.

    make migration-run

Two backends in one cinder.conf lead to two simulated vCenters. Volumes are
migrated, and retyped, from the one to the other by Cinder's API; the content
is compared by checksums of the simulators, the rest by pyVmomi. Then the
services are killed in the middle of migrations.
"""

import contextlib
import json
import sys
import time
import unittest
import urllib.parse
import urllib.request

from cinderclient import exceptions

import sandbox
from sandbox import inspection
from sandbox import service_user
from sandbox.tests import sandbox_case
from simulator import client
from simulator import control

DATA = b'content that moves ' * 4096
PLACES = 0, 70 << 20
SECONDS = 180


class MigrationTestCase(sandbox_case.SandboxCase):

    SIMULATOR = ['-ds', '2', '-ds-capacity', '100GiB']

    @classmethod
    def setUpClass(cls):
        cls.far_vcenter = client.for_plugin(ds=2, ds_capacity='100GiB')
        cls.far_vcenter.start()
        cls.addClassCleanup(cls.far_vcenter.stop)
        login = service_user.of(cls.far_vcenter)
        cls.arguments = {'extra_backends': [sandbox.Backend('far', options={
            'vmware_host_ip': cls.far_vcenter.host,
            'vmware_host_port': cls.far_vcenter.port,
            'vmware_host_username': login.user,
            'vmware_host_password': login.password,
            'vmware_ca_file': cls.far_vcenter.cacert})]}
        super().setUpClass()
        # A type that names no backend: the scheduler allows both.
        cls.cinder.volume_types.create('anywhere').set_keys({
            'vmware:vmdk_type': 'thick', 'provisioning:type': 'thick'})
        cls.far_inspector = cls.enterClassContext(
            inspection.Inspector(cls.far_vcenter))
        cls.sides = {
            'vcenter': (cls.inspector, cls.sandbox.vcenter.control_url),
            'far': (cls.far_inspector, cls.far_vcenter.control_url)}

    def setUp(self):
        super().setUp()
        self.before = self.everything()
        self.addCleanup(self.assert_nothing_left)

    def everything(self):
        """All VMs and files of both vCenters."""
        return {name: ({each.name for each in inspector.machines()},
                       inspector.files())
                for name, (inspector, _url) in self.sides.items()}

    def assert_nothing_left(self):
        self.wait_for(lambda: self.everything() == self.before,
                      'something is left in a vCenter')
        self.assertEqual([], list(self.notes().glob('*.raw')))

    def notes(self):
        return (self.sandbox.folder / 'state' / 'vmdk-ext-backup'
                / 'migrations')

    @staticmethod
    def wait_for(condition, what):
        deadline = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(exceptions.ClientException):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise AssertionError(what)
            time.sleep(0.2)

    # -- Disks ---------------------------------------------------------------

    def request(self, side, method, what, volume_id, body=None, **query):
        inspector, url = self.sides[side]
        machine = inspector.shadow_vms()[volume_id]
        disk, = machine.disks
        datastore, _, path = disk.path[1:].partition('] ')
        query = urllib.parse.urlencode(
            {'datastore': datastore, 'path': path} | query)
        with urllib.request.urlopen(urllib.request.Request(
                f'{url}/disk{what}?{query}', data=body,
                method=method)) as reply:
            return reply.read()

    def checksum(self, side, volume_id):
        return json.loads(self.request(side, 'GET', '/checksum', volume_id,
                                       grains=1))['sha256']

    # -- Volumes -------------------------------------------------------------

    def create(self, **arguments):
        """Make a volume of the first backend with content."""
        while True:
            volume = self.cinder.volumes.create(
                1, metadata={'a': 'key'}, name='moves',
                **{'volume_type': 'anywhere'} | arguments)
            self.addCleanup(self.delete, volume.id)
            volume = self.clients.settled_volume(volume.id)
            if '@vcenter#' in getattr(volume, 'os-vol-host-attr:host'):
                break
            self.delete(volume.id)  # both backends have the type
        self.cinder.volumes.set_image_metadata(volume, {'os': 'kept'})
        for offset in PLACES:
            self.request('vcenter', 'PUT', '', volume.id, DATA,
                         offset=offset)
        return volume

    def delete(self, volume_id):
        with contextlib.suppress(exceptions.NotFound):
            self.cinder.volumes.delete(volume_id)
        self.clients.wait_until_gone(self.cinder.volumes, volume_id)

    def migrated(self, volume, pool='sandbox@far#LocalDS_1', lock=False):
        """Migrate a volume; return it when Cinder has ended that."""
        self.cinder.volumes.migrate_volume(volume, pool, False, lock)
        return self.ended(volume)

    def ended(self, volume):
        def has_ended():
            found = self.cinder.volumes.get(volume.id)
            return (found.migration_status in ('success', 'error')
                    and found.status in ('available', 'in-use'))
        self.wait_for(has_ended, 'the migration does not end')
        return self.cinder.volumes.get(volume.id)

    def assert_whole(self, volume, side, checksum):
        """The volume is on one side, and the other one has nothing of it."""
        host = getattr(volume, 'os-vol-host-attr:host')
        self.assertEqual(side, host.partition('@')[2].partition('#')[0])
        self.assertEqual('available', volume.status)
        self.assertEqual(checksum, self.checksum(side, volume.id))
        other, = set(self.sides) - {side}
        self.wait_for(lambda: self.everything()[other] == self.before[other],
                      'something is left on the other side')
        self.assertEqual([volume.id], [
            each.id for each in self.cinder.volumes.list(
                search_opts={'all_tenants': 1})])

    def test_there_and_back_and_all_that_a_volume_can_do(self):
        volume = self.create()
        before = self.checksum('vcenter', volume.id)
        began = time.monotonic()
        moved = self.migrated(volume, lock=True)
        print(f'1 GiB in {time.monotonic() - began:.1f} s', file=sys.stderr)
        self.assertEqual('success', moved.migration_status)
        self.assert_whole(moved, 'far', before)
        self.assertEqual(
            ({'a': 'key'}, 'kept', 'anywhere', 'moves'),
            (moved.metadata, moved.volume_image_metadata.get('os'),
             moved.volume_type, moved.name))
        disk, = self.far_inspector.shadow_vms()[moved.id].disks
        self.assertEqual(('thick', 'LocalDS_1'),
                         (disk.disk_type, disk.datastore))
        snapshot = self.cinder.volume_snapshots.create(moved.id)
        self.clients.settled_snapshot(snapshot.id)
        copied = self.cinder.volumes.create(1, snapshot_id=snapshot.id)
        self.clients.settled_volume(copied.id)
        self.assertEqual(before, self.checksum('far', copied.id))
        self.delete(copied.id)
        self.cinder.volume_snapshots.delete(snapshot)
        self.clients.wait_until_gone(self.cinder.volume_snapshots,
                                     snapshot.id)
        back = self.migrated(moved, 'sandbox@vcenter#LocalDS_0')
        self.assert_whole(back, 'vcenter', before)
        self.cinder.volumes.extend(back, 2)
        self.assertEqual(2, self.clients.settled_volume(back.id).size)

    def test_a_retype_on_demand(self):
        volume = self.create()
        before = self.checksum('vcenter', volume.id)
        self.cinder.volumes.retype(volume, 'far', 'on-demand')
        moved = self.ended(volume)
        self.assertEqual(('success', 'far'),
                         (moved.migration_status, moved.volume_type))
        self.assert_whole(moved, 'far', before)

    def test_a_failure_leaves_it_where_it_was(self):
        volume = self.create()
        before = self.checksum('vcenter', volume.id)
        far = control.Control(self.far_vcenter.control_url)
        self.addCleanup(far.reset_faults)
        for how in ({'method': 'ImportVApp'},
                    {'method': 'HttpNfcLeaseComplete'},
                    {'method': 'ReconfigVM_Task', 'skip': 2}):
            far.fault(fault={'type': 'InvalidState'}, count=1, **how)
            stays = self.migrated(volume)
            far.reset_faults()
            with self.subTest(how):
                self.assertEqual('error', stays.migration_status)
                self.assert_whole(stays, 'vcenter', before)

    def test_killed_in_each_state(self):
        """The services die when a note says so; the volume stays whole."""
        for state in 'asked', 'exporting', 'exported', 'written', 'imported':
            with self.subTest(state):
                volume = self.create()
                before = self.checksum('vcenter', volume.id)
                self.cinder.volumes.migrate_volume(
                    volume, 'sandbox@far#LocalDS_1', False, True)
                self.wait_for(lambda state=state: self.is_in(state),
                              f'no note says {state}')
                self.sandbox.restart_cinder(crash=True)
                found = self.ended(volume)
                side = getattr(found, 'os-vol-host-attr:host').partition(
                    '@')[2].partition('#')[0]
                print(f'killed when {state}: whole on {side}',
                      file=sys.stderr)
                self.assert_whole(found, side, before)
                if side == 'vcenter':
                    self.assert_whole(self.migrated(found), 'far', before)
                self.delete(volume.id)

    def is_in(self, state):
        order = ['asked', 'exporting', 'exported', 'read', 'written',
                 'imported']
        for path in self.notes().glob('*.json'):
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(path.read_text())['state']
                if (found in order
                        and order.index(found) >= order.index(state)):
                    return True
        return False


if __name__ == '__main__':
    unittest.main()
