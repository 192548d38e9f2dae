# SPDX-License-Identifier: Apache-2.0
"""Books that balance, after any sequence of operations and outside changes.

After every few steps, and at the end, each pool's figures are the vCenter's
own, every volume's host names the datastore of its disk, every disk contains
the data that was written to it last, and every object in the vCenter belongs
to a known owner.
"""

import os
import time
from unittest import mock

import hypothesis
from hypothesis import stateful
from hypothesis import strategies
from oslo_utils import units
from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder import exception

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import reservations
from cinder_vmdk_ext.tests.functional import backend_case
from simulator import control
from simulator import observer
from simulator.actors import vcenter

EXAMPLES = int(os.environ.get('BOOKS_EXAMPLES', '3'))
STEPS = int(os.environ.get('BOOKS_STEPS', '15'))
# A check of everything costs as much as many a step.
STEPS_A_CHECK = int(os.environ.get('BOOKS_STEPS_A_CHECK', '3'))
READ = 4 * units.Ki
NAMES = ('LocalDS_0', 'LocalDS_1', 'LocalDS_2')
# What may be refused, and then has to change nothing.
REFUSALS = (exceptions.NoPlacement, vmware_exceptions.NoDiskSpaceException,
            exception.InvalidVolume, exception.InvalidSnapshot)
# Where others find none.
NO_SPACE = (vim.fault.NoDiskSpace, vim.fault.FileFault, control.ControlError)


class Books(stateful.RuleBasedStateMachine):
    """Random operations on volumes, and random changes behind our back."""

    case: backend_case.BackendCase
    steps_a_check = STEPS_A_CHECK

    volumes = stateful.Bundle('volumes')
    snapshots = stateful.Bundle('snapshots')

    def __init__(self):
        super().__init__()
        self.content = {}
        self.attached = {}
        self.alive = {}
        self.snaps = {}
        self.renamed = 0
        self.fillers = []
        self.written = 0
        self.steps = 0
        self.unchecked = False

    # -- Words --------------------------------------------------------------

    def datastore_name(self, number):
        """One of the datastores' names that there are now."""
        names = sorted(datastore.name for datastore
                       in self.case.all(vim.Datastore))
        return names[number % len(names)]

    def pool(self, number):
        """One of the pools that there are now."""
        return self.datastore_name(number).replace('#', '%23')

    def _usable(self, volume):
        return volume.id in self.alive

    def _fresh(self, volume):
        found = self.case.fresh(volume)
        if volume.id in self.attached:
            found.volume_attachment  # loads it
        return found

    def _add(self, volume, content):
        self.alive[volume.id] = volume
        self.content[volume.id] = content
        return volume

    def _write(self, volume):
        self.written += 1
        data = backend_case.content(self.written, READ)
        self.case.write_to(self.path(volume), data)
        self.content[volume.id] = data

    def path(self, volume):
        """The file that guests write to."""
        return self.case.truth(volume).path

    # -- What users do ------------------------------------------------------

    @stateful.rule(target=volumes, pool=strategies.integers(0, 3),
                   kind=strategies.sampled_from(('thin', 'thick')),
                   size=strategies.integers(1, 3))
    def create(self, pool, kind, size):
        volume = self.case.new_volume(self.pool(pool), size,
                                      self.case.types[kind]['id'])
        try:
            self.case.made(volume, self.case.driver.create_volume(volume))
        except REFUSALS:
            volume.destroy()
            return stateful.multiple()
        self._add(volume, b'')
        self._write(volume)
        return volume

    @stateful.rule(volume=volumes)
    def write(self, volume):
        if self._usable(volume):
            self._write(volume)

    @stateful.rule(target=volumes, volume=volumes,
                   pool=strategies.integers(0, 3))
    def clone(self, volume, pool):
        if not self._usable(volume):
            return stateful.multiple()
        source = self._fresh(volume)
        made = self.case.new_volume(self.pool(pool), source.size,
                                    source.volume_type_id)
        try:
            self.case.made(made, self.case.driver.create_cloned_volume(
                made, source))
        except REFUSALS:
            made.destroy()
            return stateful.multiple()
        return self._add(made, self.content[volume.id])

    @stateful.rule(target=snapshots, volume=volumes)
    def snapshot(self, volume):
        if not self._usable(volume):
            return stateful.multiple()
        made = self.case.new_snapshot(self._fresh(volume))
        try:
            self.case.taken(made, self.case.driver.create_snapshot(made))
        except REFUSALS:
            made.destroy()
            return stateful.multiple()
        self.snaps[made.id] = (made, volume.id, self.content[volume.id])
        return made

    @stateful.rule(target=volumes, snapshot=snapshots,
                   pool=strategies.integers(0, 3))
    def from_snapshot(self, snapshot, pool):
        if snapshot.id not in self.snaps:
            return stateful.multiple()
        made = self.case.new_volume(self.pool(pool), snapshot.volume_size,
                                    snapshot.volume_type_id)
        try:
            self.case.made(made, self.case.driver.create_volume_from_snapshot(
                made, snapshot))
        except REFUSALS:
            made.destroy()
            return stateful.multiple()
        return self._add(made, self.snaps[snapshot.id][2])

    @stateful.rule(snapshot=snapshots)
    def revert(self, snapshot):
        if snapshot.id not in self.snaps:
            return
        _snapshot, volume_id, content = self.snaps[snapshot.id]
        if volume_id not in self.alive or volume_id in self.attached:
            return
        try:
            self.case.driver.revert_to_snapshot(
                self.case.context, self._fresh(self.alive[volume_id]),
                snapshot)
        except REFUSALS:
            return
        self.content[volume_id] = content

    @stateful.rule(snapshot=snapshots)
    def delete_snapshot(self, snapshot):
        if self.snaps.pop(snapshot.id, None):
            self.case.driver.delete_snapshot(snapshot)
            snapshot.destroy()

    @stateful.rule(volume=volumes)
    def delete(self, volume):
        busy = {volume_id for _, volume_id, _ in self.snaps.values()}
        if (self._usable(volume) and volume.id not in self.attached
                and volume.id not in busy):
            self.case.driver.delete_volume(self._fresh(volume))
            del self.alive[volume.id]
            self.case.fresh(volume).destroy()

    @stateful.rule(volume=volumes, more=strategies.integers(1, 3))
    def extend(self, volume, more):
        if not self._usable(volume):
            return
        found = self._fresh(volume)
        try:
            self.case.driver.extend_volume(found, found.size + more)
        except REFUSALS:
            return
        found.size += more
        found.save()

    @stateful.rule(volume=volumes, pool=strategies.integers(0, 3))
    def migrate(self, volume, pool):
        if not self._usable(volume):
            return
        found = self._fresh(volume)
        there = self.case.there(self.pool(pool))
        try:
            self.case.driver.migrate_volume(self.case.context, found, there)
        except REFUSALS:
            return
        found.host = there['host']
        found.save()

    @stateful.rule(volume=volumes, pool=strategies.integers(0, 3),
                   kind=strategies.sampled_from(('thin', 'thick')))
    def retype(self, volume, pool, kind):
        if not self._usable(volume):
            return
        found = self._fresh(volume)
        there = self.case.there(self.pool(pool))
        new = self.case.types[kind]
        try:
            done = self.case.driver.retype(self.case.context, found, new, {},
                                           there)
        except REFUSALS:
            return
        if done:
            found.host, found.volume_type_id = there['host'], new['id']
            found.save()

    @stateful.rule(volume=volumes)
    def attach_or_detach(self, volume):
        if not self._usable(volume):
            return
        found = self._fresh(volume)
        if volume.id in self.attached:
            self.case.detach(found, self.attached.pop(volume.id))
        else:
            self.attached[volume.id] = self.case.attach(found)

    # -- What others do -----------------------------------------------------

    @stateful.rule(volume=volumes, pool=strategies.integers(0, 3))
    def moved_from_outside(self, volume, pool):
        if not self._usable(volume):
            return
        target = self.datastore_name(pool)
        try:
            if volume.id in self.attached:
                self.move_disk(self.attached[volume.id], volume, target)
            else:
                self.case.wait(self.case.truth(volume).vm.RelocateVM_Task(
                    vim.vm.RelocateSpec(
                        datastore=self.case.datastore(target))))
        except NO_SPACE:
            return
        self.case.reconcile()

    def move_disk(self, instance, volume, target):
        """What Storage DRS does to an attached disk."""
        disk = self.case.disk_on(instance, volume)
        if disk.backing.datastore.name != target:
            self.case.control.call('POST', '/sdrs/move', {
                'vm': instance.name, 'disk': str(disk.key),
                'datastore': target})

    @stateful.rule(pool=strategies.integers(0, 3))
    def renamed_from_outside(self, pool):
        self.renamed += 1
        self.case.datastore(self.datastore_name(pool)).RenameDatastore(
            f'store#{self.renamed}')
        self.case.reconcile()

    @stateful.rule(pool=strategies.integers(0, 3))
    def filled_from_outside(self, pool):
        datastore = self.case.datastore(self.datastore_name(pool))
        datastore.RefreshDatastoreStorageInfo()
        free = datastore.summary.freeSpace // units.Gi
        if free > 4:
            self.fillers.append(self.case.filler(datastore, free - 2))

    @stateful.rule()
    def space_comes_back(self):
        if self.fillers:
            self.case.wait(self.fillers.pop().Destroy_Task())

    # -- What has to hold ---------------------------------------------------

    @stateful.invariant()
    def books_balance(self):
        self.steps += 1
        self.unchecked = True
        if self.steps % self.steps_a_check == 0:
            self.check()

    def check(self):
        """Everything, whatever it costs."""
        self.unchecked = False
        for datastore in self.case.all(vim.Datastore):
            datastore.RefreshDatastoreStorageInfo()
        self.case.reconcile()
        deadline = time.monotonic() + 60
        while True:
            reported, true = self._settled(), self._true()
            if reported == true or time.monotonic() > deadline:
                break
            time.sleep(0.1)  # a notice may be on its way
        self.case.assertEqual(true, reported)
        vms = self._vms()
        for volume_id, volume in self.alive.items():
            self.case.assertIn(volume_id, vms)
            self._check_volume(volume, vms[volume_id], vms)
        known = ({volume.name for volume in self.alive.values()}
                 | {each[0].name for each in self.snaps.values()}
                 | {filler.name for filler in self.fillers}
                 | self.names_of_others())
        self.case.assertEqual(known, {
            found['name'] for found in vms.values()
            if not found['name'].startswith('DC0_')})

    def _vms(self):
        """All VMs by their UUIDs, in one read."""
        return {found['config.instanceUuid']: found for _vm, found
                in observer.properties_of_all(
                    self.case.service, vim.VirtualMachine, 'name',
                    'config.instanceUuid', 'config.hardware.device')}

    def _check_volume(self, volume, seen, vms):
        found = self.case.fresh(volume)
        [disk] = disks(seen)
        datastore = disk.backing.fileName[1:].partition(']')[0]
        self.case.assertEqual(
            f'{backend_case.HOST}#{datastore.replace("#", "%23")}',
            found.host)
        self.case.assertEqual(found.size, disk.capacityInBytes // units.Gi)
        chain = [disk.backing.fileName]
        if volume.id in self.attached:
            instance = self.attached[volume.id].config.instanceUuid
            chain = vcenter.chain(next(
                each.backing for each in disks(vms[instance])
                if each.backing.uuid == disk.backing.uuid))
            self.case.assertIn(disk.backing.fileName, chain)
        content = self.content[volume.id]
        self.case.assertEqual(content, self.case.read_from(chain[0],
                                                           len(content)))

    def names_of_others(self):
        """VMs that are to be there beside volumes, snapshots and fillers."""
        return set()

    def _settled(self):
        """What the pools report, once what was changed is refreshed.

        Before, they err towards leaving space: what is claimed counts until
        the figures show it.
        """
        before = self._reported()
        backend = self.case.driver.backend
        for moref in list(backend.reservations.changed()):
            backend.refresh_figures(moref)
        self.case.catch_up()
        with mock.patch.object(reservations, 'NOTICE_SECONDS', 0):
            after = self._reported()
        for name, (total, free, provisioned) in after.items():
            self.case.assertLessEqual(before[name][1], free)
            self.case.assertGreaterEqual(before[name][2], provisioned)
        return after

    def _reported(self):
        return {pool['datastore']: (
            pool['total_capacity_gb'], pool['datastore_free_gb'],
            int(pool['provisioned_capacity_gb']))
            for pool in self.case.driver.get_volume_stats(
                refresh=True)['pools']}

    def _true(self):
        return {found['name']: (
            seen.capacity // units.Gi, seen.freeSpace // units.Gi,
            (seen.capacity - seen.freeSpace
             + (seen.uncommitted or 0)) // units.Gi)
            for _datastore, found in observer.properties_of_all(
                self.case.service, vim.Datastore, 'name', 'summary')
            for seen in [found['summary']]}

    def teardown(self):
        try:
            if self.unchecked:
                self.check()
        finally:
            self.clean()

    def clean(self):
        """Leave the vCenter as it was before the first step."""
        for filler in self.fillers:
            self.case.wait(filler.Destroy_Task())
        self.case._remove_shadow_vms()
        for number, datastore in enumerate(self.case.all(vim.Datastore)):
            datastore.RenameDatastore(f'between#{number}')
        for number, datastore in enumerate(self.case.all(vim.Datastore)):
            datastore.RenameDatastore(f'LocalDS_{number}')
        self.case.refresh_figures()


def disks(seen):
    """The disks of a VM whose devices were read."""
    return [device for device in seen.get('config.hardware.device', ())
            if isinstance(device, vim.vm.device.VirtualDisk)]


class BooksCase(backend_case.BackendCase):
    """A simulated vCenter of three datastores, and who fills them."""

    VCENTER = backend_case.BackendCase.VCENTER | {
        'ds': len(NAMES), 'ds_capacity': '40GiB'}
    OPTIONS = {'vmdk_ext_min_free_percent': 0}

    def setUp(self):
        super().setUp()
        self.types = {
            kind: self.volume_type(kind, vmdk_type=kind)
            for kind in ('thin', 'thick')}

    def filler(self, datastore, size_gib):
        """A VM of somebody else that takes up space."""
        host = self.all(vim.HostSystem)[0]
        disk = vim.vm.device.VirtualDisk(
            key=-2, controllerKey=-1, unitNumber=0,
            capacityInKB=size_gib * units.Mi,
            backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                fileName='', diskMode='persistent', thinProvisioned=False))
        spec = vim.vm.ConfigSpec(
            name=f'filler-{time.monotonic_ns()}', numCPUs=1, memoryMB=64,
            guestId='otherGuest',
            files=vim.vm.FileInfo(vmPathName=f'[{datastore.name}]'),
            deviceChange=[
                vim.vm.device.VirtualDeviceSpec(
                    operation='add',
                    device=vim.vm.device.VirtualLsiLogicController(
                        key=-1, busNumber=0, sharedBus='noSharing')),
                vim.vm.device.VirtualDeviceSpec(
                    operation='add', fileOperation='create', device=disk)])
        folder = self.service.content.rootFolder.childEntity[0].vmFolder
        return self.wait(folder.CreateVM_Task(
            spec, host.parent.resourcePool, host))

    def taken(self, snapshot, model_update):
        """What the manager does after the driver took a snapshot."""
        snapshot.update(model_update or {})
        snapshot.status = 'available'
        snapshot.save()

    def run_books(self, machine, examples=EXAMPLES, steps=STEPS):
        """Run a state machine, by the same steps each time.

        ``make books`` tries others.
        """
        machine.case = self
        settings = hypothesis.settings(
            max_examples=examples, stateful_step_count=steps, deadline=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
            database=None, print_blob=True)
        stateful.run_state_machine_as_test(machine, settings=settings)


class BooksTestCase(BooksCase):
    """The state machine above, alone with the vCenter."""

    def test_books_balance_after_every_step(self):
        self.run_books(Books)
