# SPDX-License-Identifier: Apache-2.0
"""Damages volumes by pyVmomi, and stands in for Cinder's API."""

import contextlib
import unittest
from unittest import mock

from pyVmomi import vim

from cinder.db import api as db
from cinder import exception
from cinder import objects

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import command_case


class ApiCase(command_case.CommandCase):
    """Commands that ask Cinder's API; here it is the test.

    It does what the API and then the manager do.
    """

    def setUp(self):
        super().setUp()
        patched = mock.patch.object(command_case.Backends, 'volume_api',
                                    lambda *_names: self, create=True)
        patched.start()
        self.addCleanup(patched.stop)
        #: What was asked for: a verb and an id.
        self.asked = []

    def volume_of(self, volume_id):
        return objects.Volume.get_by_id(self.context, volume_id)

    def delete(self, volume_id):
        self._carry_out(volume_id, 'delete', 'deleting',
                        self.driver.delete_volume)

    def unmanage(self, volume_id):
        self._carry_out(volume_id, 'unmanage', 'unmanaging',
                        self.driver.unmanage)

    def reset(self, volume_id, status):
        self.asked.append(('reset', volume_id))
        volume = self.volume_of(volume_id)
        volume.update({'status': status})
        volume.save()

    def extend(self, volume_id, size_gib):
        self.asked.append(('extend', volume_id))
        volume = self.volume_of(volume_id)
        if volume.status != 'available':
            raise exceptions.VolumeApiFailed(f'it is {volume.status}')
        with self.backends.locking():
            self.driver.extend_volume(volume, size_gib)
        volume.update({'size': size_gib})
        volume.save()

    def delete_snapshot(self, snapshot_id):
        self.asked.append(('delete snapshot', snapshot_id))
        snapshot = objects.Snapshot.get_by_id(self.context, snapshot_id)
        with self.backends.locking():
            self.driver.delete_snapshot(snapshot)
        snapshot.destroy()

    def _carry_out(self, volume_id, verb, status, hook):
        self.asked.append((verb, volume_id))
        volume = self.volume_of(volume_id)
        if volume.status not in ('available', 'error'):
            raise exceptions.VolumeApiFailed(f'it is {volume.status}')
        if objects.SnapshotList.get_all_for_volume(self.context, volume_id):
            raise exceptions.VolumeApiFailed('it has snapshots')
        volume.update({'status': status})
        volume.save()
        db.image_volume_cache_delete(self.context, volume_id)
        try:
            with self.backends.locking():  # of the service's process
                hook(volume)
        except exception.CinderException:
            self.reset(volume_id, f'error_{status}')
        else:
            volume.destroy()


class DamageCase(command_case.CommandCase):
    """Damages volumes."""

    # -- Damage, made by pyVmomi --------------------------------------------

    def reconfigure(self, vm, **spec):
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(**spec)))

    def option(self, vm, key, value=''):
        self.reconfigure(vm, extraConfig=[vim.option.OptionValue(
            key=key, value=value)])

    def take_disk_off(self, volume):
        """:returns: the VM without it, and the disk's path"""
        truth = self.truth(volume)
        self.reconfigure(truth.vm, deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove',
                                            device=truth.disk)])
        return truth.vm, truth.path

    def add_disk(self, vm, path):
        self.reconfigure(vm, deviceChange=[vim.vm.device.VirtualDeviceSpec(
            operation='add', device=vim.vm.device.VirtualDisk(
                key=-1, unitNumber=-1, capacityInKB=1 << 20,
                controllerKey=next(
                    device.key for device in vm.config.hardware.device
                    if isinstance(device, vim.vm.device.VirtualSCSIController)
                ), backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    fileName=path, diskMode='persistent')))])

    def destroy_but_disk(self, volume):
        vm, path = self.take_disk_off(volume)
        self.wait(vm.Destroy_Task())
        return path

    def move(self, path, to, datacenter=None):
        datacenter = (datacenter or
                      self.service.content.rootFolder.childEntity[0])
        with contextlib.suppress(vim.fault.FileAlreadyExists):
            self.service.content.fileManager.MakeDirectory(
                to.rpartition('/')[0], datacenter, True)
        self.wait(self.service.content.virtualDiskManager
                  .MoveVirtualDisk_Task(path, datacenter, to, datacenter,
                                        True))
        return to


def load_tests(loader, tests, pattern):
    """This module holds no tests of its own."""
    return unittest.TestSuite()
