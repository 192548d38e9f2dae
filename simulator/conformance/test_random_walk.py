# SPDX-License-Identifier: Apache-2.0
"""Machines, snapshots, clones and moves in any order: every disk and every snapshot keeps the content that a model in memory has."""

import hashlib
import os
import random

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB

SIZE = 2 * MIB
STEPS = 60
MOVES = (None, 'moveAllDiskBackingsAndAllowSharing', 'moveAllDiskBackingsAndDisallowSharing',
         'moveAllDiskBackingsAndConsolidate', 'moveChildMostDiskBacking')


class Machine:
    """What a machine's disk, and its snapshots, are to hold."""

    def __init__(self, vm, content):
        self.vm = vm
        self.content = content
        self.snapshots = {}  # reference -> content


class RandomWalkTestCase(storage_case.StorageCase):

    flags = {'ds': 3, 'vm': 0, 'ds_capacity': '1GiB', 'ds_mount_all': True}

    def walk(self, seed):
        self.random = random.Random(seed)
        self.machines = []
        self.count = 0
        self.history = []
        try:
            for _ in range(STEPS):
                self.step()
            while self.machines:
                self.history.append('drop')
                machine = self.random.choice(self.machines)
                self.history[-1] += ' ' + machine.vm.name
                self.drop(machine)
                self.check()
            self.assertEqual({1 << 30}, {self.free(f'LocalDS_{i}') for i in range(3)})
        except Exception:
            print(f'seed {seed}:', *self.history, sep='\n  ')
            raise

    def step(self):
        actions = [self.make] if not self.machines else [
            self.write, self.write, self.write, self.snap, self.snap, self.revert, self.unsnap, self.unsnap, self.clone_one,
            self.link, self.link, self.move, self.move, self.grow]
        if len(self.machines) > 5:
            actions.append(self.drop)
        action = self.random.choice(actions)
        self.history.append(action.__name__)
        if self.machines and action != self.make:
            machine = self.random.choice(self.machines)
            self.history[-1] += ' ' + machine.vm.name
            action(machine)
        else:
            action()
        self.check()

    def check(self):
        self.check_space()
        self.check_files()
        for machine in self.machines:
            self.assertEqual(hashlib.sha256(machine.content).hexdigest(), self.checksum(self.path_of(machine.vm)), machine.vm.name)
            for snapshot, content in machine.snapshots.items():
                disk = next(d for d in snapshot.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk))
                self.assertEqual(hashlib.sha256(content).hexdigest(), self.checksum(disk.backing.fileName),
                                 f'{machine.vm.name} {snapshot._moId}')

    def check_files(self):
        """No file that a machine needs is missing, and no file is there that is not needed."""
        needed = {file.name for machine in self.machines for file in machine.vm.layoutEx.file}
        there = sum(each['files'] for each in self.control('GET', '/space')['datastores'])
        self.assertEqual(len(needed), there)

    def name(self):
        self.count += 1
        return f'w{self.random.randrange(1 << 30):08x}-{self.count}'

    def any_datastore(self):
        return self.datastore(f'LocalDS_{self.random.randrange(3)}')

    # The actions

    def make(self):
        vm = self.make_vm(self.name(), self.any_datastore().name)
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            self.new_disk(SIZE // MIB, 0, thinProvisioned=self.random.random() < 0.7)])))
        self.machines.append(Machine(vm, bytes(SIZE)))

    def write(self, machine):
        offset = self.random.randrange(SIZE)
        data = self.random.randbytes(min(self.random.choice((1, 700, 70000, MIB)), SIZE - offset))
        if self.random.random() < 0.2:
            data = bytes(len(data))
        self.assertEqual(204, self.guest_writes(self.path_of(machine.vm), data, offset))
        machine.content = machine.content[:offset] + data + machine.content[offset + len(data):]

    def snap(self, machine):
        machine.snapshots[self.snapshot(machine.vm, self.name())] = machine.content

    def revert(self, machine):
        if machine.snapshots:
            snapshot = self.random.choice(list(machine.snapshots))
            self.wait(snapshot.RevertToSnapshot_Task())
            machine.content = machine.snapshots[snapshot]

    def unsnap(self, machine):
        if not machine.snapshots:
            return
        if self.random.random() < 0.2:
            self.wait(machine.vm.RemoveAllSnapshots_Task())
        else:
            self.wait(self.random.choice(list(machine.snapshots)).RemoveSnapshot_Task(
                removeChildren=self.random.random() < 0.3, consolidate=self.random.random() < 0.8))
        left = set()
        stack = list(machine.vm.snapshot.rootSnapshotList) if machine.vm.snapshot else []
        while stack:
            node = stack.pop()
            left.add(node.snapshot)
            stack.extend(node.childSnapshotList)
        machine.snapshots = {ref: content for ref, content in machine.snapshots.items() if ref in left}

    def clone_one(self, machine):
        snapshot = self.random.choice([None, *machine.snapshots])
        clone, _ = self.clone(machine.vm, self.name(), snapshot=snapshot, datastore=self.any_datastore())
        self.machines.append(Machine(clone, machine.snapshots.get(snapshot, machine.content)))

    def link(self, machine):
        if machine.snapshots:
            snapshot = self.random.choice(list(machine.snapshots))
            clone, _ = self.clone(machine.vm, self.name(), snapshot=snapshot, datastore=self.any_datastore(),
                                  diskMoveType='createNewChildDiskBacking')
            self.machines.append(Machine(clone, machine.snapshots[snapshot]))

    def move(self, machine):
        self.wait(machine.vm.Relocate(vim.vm.RelocateSpec(
            datastore=self.any_datastore(), diskMoveType=self.random.choice(MOVES))))

    def grow(self, machine):
        """A disk with parents is refused; another keeps what it has."""
        disk = self.disks(machine.vm)[0]
        disk.capacityInKB, disk.capacityInBytes = len(machine.content) // 1024 + 1024, None
        task = machine.vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)]))
        if self.disks(machine.vm)[0].backing.parent is None and not machine.snapshots:
            self.wait(task)
            machine.content += bytes(MIB)
        else:
            self.fault_of(task)

    def drop(self, machine):
        self.destroy(machine.vm)
        self.machines.remove(machine)


def _walks():
    """RANDOM_WALKS=FROM:TO walks other seeds."""
    first, last = (int(n) for n in os.environ.get('RANDOM_WALKS', '30:32').split(':'))
    for seed in range(first, last):
        def walk(self, seed=seed):
            self.walk(seed)
        setattr(RandomWalkTestCase, f'test_seed_{seed}', walk)


_walks()
