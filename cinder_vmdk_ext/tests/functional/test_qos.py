# SPDX-License-Identifier: Apache-2.0
"""QoS specs of the back end come to the disk as storageIOAllocation."""

import threading
import time
import unittest
from unittest import mock

from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder import exception
from cinder.volume import qos_specs
from cinder.volume import volume_types

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import attached_case
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import test_images
from cinder_vmdk_ext.tests.functional import test_transfers
from cinder_vmdk_ext.volumes import qos

DEFAULT = (-1, 'normal', 1000, 0)


def allocation(disk):
    found = disk.storageIOAllocation
    return (found.limit, found.shares.level, found.shares.shares,
            found.reservation)


class QosTestCase(attached_case.AttachedCase):
    """What pyVmomi sees of it, on the shadow VM and on the instance."""

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def qos_type(self, name, consumer='back-end', **specs):
        made = self.volume_type(name)
        found = qos_specs.create(self.context, name,
                                 {'consumer': consumer} | specs)
        qos_specs.associate_qos_with_type(self.context, found['id'],
                                          made['id'])
        return made['id']

    def of_shadow(self, volume):
        return allocation(self.truth(volume).disk)

    def on_instance(self, volume):
        return allocation(self.disk_on(self.instance, volume))

    def retype(self, volume, type_id, pool='LocalDS_1'):
        diff, _equal = volume_types.volume_types_diff(
            self.context, volume.volume_type_id, type_id)
        done = self.driver.retype(
            self.context, volume, volume_types.get_volume_type(
                self.context, type_id), diff, self.there(pool))
        if done:
            volume.volume_type_id = type_id
            volume.host = self.there(pool)['host']
            volume.save()
        return done

    def edit(self, disk, **changes):
        """An administrator changes it on the instance."""
        disk.storageIOAllocation = vim.StorageResourceManager.IOAllocationInfo(
            **changes)
        self.wait(self.instance.ReconfigVM_Task(vim.vm.ConfigSpec(
            deviceChange=[vim.vm.device.VirtualDeviceSpec(
                operation='edit', device=disk)])))

    def test_each_way_to_make_a_volume_notes_it(self):
        gold = self.qos_type('gold', total_iops_sec='500',
                             disk_io_shares_level='high')
        source = self.create(type_id=gold)
        wanted = (500, 'high', 2000, 0)
        image = test_transfers.ImageService(disk_images.stream_optimized(
            test_images.CONTENT))
        make = self.driver
        for hook, *args in (
                (make.create_cloned_volume, source),
                (make.create_volume_from_snapshot, self.snapshot(source))):
            volume = self.new_volume(type_id=gold)
            self.made(volume, hook(volume, *args))
            self.assertEqual(wanted, self.of_shadow(volume), hook.__name__)
            # A copy has nothing of its source's.
            plain = self.new_volume()
            self.made(plain, hook(plain, *args))
            self.assertEqual(DEFAULT, self.of_shadow(plain), hook.__name__)
        volume = self.new_volume(type_id=gold)
        make.copy_image_to_volume(self.context, volume, image,
                                  image.metadata['id'])
        self.assertEqual(wanted, self.of_shadow(volume))
        self.assertEqual(wanted, self.of_shadow(source))

    def test_a_new_volume_without_its_limits_leaves_no_vm(self):
        # Cinder would make it again in another pool.
        gold = self.qos_type('gold', disk_io_shares_level='high')
        source = self.create()
        known = self.shadow_vms().keys()
        for hook, *args in ((self.driver.create_volume,),
                            (self.driver.create_cloned_volume, source)):
            volume = self.new_volume(type_id=gold)
            rule = self.control.fault(
                method='ReconfigVM_Task', argument='^high$',
                task_fault={'type': 'InvalidState'})
            try:
                self.assertRaises(vmware_exceptions.VimFaultException,
                                  hook, volume, *args)
            finally:
                self.control.remove_fault(rule)
            self.assertEqual(known, self.shadow_vms().keys(), hook.__name__)
            self.made(volume, hook(volume, *args))
            self.assertEqual('high', self.of_shadow(volume)[1])
            known |= {volume.name}

    def test_a_failure_to_set_it_costs_no_content_of_before(self):
        gold = self.qos_type('kept', disk_io_shares_level='high')
        path = '[LocalDS_1] precious.vmdk'
        source = self.create(content=b'precious')
        content = self.service.content
        self.wait(content.virtualDiskManager.CopyVirtualDisk_Task(
            self.truth(source).path, content.rootFolder.childEntity[0], path,
            content.rootFolder.childEntity[0], None, False))
        managed = self.new_volume(type_id=gold)
        ref = {'source-name': path}
        image = test_transfers.ImageService(disk_images.stream_optimized(
            test_images.CONTENT))
        made = self.create(type_id=gold, content=b'precious')
        rule = self.control.fault(
            method='ReconfigVM_Task', argument='^high$',
            task_fault={'type': 'InvalidState'})
        for hook, *args in (
                (self.driver.manage_existing, managed, ref),
                (self.driver.copy_image_to_volume, self.context, made, image,
                 image.metadata['id'])):
            self.assertRaises(vmware_exceptions.VimFaultException, hook,
                              *args)
        self.control.remove_fault(rule)
        for volume in managed, made:
            self.assertEqual(b'precious', self.read(volume, 8))
        self.driver.copy_image_to_volume(
            self.context, made, test_transfers.ImageService(
                disk_images.stream_optimized(test_images.CONTENT)),
            image.metadata['id'])
        self.assertEqual(test_images.CONTENT[:8], self.read(made, 8))
        self.assertEqual('high', self.of_shadow(made)[1])
        # Cinder's record of a manage that failed is deleted.
        managed.status = 'error_managing_deleting'
        managed.save()
        self.driver.delete_volume(managed)
        [vm] = [vm for name, vm in self.shadow_vms().items()
                if managed.id in name]
        self.assertEqual(b'precious', self.read_from(self.file_of(vm), 8))

    def test_a_failure_to_set_it_does_not_say_that_nothing_was_reverted(self):
        volume = self.create(content=b'precious',
                             type_id=self.volume_type('none')['id'])
        snapshot = self.snapshot(volume)
        self.assertTrue(self.retype(volume, self.qos_type(
            'kept', disk_io_shares_level='high')))
        self.write(volume, b'replaced')
        rule = self.control.fault(
            method='ReconfigVM_Task', argument='^high$',
            task_fault={'type': 'InvalidState'})
        with self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            self.driver.revert_to_snapshot(self.context, volume, snapshot)
        self.control.remove_fault(rule)
        self.assertIn('were not noted', '\n'.join(logs.output))
        self.assertEqual(b'precious', self.read(volume, 8))

    def test_a_retype_undoes_what_specs_said_that_are_gone(self):
        silver = self.qos_type('silver', disk_io_limit='300',
                               disk_io_shares_level='high')
        plain = self.volume_type('plain again')['id']
        volume = self.attached(type_id=silver)
        self.reconcile()
        specs = volume_types.get_volume_type_qos_specs(silver)['qos_specs']
        qos_specs.disassociate_qos_specs(self.context, specs['id'], silver)
        self.assertTrue(self.retype(volume, plain))
        self.assertEqual(DEFAULT, self.on_instance(volume))
        self.assertEqual(DEFAULT, self.of_shadow(volume))

    def test_a_type_with_specs_that_are_wrong_can_be_left(self):
        volume = self.create()
        volume.volume_type_id = self.qos_type('odd', burst='1')
        volume.save()
        plain = self.volume_type('plain again')['id']
        self.assertTrue(self.retype(volume, plain))

    def test_a_lazy_volume_has_it_with_its_disk(self):
        silver = self.qos_type('silver', disk_io_limit='300')
        self.driver = self.make_driver(vmware_lazy_create=True)
        volume = self.new_volume(type_id=silver)
        self.made(volume, self.driver.create_volume(volume))
        self.assertEqual({}, self.shadow_vms())
        self.attach(volume, self.instance)
        self.reconcile()
        self.assertEqual(300, self.on_instance(volume)[0])
        self.assertEqual(300, self.of_shadow(volume)[0])

    def test_each_disk_of_an_instance_has_that_of_its_type(self):
        first = self.attached(type_id=self.qos_type(
            'silver', disk_io_limit='300'))
        second = self.attached(type_id=self.qos_type(
            'gold', total_iops_sec='500', disk_io_shares_level='high'))
        self.reconcile()
        self.assertEqual((300, 'normal', 1000, 0), self.on_instance(first))
        self.assertEqual((500, 'high', 2000, 0), self.on_instance(second))

    def test_specs_that_change_come_with_the_next_attachment(self):
        silver = self.qos_type('silver', disk_io_limit='300')
        volume = self.attached(type_id=silver)
        self.reconcile()
        specs = volume_types.get_volume_type_qos_specs(silver)['qos_specs']
        qos_specs.update(self.context, specs['id'], {'disk_io_limit': '200'})
        self.reconcile()
        self.assertEqual(300, self.on_instance(volume)[0])
        self.detach(volume, self.instance)
        volume = self.fresh(volume)
        self.attach(volume, self.instance)
        self.reconcile()
        self.assertEqual(200, self.on_instance(volume)[0])

    def test_a_template_snapshot_keeps_none(self):
        silver = self.qos_type('silver', disk_io_limit='300')
        self.driver = self.make_driver(vmware_snapshot_format='template')
        volume = self.create(type_id=silver)
        snapshot = self.snapshot(volume)
        plain = self.new_volume()
        self.made(plain, self.driver.create_volume_from_snapshot(
            plain, snapshot))
        self.assertEqual(DEFAULT, self.of_shadow(plain))
        self.assertEqual(300, self.of_shadow(volume)[0])

    def test_an_attached_volume_has_it_on_its_instance_once_in_use(self):
        silver = self.qos_type('silver', 'both', disk_io_limit='300',
                               disk_io_shares_share='700')
        volume = self.attached(type_id=silver)
        plain = self.attached()
        self.assertEqual(DEFAULT, self.on_instance(volume))
        self.reconcile()
        self.assertEqual((300, 'custom', 700, 0), self.on_instance(volume))
        self.assertEqual(DEFAULT, self.on_instance(plain))
        # What the type specifies is kept so; what it does not is left alone.
        self.edit(self.disk_on(self.instance, volume), limit=-1,
                  reservation=20)
        self.edit(self.disk_on(self.instance, plain), limit=90)
        self.reconcile()
        self.assertEqual((300, 'custom', 700, 20), self.on_instance(volume))
        self.assertEqual(90, self.on_instance(plain)[0])

    def test_the_worker_does_not_wait_for_its_interval_then(self):
        silver = self.qos_type('silver', disk_io_limit='300')
        reconciler = self.driver.backend.reconciler
        others = set(threading.enumerate())
        reconciler.start(3600)
        [worker] = [each for each in threading.enumerate()
                    if each.name == 'vmdk-ext-reconcile'
                    and each not in others]
        self.addCleanup(worker.join, 60)
        self.addCleanup(reconciler.stop)
        volume = self.attached(type_id=silver)
        deadline = time.monotonic() + 60
        while (self.on_instance(volume)[0] != 300
                and time.monotonic() < deadline):
            time.sleep(0.1)
        self.assertEqual(300, self.on_instance(volume)[0])

    def test_one_that_cannot_have_it_is_not_waited_for_for_ever(self):
        silver = self.qos_type('silver', disk_io_limit='300')
        volume = self.attached(type_id=silver)
        limits = self.driver.backend.limits
        rule = self.control.fault(
            method='ReconfigVM_Task', task_fault={'type': 'InvalidState'})
        self.reconcile()
        self.assertTrue(limits.expecting)
        now = time.monotonic()
        with mock.patch.object(qos.time, 'monotonic', lambda: (
                now + qos.LONGEST_ATTACH_SECONDS + 1)):
            self.reconcile()
        self.assertFalse(limits.expecting)
        # The pass after the interval sets it.
        self.control.remove_fault(rule)
        self.reconcile()
        self.assertEqual(300, self.on_instance(volume)[0])

    def test_a_retype_changes_it_live_and_back(self):
        silver = self.qos_type('silver', disk_io_limit='300')
        gold = self.qos_type('gold', disk_io_shares_level='high')
        plain = self.volume_type('plain again')['id']
        volume = self.attached(type_id=silver)
        self.reconcile()
        for type_id, wanted in ((gold, (-1, 'high', 2000, 0)),
                                (silver, (300, 'normal', 1000, 0)),
                                (plain, DEFAULT)):
            self.assertTrue(self.retype(volume, type_id))
            self.assertEqual(wanted, self.on_instance(volume))
            self.assertEqual(wanted, self.of_shadow(volume))
        detached = self.create(type_id=silver)
        self.assertTrue(self.retype(detached, gold, 'LocalDS_2'))
        self.assertEqual((-1, 'high', 2000, 0), self.of_shadow(detached))

    def test_a_retype_that_fails_leaves_it_as_it_was(self):
        silver = self.qos_type('silver', disk_io_limit='300')
        plain = self.volume_type('plain again')['id']
        volume = self.create(type_id=silver)
        rule = self.control.fault(method='RelocateVM_Task',
                                  task_fault={'type': 'InvalidState'})
        try:
            self.assertRaises(vmware_exceptions.VimFaultException,
                              self.retype, volume, plain, 'LocalDS_2')
        finally:
            self.control.remove_fault(rule)
        self.assertEqual(300, self.of_shadow(volume)[0])

    def test_a_reservation_that_no_datastore_can_have_is_refused_once(self):
        type_id = self.qos_type('reserved', disk_io_reservation='100')
        volume = self.create()
        self.control.reset_journal()
        for hook, *args in ((self.driver.create_volume,
                             self.new_volume(type_id=type_id)),
                            (self.retype, volume, type_id)):
            with self.assertRaisesRegex(
                    exceptions.NoneReserves, 'no datastore of this backend '
                    'can have 100 reserved I/O operations a second'):
                hook(*args)
        done = self.control.journal()['methods']
        self.assertNotIn('CreateVM_Task', done)
        self.assertNotIn('ReconfigVM_Task', done)

    def reserved(self):
        """A type that only LocalDS_2 can have."""
        reserve(self, 'LocalDS_2', True)
        return self.qos_type('reserved', disk_io_reservation='100')

    def assert_reserved(self, volume):
        truth = self.truth(volume)
        self.assertEqual('LocalDS_2', truth.datastore)
        self.assert_on('LocalDS_2', volume)
        self.assertEqual(100, allocation(truth.disk)[3])

    def test_a_volume_of_each_pool_lands_on_one_that_reserves(self):
        # The scheduler knows none of it, and would try one pool three times.
        type_id = self.reserved()
        for name in ('LocalDS_1', 'LocalDS_2'):
            self.assert_reserved(self.create(name, type_id=type_id))
        source = self.create('LocalDS_1')
        linked = self.volume_type('linked', clone_type='linked')
        specs = volume_types.get_volume_type_qos_specs(type_id)['qos_specs']
        qos_specs.associate_qos_with_type(self.context, specs['id'],
                                          linked['id'])
        copy = self.new_volume('LocalDS_1', type_id=linked['id'])
        self.made(copy, self.driver.create_cloned_volume(copy, source))
        self.assert_reserved(copy)
        with self.assertRaisesRegex(
                exceptions.NoPlacement, 'with 100 reserved I/O operations a '
                'second: LocalDS_1: Storage I/O Control with reservations is '
                'not enabled'):
            self.driver.migrate_volume(self.context, copy,
                                       self.there('LocalDS_1'))

    def test_a_promise_with_a_reservation_is_kept_where_it_can_be(self):
        type_id = self.reserved()
        self.driver = self.make_driver(vmware_lazy_create=True)
        volume = self.new_volume('LocalDS_1', type_id=type_id)
        self.made(volume, self.driver.create_volume(volume))
        self.assertEqual('LocalDS_2',
                         self.fresh(volume).host.partition('#')[2])
        self.attach(volume, self.instance)
        self.reconcile()
        self.assert_reserved(volume)
        self.assertEqual(100, self.on_instance(volume)[3])

    def test_a_retype_moves_a_disk_to_a_datastore_that_reserves(self):
        type_id = self.reserved()
        for volume in (self.create('LocalDS_1'), self.attached()):
            pool = volume.host.partition('#')[2]
            done = self.driver.retype(
                self.context, volume, volume_types.get_volume_type(
                    self.context, type_id), {}, self.there(pool))
            volume.update({'volume_type_id': type_id, **done[1]})
            volume.save()
            self.assert_reserved(volume)
        self.assertEqual(100, self.on_instance(volume)[3])

    def test_a_disk_where_nothing_is_reserved_is_not_managed(self):
        type_id = self.reserved()
        source = self.create('LocalDS_1')
        vm = self.truth(source).vm
        self.driver.unmanage(source)
        source.destroy()
        volume = self.new_volume('LocalDS_2', type_id=type_id)
        before = vm.config.hardware.device
        with self.assertRaisesRegex(
                exception.ManageExistingVolumeTypeMismatch,
                "the disk's datastore cannot have 100 reserved"):
            self.driver.manage_existing(volume, {'source-name': next(
                each.backing.fileName for each in before
                if isinstance(each, vim.vm.device.VirtualDisk))})

    def test_a_retype_looks_where_the_disk_will_be(self):
        type_id = self.qos_type('reserved', disk_io_reservation='100')
        reserve(self, 'LocalDS_2', True)
        volume = self.create()
        self.assertTrue(self.retype(volume, type_id, 'LocalDS_2'))
        self.assert_reserved(volume)
        # It stays rather than go to one that cannot.
        plain = self.volume_type('plain again')['id']
        self.assertTrue(self.retype(volume, plain, 'LocalDS_2'))
        done = self.driver.retype(
            self.context, volume, volume_types.get_volume_type(
                self.context, type_id), {}, self.there('LocalDS_3'))
        self.assertIn('LocalDS_2', done[1]['host'])
        self.assert_reserved(volume)


class PodQosTestCase(backend_case.BackendCase):
    """Of a datastore cluster, only a member that can reserves anything."""

    VCENTER = backend_case.BackendCase.VCENTER | {
        'datastore_cluster': 'tier=LocalDS_0,LocalDS_1,LocalDS_2:automated'}
    OPTIONS = {'vmdk_ext_storage_pods': True}
    qos_type = QosTestCase.qos_type

    def test_a_reserved_disk_is_on_a_member_that_reserves(self):
        type_id = self.qos_type('reserved', disk_io_reservation='100')
        reserve(self, 'LocalDS_2', True)
        source = self.create('tier')
        for hook, *args in ((self.driver.create_volume,),
                            (self.driver.create_volume,),
                            (self.driver.create_cloned_volume, source)):
            volume = self.new_volume('tier', type_id=type_id)
            self.made(volume, hook(volume, *args))
            self.assertEqual('LocalDS_2', self.truth(volume).datastore)
        volume = self.create('LocalDS_3')
        self.assertTrue(QosTestCase.retype(self, volume, type_id, 'tier'))
        self.assertEqual('LocalDS_2', self.truth(volume).datastore)

    def test_so_is_a_copy_of_a_group_that_is_attached(self):
        type_id = self.qos_type('reserved', disk_io_reservation='100')
        reserve(self, 'LocalDS_2', True)
        group = self.database.group(
            'consistent', f'{backend_case.HOST}#tier',
            consistent_group_snapshot_enabled='<is> True')
        sources = [self.new_volume('tier', group_id=group.id)
                   for _each in range(2)]
        for each in sources:
            self.made(each, self.driver.create_volume(each))
            self.attach(each)
        targets = [self.new_volume('tier', type_id=type_id,
                                   group_id=group.id, source_volid=each.id)
                   for each in sources]
        self.driver.create_group_from_src(
            self.context, group, targets, source_group=group,
            source_vols=sources)
        for volume in targets:
            truth = self.truth(volume)
            self.assertEqual(('LocalDS_2', 100), (
                truth.datastore, allocation(truth.disk)[3]))


def reserve(case, name, enabled):
    """Until the test ends, if it is enabled."""
    manager = case.service.content.storageResourceManager
    case.wait(manager.ConfigureDatastoreIORM_Task(
        case.datastore(name), vim.StorageResourceManager.IORMConfigSpec(
            enabled=enabled, reservationEnabled=enabled)))
    if enabled:
        case.addCleanup(reserve, case, name, False)


if __name__ == '__main__':
    unittest.main()
