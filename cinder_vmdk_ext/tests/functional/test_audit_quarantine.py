# SPDX-License-Identifier: Apache-2.0
"""A sweep moves only objects of its deployment that belong to no volume."""

from pyVmomi import vim

from cinder.db import api

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import names
from cinder_vmdk_ext.tests.functional import audit_case
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.volumes import replace

content = backend_case.content


class SweepTestCase(audit_case.AuditCase):
    """What may be moved is moved whole, and nothing else."""

    def setUp(self):
        super().setUp()
        self.volume = self.create(content=content('swept'))

    def leftover(self):
        return self.copy_of(
            self.volume,
            replace.temporary_name(self.volume, 'extend'))

    def test_a_leftover_goes_to_quarantine_with_its_disk(self):
        vm = self.leftover()
        before = self.checksum(self.volume)
        self.sweep()
        self.assertEqual('Quarantine', vm.parent.name)
        found, = self.audit()
        self.assertEqual(('quarantined', self.volume.id),
                         (found.kind, found.owner))
        self.assertEqual(before, self.checksum_of(next(
            device.backing.fileName for device in vm.config.hardware.device
            if isinstance(device, vim.vm.device.VirtualDisk))))
        self.assertEqual(before, self.checksum(self.volume))
        self.assertEqual([], self.sweep())

    def test_what_is_young_stays(self):
        self.leftover()
        self.assertEqual([], self.sweep(minimum_age_seconds=3600))

    def test_what_may_be_all_that_is_left_stays(self):
        self.leftover()
        self.wait(self.truth(self.volume).vm.Destroy_Task())
        self.assertEqual([], self.sweep())

    def test_what_an_operation_may_be_using_stays(self):
        self.leftover()
        self.volume.status = 'retyping'
        self.volume.save()
        self.assertEqual([], self.sweep())


class DeploymentTestCase(audit_case.AuditCase):
    """Two Cinders on one vCenter: a sweep of one moves its own alone."""

    def setUp(self):
        super().setUp()
        # Options are the process's: each reads its own before the next.
        self.mark = self.driver.backend.deployment()
        self.other = self.make_driver(vmdk_ext_deployment_id='another cinder')
        self.assertNotIn(self.other.backend.deployment(), ('', self.mark))

    def leave(self, maker):
        """A volume of a driver, of which this database knows nothing."""
        volume = self.new_volume()
        self.made(volume, maker.create_volume(volume))
        vm = self.truth(volume).vm
        self.forget(volume)
        return vm

    def forget(self, volume):
        """Delete the record of a volume, as if it were in another Cinder."""
        volume.destroy()
        with api.main_context_manager.writer.using(
                self.context.elevated()) as session:
            session.execute(api.models.Volume.__table__.delete().where(
                api.models.Volume.id == volume.id))

    def state_of(self, vm):
        return (vm.name, vm.parent.name, vm.config.instanceUuid,
                sorted((each.key, each.value)
                       for each in vm.config.extraConfig))

    def test_nothing_of_the_other_is_moved_or_listed_by_any_option(self):
        theirs, paths = self.leave_of_each_kind()
        ours = self.leave(self.driver)
        before = [self.state_of(vm) for vm in theirs]
        points = [node.snapshot._moId for vm in theirs if vm.snapshot
                  for node in vm.snapshot.rootSnapshotList]
        self.assertEqual(1, len(points))
        references = {*(vm._moId for vm in theirs), *points, *paths}
        named = [*references, *(vm.name for vm in theirs),
                 *(vm.config.instanceUuid for vm in theirs)]
        self.assertEqual(set(), references & {
            each.reference for each in self.audit(named)})
        swept = self.sweep(named=named)
        self.assertEqual([ours._moId], [each.reference for each in swept])
        self.assertEqual(before, [self.state_of(vm) for vm in theirs])
        for path in paths:
            self.checksum_of(path)  # it is there

    def leave_of_each_kind(self):
        """What the other driver can leave: VMs, and paths of their disks.

        A volume, the template of a snapshot, a temporary VM, a temporary
        snapshot and a temporary image.
        """
        vm = self.leave(self.other)
        record = self.new_volume()
        self.made(record, self.other.create_volume(record))
        snapshot = self.new_snapshot(record)
        snapshot.update(self.other.create_snapshot(snapshot))
        template = self.shadow_vms()[snapshot.name]
        temporary = self.copy_of(record, replace.temporary_name(
            record, 'extend'))
        self.wait(self.truth(record).vm.CreateSnapshot_Task(
            f'temp-snapshot-{record.id}', '', False, False))
        theirs = [vm, self.truth(record).vm, template, temporary]
        snapshot.destroy()
        self.forget(record)
        paths = [self.file_of(each) for each in theirs]
        service = self.service.content
        datacenter = service.rootFolder.childEntity[0]
        image = '[LocalDS_1] ' + names.temporary_folder(
            self.other.backend.deployment()) + 'image.vmdk'
        service.fileManager.MakeDirectory(
            image.rpartition('/')[0], datacenter, True)
        self.wait(service.virtualDiskManager.CreateVirtualDisk_Task(
            image, datacenter,
            vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='thin', adapterType='lsiLogic', capacityKb=1024)))
        self.addCleanup(self._delete_path, image.rpartition('/')[0])
        return theirs, [*paths, image]

    def test_what_bears_no_mark_is_moved_by_its_name_alone(self):
        vm = self.leave(self.driver)
        self.rename(vm, extraConfig=[vim.option.OptionValue(
            key=shadow.DEPLOYMENT, value='')])
        found, = self.audit()
        self.assertEqual(('orphan', False), (found.kind, found.sweepable))
        self.assertIn('no mark of this deployment', found.detail)
        self.assertEqual([], self.sweep())
        self.assertEqual(1, len(self.sweep(named=[vm._moId])))
        self.assertEqual('Quarantine', vm.parent.name)

    def test_what_lies_in_another_folder_stays(self):
        vm = self.leave(self.driver)
        self.wait(self.instances()[0].parent.MoveIntoFolder_Task([vm]))
        found, = self.audit()
        self.assertIn('not in a folder of this backend', found.detail)
        self.assertEqual([], self.sweep(named=[vm._moId]))

    def test_a_name_in_quarantine_is_no_volumes_backing(self):
        vm = self.leave(self.driver)
        name, uuid = vm.name, vm.config.instanceUuid
        self.sweep()
        self.driver.volumeops.build_backing_ref_cache()
        self.assertIsNone(self.driver.volumeops.get_backing(name, uuid))
