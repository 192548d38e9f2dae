# SPDX-License-Identifier: Apache-2.0
"""The balanced books of test_books.py on a real Cinder, through its API.

A shorter sequence: every step passes the API, the scheduler and the volume
service, and the pools are those that ``cinder get-pools`` shows.
"""

import random
import time

from pyVim import task as vim_task
from pyVmomi import vim

from sandbox.tests import sandbox_case
STEPS = 12


class BooksTestCase(sandbox_case.SandboxCase):
    """Random operations, then the figures and the hosts are compared."""

    def test_books_balance_after_a_random_sequence(self):
        choose = random.Random(20)
        self.volumes: list[str] = []
        self.create(choose)
        for _ in range(STEPS):
            step = choose.choice((self.create, self.clone, self.extend,
                                  self.retype, self.migrate, self.delete,
                                  self.move_from_outside))
            with self.subTest(step.__name__):
                step(choose)
        self.assert_balanced()
        for volume_id in self.volumes:
            self.cinder.volumes.delete(volume_id)
        for volume_id in self.volumes:
            self.clients.wait_until_gone(self.cinder.volumes, volume_id)
        self.volumes = []
        self.assert_balanced()

    def create(self, choose):
        made = self.cinder.volumes.create(
            choose.randint(1, 4), volume_type=choose.choice(
                ('thin', 'thick', 'eagerZeroedThick')))
        self.volumes.append(self.clients.settled_volume(made.id).id)

    def clone(self, choose):
        if self.volumes:
            source = choose.choice(self.volumes)
            made = self.cinder.volumes.create(None, source_volid=source)
            self.volumes.append(self.clients.settled_volume(made.id).id)

    def extend(self, choose):
        if self.volumes:
            volume = self.cinder.volumes.get(choose.choice(self.volumes))
            self.cinder.volumes.extend(volume, volume.size + 1)
            self.clients.settled_volume(volume.id)

    def retype(self, choose):
        if self.volumes:
            volume = self.cinder.volumes.get(choose.choice(self.volumes))
            other = choose.choice(sorted(
                {'thin', 'thick', 'eagerZeroedThick'}
                - {volume.volume_type}))
            self.cinder.volumes.retype(volume, other, 'never')
            self.clients.settled_volume(volume.id)

    def migrate(self, choose):
        if not self.volumes:
            return
        volume = self.cinder.volumes.get(choose.choice(self.volumes))
        here = getattr(volume, 'os-vol-host-attr:host')
        there = choose.choice(sorted(
            pool.name for pool in self.cinder.pools.list()
            if pool.name != here))
        self.cinder.volumes.migrate_volume(volume, there, False, False)
        self.wait_for(lambda: getattr(self.cinder.volumes.get(volume.id),
                                      'os-vol-host-attr:host') == there)

    def delete(self, choose):
        if len(self.volumes) > 1:
            volume_id = self.volumes.pop(choose.randrange(len(self.volumes)))
            self.cinder.volumes.delete(volume_id)
            self.clients.wait_until_gone(self.cinder.volumes, volume_id)

    def move_from_outside(self, choose):
        if not self.volumes:
            return
        machine = self.inspector.shadow_vms()[choose.choice(self.volumes)]
        entity = vim.VirtualMachine(machine.moref,
                                    self.inspector.service._stub)
        datacenter = self.inspector.content.rootFolder.childEntity[0]
        vim_task.WaitForTask(entity.RelocateVM_Task(vim.vm.RelocateSpec(
            datastore=choose.choice(list(datacenter.datastore)))))

    def wait_for(self, condition):
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.3)
        self.fail('it did not come to pass')

    def assert_balanced(self):
        # Cinder asks the driver every few seconds here.
        self.wait_for(lambda: self.reported() == self.true())
        hosts = {}
        for volume_id in self.volumes:
            volume = self.cinder.volumes.get(volume_id)
            hosts[volume_id] = getattr(
                volume, 'os-vol-host-attr:host').partition('#')[2]
        shadow_vms = self.inspector.shadow_vms()
        self.assertEqual(
            {volume_id: shadow_vms[volume_id].disks[0].datastore
             for volume_id in self.volumes}, hosts)

    def reported(self):
        return {pool.datastore: (
            pool.total_capacity_gb, pool.datastore_free_gb,
            int(pool.provisioned_capacity_gb))
            for pool in self.cinder.pools.list(detailed=True)}

    def true(self):
        return {name: (
            summary.capacity // sandbox_case.BYTES_PER_GIB,
            summary.freeSpace // sandbox_case.BYTES_PER_GIB,
            (summary.capacity - summary.freeSpace
             + (summary.uncommitted or 0)) // sandbox_case.BYTES_PER_GIB)
            for name, summary in self.inspector.datastores().items()}
