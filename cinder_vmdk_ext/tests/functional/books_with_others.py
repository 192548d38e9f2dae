# SPDX-License-Identifier: Apache-2.0
"""Books balance while other clients use the same vCenter.

In addition to the checks of ``test_books``, objects of others must stay
unchanged. The other clients are those of ``simulator.actors``: Nova, Storage
DRS, backups, strangers and a second OpenStack.

A server is not deleted while a warning says that a disk lies in its folder;
docs/decisions/10-attached-disks.md says when this is so.
"""

import unittest

from hypothesis import stateful
from hypothesis import strategies
from pyVmomi import vim

from cinder_vmdk_ext.tests.functional import test_books
from simulator.actors import backup
from simulator.actors import nova
from simulator.actors import openstack
from simulator.actors import storage_drs
from simulator.actors import stranger
from simulator.actors import vcenter


class Books(test_books.Books):
    """Random operations on volumes, and all that others do meanwhile."""

    def __init__(self):
        super().__init__()
        self.servers = [self.case.boot(number, test_books.NAMES[number])
                        for number in range(2)]
        self.strangers = self.case.strangers()
        self.untouched = [each.fingerprint() for each in self.strangers]

    def path(self, volume):
        server = self.attached.get(volume.id)
        if server is None:
            return super().path(volume)
        return self.case.nova.disk_of(server, volume.id).backing.fileName

    def on(self, server):
        """The volumes of a server."""
        return [self._fresh(self.alive[volume_id]) for volume_id, where
                in self.attached.items() if where is server]

    def backed_up(self, server):
        """Whether a backup is under way."""
        return bool(self.case.backup.snapshots(server))

    def at_risk(self, server):
        """Whether the operator was warned not to delete a server."""
        return any(volume.id in self.case.driver.backend.reconciler.at_risk
                   for volume in self.on(server))

    # -- What users do ------------------------------------------------------

    @stateful.rule(volume=test_books.Books.volumes,
                   number=strategies.integers(0, 3))
    def attach_or_detach(self, volume, number=0):
        if not self._usable(volume):
            return
        found = self._fresh(volume)
        server = self.attached.get(volume.id)
        if server is None:
            server = self.servers[number % len(self.servers)]
            self.case.attach(found, server)
            self.attached[volume.id] = server
            return
        try:
            self.case.nova.detach(server, volume.id)
        except vim.fault.FileLocked:
            # The base of its disk is locked while the server runs above it.
            self.case.assertTrue(self.backed_up(server))
        else:
            self._detached(found)

    def _detached(self, volume):
        """What Cinder's manager does when Nova has taken the disk off."""
        self.case.record_detached(volume)
        self.case.driver.terminate_connection(self._fresh(volume), {})
        del self.attached[volume.id]

    # -- What Nova does -----------------------------------------------------

    @stateful.rule(number=strategies.integers(0, 1),
                   pool=strategies.integers(0, 3))
    def live_migrate(self, number, pool):
        try:
            self.case.nova.live_migrate(self.servers[number],
                                        self.datastore_name(pool))
        except vim.fault.NoDiskSpace:
            return
        self.case.reconcile()

    @stateful.rule(number=strategies.integers(0, 1))
    def evacuate(self, number):
        self.case.nova.evacuate(self.servers[number])

    @stateful.rule(number=strategies.integers(0, 1))
    def image(self, number):
        self.case.nova.image(self.servers[number])

    @stateful.rule(number=strategies.integers(0, 1))
    def rebuild(self, number):
        server = self.servers[number]
        if self.at_risk(server):
            return
        self.servers[number] = self.case.nova.rebuild(server)
        for volume_id, where in self.attached.items():
            if where is server:
                self.attached[volume_id] = self.servers[number]
        self.case.reconcile()

    @stateful.rule(number=strategies.integers(0, 1),
                   pool=strategies.integers(0, 3))
    def delete_server(self, number, pool):
        server = self.servers[number]
        if self.at_risk(server):
            return
        volumes = self.on(server)
        self.case.nova.delete(server)
        for volume in volumes:
            self._detached(volume)
        self.servers[number] = self.case.boot(number,
                                              self.datastore_name(pool))

    # -- What others do -----------------------------------------------------

    @stateful.rule()
    def a_backup_begins_or_ends(self):
        product = self.case.backup
        if any(map(self.backed_up, self.servers)):
            product.end(self.servers)
        else:
            product.begin(self.servers)
        self.case.reconcile()

    def move_disk(self, instance, volume, target):
        disk = self.case.nova.disk_of(instance, volume.id)
        if disk.backing.datastore.name != target:
            # By itself, or as an administrator applies what it recommends.
            move = (self.case.storage_drs.move_disk if self.steps % 2
                    else self.case.storage_drs.apply)
            move(instance, disk, target)

    # -- What has to hold ---------------------------------------------------

    def names_of_others(self):
        return {vm.name for each in self.strangers for vm in each.vms}

    def teardown(self):
        try:
            self.case.assertEqual(
                self.untouched,
                [each.fingerprint() for each in self.strangers])
        finally:
            super().teardown()

    def clean(self):
        self.case.remove_servers()
        for each in self.strangers:
            each.leave()
        super().clean()


class BooksCase(test_books.BooksCase):
    """The actors, and the same vCenter."""

    def setUp(self):
        super().setUp()
        self.addCleanup(self.remove_servers)
        self.nova = nova.Nova(self.service)
        self.backup = backup.Backup(self.service)
        self.storage_drs = storage_drs.StorageDRS(self.service, self.control)

    def boot(self, number, datastore):
        """A server, whose name no shadow VM has."""
        return self.nova.boot(datastore, f'DC0_server_{number}')

    def remove_servers(self):
        """Remove the servers, whatever is on them; volumes stay."""
        for vm in self.instances():
            if vm.name not in self.own_disks:
                if vm.runtime.powerState == 'poweredOn':
                    self.wait(vm.PowerOffVM_Task())
                self.wait(vm.RemoveAllSnapshots_Task())
                self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
                    vim.vm.device.VirtualDeviceSpec(
                        operation='remove', device=disk)
                    for disk in vcenter.disks(vm)[1:]])))
                self.wait(vm.Destroy_Task())

    def strangers(self):
        """VMs and files of others, on every datastore."""
        other = stranger.Stranger(self.service, self.control)
        second = openstack.OpenStack(self.service, self.control)
        for name in test_books.NAMES:
            other.settle(name, f'somebody-on-{name}')
            other.leave_disk(name, 'archive/old.vmdk')
            second.volume(name)
        return other, second

    def plug(self, volume, instance):
        self.nova.attach(instance, volume.id)


def load_tests(loader, tests, pattern):
    """This module holds no tests of its own."""
    return unittest.TestSuite()
