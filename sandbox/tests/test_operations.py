# SPDX-License-Identifier: Apache-2.0
"""What upstream lacks, through the real API and the real scheduler."""

import functools
import json
import os
import re
import subprocess
import sys
import time
import uuid

from pyVim import task
from pyVmomi import vim

from sandbox import attachments
from sandbox.tests import qos_case
from sandbox.tests import sandbox_case


class OperationsTestCase(qos_case.QosCase, sandbox_case.SandboxCase):
    """migrate, retype, manage, revert, extend in use, groups, transfer."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.attacher = attachments.Attacher(cls.clients, cls.inspector)

    def setUp(self):
        super().setUp()
        self.made = []
        self.before = set(self.inspector.shadow_vms())
        self.addCleanup(self.assert_nothing_left)
        self.addCleanup(self.delete_made)

    def delete_made(self):
        for collection, resource in reversed(self.made):
            resource.delete()
            self.clients.wait_until_gone(collection, resource.id)

    def assert_nothing_left(self):
        self.assertEqual(self.before, set(self.inspector.shadow_vms()))

    def keep(self, collection, resource):
        self.made.append((collection, resource))
        return resource

    def create(self, **arguments):
        volume = self.keep(self.cinder.volumes, self.cinder.volumes.create(
            **({'size': 1, 'volume_type': 'thin'} | arguments)))
        return self.clients.settled_volume(volume.id)

    def settle(self, volume, *statuses):
        """Wait for a status; Cinder goes through several."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            volume = self.cinder.volumes.get(volume.id)
            if volume.status in statuses:
                return volume
            time.sleep(0.3)
        self.fail(f'{volume.id} is {volume.status}, not {statuses}')

    @staticmethod
    def host(volume):
        return getattr(volume, 'os-vol-host-attr:host')

    def disk(self, volume):
        disk, = self.inspector.shadow_vms()[volume.id].disks
        self.assertEqual(self.host(volume).partition('#')[2], disk.datastore)
        return disk

    def another_pool(self, volume):
        return next(pool.name for pool in self.cinder.pools.list()
                    if pool.name != self.host(volume))

    def test_migrate(self):
        volume = self.create()
        there = self.another_pool(volume)
        self.clients.cinder('migrate', volume.id, there)
        deadline = time.monotonic() + 240
        while self.host(volume) != there and time.monotonic() < deadline:
            time.sleep(0.3)
            volume = self.cinder.volumes.get(volume.id)
        self.assertEqual(there, self.host(volume))
        self.disk(volume)

    def test_retype_on_demand(self):
        volume = self.create()
        self.clients.cinder('retype', '--migration-policy', 'on-demand',
                            volume.id, 'eagerZeroedThick')
        volume = self.settle(volume, 'available')
        self.assertEqual('eagerZeroedThick', volume.volume_type)
        self.assertEqual('eagerZeroedThick', self.disk(volume).disk_type)

    def test_revert_to_snapshot(self):
        volume = self.create()
        snapshot = self.keep(self.cinder.volume_snapshots,
                             self.cinder.volume_snapshots.create(volume.id))
        self.clients.settled_snapshot(snapshot.id)
        before = self.disk(volume).path
        self.clients.cinder('--os-volume-api-version', '3.40',
                            'revert-to-snapshot', snapshot.id)
        volume = self.settle(volume, 'available')
        self.assertNotEqual(before, self.disk(volume).path)

    def test_extend_in_use(self):
        volume = self.create()
        attachment = self.attacher.attach(volume.id,
                                          self.attacher.instances()[0])
        self.settle(volume, 'in-use')
        self.clients.cinder('--os-volume-api-version', '3.42', 'extend',
                            volume.id, '2')
        deadline = time.monotonic() + 240
        while volume.size != 2 and time.monotonic() < deadline:
            time.sleep(0.3)
            volume = self.cinder.volumes.get(volume.id)
        self.assertEqual(2, volume.size)
        self.assertEqual(2 * sandbox_case.BYTES_PER_GIB,
                         self.disk(volume).size_bytes)
        self.attacher.detach(attachment)
        self.settle(volume, 'available')

    def test_transfer(self):
        volume = self.create()
        transfer = self.cinder.transfers.create(volume.id)
        self.cinder.transfers.accept(transfer.id, transfer.auth_key)
        volume = self.settle(volume, 'available')
        self.disk(volume)

    def test_unmanage_and_manage_again(self):
        volume = self.create()
        machine = self.inspector.shadow_vms()[volume.id]
        path, host = machine.disks[0].path, self.host(volume)
        self.cinder.volumes.unmanage(volume.id)
        self.clients.wait_until_gone(self.cinder.volumes, volume.id)
        self.made.clear()
        listed = self.clients.cinder('--os-volume-api-version', '3.8',
                                     'manageable-list', host)
        self.assertIn(machine.name, listed)
        reference = f'{path}@/DC0/vm/{self._inventory_path(machine)}'
        name = f'managed-{uuid.uuid4()}'
        self.clients.cinder('manage', '--name', name, '--volume-type', 'thin',
                            host, reference)
        found, = [each for each in self.cinder.volumes.list()
                  if each.name == name]
        self.keep(self.cinder.volumes, found)
        found = self.settle(found, 'available')
        self.assertEqual(1, found.size)
        self.disk(found)

    def test_a_disk_of_a_list_is_adopted(self):
        volume = self.create()
        machine = self.inspector.shadow_vms()[volume.id]
        self.cinder.volumes.unmanage(volume.id)
        self.clients.wait_until_gone(self.cinder.volumes, volume.id)
        self.made.clear()
        path = self._inventory_path(machine)
        rows = [{'source_name': f'{machine.disks[0].path}@/DC0/vm/{path}',
                 'name': 'adopted', 'type': 'thin'}]
        done = self._adopted(rows)
        self.assertEqual('managed', done['done'])
        found = self.cinder.volumes.get(done['id'])
        self.keep(self.cinder.volumes, found)
        self.assertEqual(('adopted', 'available', 1),
                         (found.name, found.status, found.size))
        self.disk(found)

    def _adopted(self, rows):
        """As an operator does it, with openstacksdk."""
        return self.command('volume', 'adopt', '-', '--yes',
                            input=json.dumps(rows))[0]

    def command(self, *words, status=0, input=''):
        """What a command of ours says, in a process beside the services."""
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'cinder_vmdk_ext.cmd.main',
             *words, '--format', 'json', '--config-file',
             str(self.sandbox.cinder_conf)],
            input=input, capture_output=True, text=True, env=os.environ
            | self.clients.environments['openstack'])
        self.assertEqual((status, ''), (done.returncode, done.stderr), done)
        return json.loads(done.stdout)

    # -- Records are mended through the API -----------------------------------

    def machine(self, volume):
        return vim.VirtualMachine(
            self.inspector.shadow_vms()[volume.id].moref,
            self.inspector.service._stub)

    def test_the_record_of_what_is_gone_is_removed_by_the_api_alone(self):
        volume = self.create()
        task.WaitForTask(self.machine(volume).Destroy_Task())
        words = ('repair', volume.id, '--yes')
        self.cinder.volumes.reset_state(volume, 'maintenance')
        row, = self.command(*words, status=1)
        self.assertRegex(row['done'], r'\Afailed: .*status')
        self.assertEqual('maintenance',
                         self.cinder.volumes.get(volume.id).status)
        self.cinder.volumes.reset_state(volume, 'available')
        row, = self.command(*words)
        self.assertEqual('repaired: its record is removed', row['done'])
        self.assertEqual([], [each for each in self.cinder.volumes.list()
                              if each.id == volume.id])
        self.made.clear()

    def test_a_volume_that_was_relinked_is_whole_by_the_api(self):
        volume = self.create()
        machine = self.machine(volume)
        task.WaitForTask(machine.ReconfigVM_Task(vim.vm.ConfigSpec(
            name=f'rescued {volume.id[:8]}', instanceUuid=str(uuid.uuid4()))))
        done = self.command('volume', 'relink', volume.id, '--vm',
                            machine._moId, '--yes')
        self.assertEqual('relinked', done['done'])
        self.cinder.volumes.extend(volume, 2)
        volume = self.settle(volume, 'available')
        self.assertEqual((2, 2 * sandbox_case.BYTES_PER_GIB),
                         (volume.size, self.disk(volume).size_bytes))

    def test_unmanage_a_snapshot_and_manage_it_again(self):
        volume = self.create()
        snapshot = self.cinder.volume_snapshots.create(volume.id)
        self.clients.settled_snapshot(snapshot.id)
        name = f'snapshot-{snapshot.id}'
        self.clients.cinder('--os-volume-api-version', '3.8',
                            'snapshot-unmanage', snapshot.id)
        self.clients.wait_until_gone(self.cinder.volume_snapshots,
                                     snapshot.id)
        listed = self.clients.cinder('--os-volume-api-version', '3.8',
                                     'snapshot-manageable-list',
                                     self.host(volume))
        line = next(line for line in listed.splitlines() if name in line)
        reference = re.search("'source-id': '([^']*)'", line).group(1)
        self.clients.cinder('--os-volume-api-version', '3.8',
                            'snapshot-manage', '--name', 'again',
                            '--id-type', 'source-id', volume.id, reference)
        found, = [each for each in self.cinder.volume_snapshots.list()
                  if each.volume_id == volume.id]
        self.keep(self.cinder.volume_snapshots, found)
        self.clients.settled_snapshot(found.id)
        copy = self.create(volume_type=None, snapshot_id=found.id)
        self.disk(copy)

    def test_group_snapshot(self):
        run = functools.partial(self.clients.cinder,
                                '--os-volume-api-version', '3.14')
        run('group-type-create', 'together')
        run('group-create', '--name', 'pair', 'together', 'thin')
        self.wait_until('available', 'group-list', 'pair')
        group = self._id(run('group-list'), 'pair')
        for name in ('one', 'two'):
            run('create', '--group-id', group, '--volume-type', 'thin',
                '--name', name, '1')
        members = [each for each in self.cinder.volumes.list()
                   if each.name in ('one', 'two')]
        for each in members:
            self.disk(self.clients.settled_volume(each.id))
        run('group-snapshot-create', '--name', 'both', group)
        self.wait_until('available', 'group-snapshot-list', 'both')
        run('group-snapshot-delete',
            self._id(run('group-snapshot-list'), 'both'))
        self.wait_until(None, 'group-snapshot-list', 'both')
        run('group-delete', '--delete-volumes', group)
        for each in members:
            self.clients.wait_until_gone(self.cinder.volumes, each.id)

    def wait_until(self, status, command, name):
        """Wait for a status in a client's list; None: not listed."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            line = next((line for line in self.clients.cinder(
                '--os-volume-api-version', '3.14', command).splitlines()
                if f' {name} ' in line), None)
            if line is None if status is None else status in (line or ''):
                return
            time.sleep(0.5)
        self.fail(f'{name} is not {status}: {line}')

    @staticmethod
    def _id(table, name):
        line = next(line for line in table.splitlines() if f' {name} ' in line)
        return line.split('|')[1].strip()

    def _inventory_path(self, machine):
        entity = vim.VirtualMachine(machine.moref,
                                    self.inspector.service._stub)
        names = []
        while not isinstance(entity.parent, vim.Datacenter):
            names.append(entity.name)
            entity = entity.parent
        return '/'.join(reversed(names))

    # -- Causes reach people ------------------------------------------------

    def type_with(self, **specs):
        """A new volume type of the backend ``vcenter``."""
        made = self.cinder.volume_types.create(uuid.uuid4().hex)
        thin = self.cinder.volume_types.find(name='thin').get_keys()
        made.set_keys(thin | {f'vmware:{key}': value
                              for key, value in specs.items()})
        return made

    def logged(self, volume):
        """The lines of the plugin's own about a volume."""
        return [line for line
                in self.sandbox.cinder_log.read_text().splitlines()
                if ' cinder_vmdk_ext.' in line and volume.id in line]

    def test_a_misspelt_extra_spec_ends_in_one_attempt_and_one_sentence(self):
        wrong = self.type_with(vmdk_typ='thick')
        volume = self.keep(self.cinder.volumes, self.cinder.volumes.create(
            1, volume_type=wrong.name))
        self.settle(volume, 'error')
        lines = self.logged(volume)
        self.assertEqual(1, sum('create_volume of' in line
                                and 'begins' in line for line in lines))
        sentence, = [line for line in lines if ' ERROR ' in line]
        self.assertIn('extra spec vmware:vmdk_typ has the value', sentence)
        self.assertIn('write vmware:vmdk_type', sentence)
        # What the tenant finds: one message, of this volume.
        message, = [each for each in self.clients.openstack_json(
            'volume', 'message', 'list') if each['Resource UUID'] == volume.id]
        self.assertIn('Driver failed to create the volume',
                      message['User Message'])

    def test_an_operation_is_a_line_at_its_begin_and_one_at_its_end(self):
        volume = self.create()
        first, last = [line for line in self.logged(volume)
                       if 'create_volume of' in line]
        self.assertIn('begins', first)
        self.assertRegex(last, r'is done after \d+\.\d s, on '
                         + re.escape(self.host(volume)))

    def test_capabilities_list_what_a_volume_type_may_ask_for(self):
        found = self.cinder.capabilities.get('sandbox@vcenter')
        self.assertEqual({
            'vmware:vmdk_type', 'vmware:adapter_type', 'vmware:clone_type',
            'vmware:storage_profile', 'vmware:qos_specs'}, {
                name for name in found.properties
                if name.startswith('vmware:')})
        self.assertEqual(['thin', 'thick', 'eagerZeroedThick'],
                         found.properties['vmware:vmdk_type']['enum'])
