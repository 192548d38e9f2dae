# SPDX-License-Identifier: Apache-2.0
"""Disks that Cinder did not create are managed and unmanaged."""

from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder import exception

from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import manage_case


class ManageTestCase(manage_case.ManageCase):
    """A disk becomes a volume's."""

    def test_it_is_taken_from_its_vm_on_its_datastore(self):
        source = self.make_vm('server')
        checksum = self.fill(self.path(source), 1)
        volume = self.manage(self.reference(source))
        self.assert_on('LocalDS_1', volume)
        truth = self.truth(volume)
        self.assert_home(volume)
        self.assertEqual((volume.name, volume.id),
                         (truth.vm.name, truth.disk.backing.uuid))
        self.assertEqual([], self.disks(source))
        self.assertEqual(checksum, self.checksum(volume))
        self.assertEqual('org.openstack.storage',
                         truth.vm.config.managedBy.extensionKey)

    def test_its_host_needs_no_repair(self):
        volume = self.manage(self.reference(self.make_vm('server')))
        before = volume.host
        self.report()
        self.assertEqual(before, self.fresh(volume).host)

    def test_it_outlives_the_folder_of_the_vm_that_had_it(self):
        source = self.make_vm('server')
        checksum = self.fill(self.path(source), 2)
        volume = self.manage(self.reference(source))
        self.delete_as_nova_does(source)
        self.assertEqual(checksum, self.checksum(volume))

    def test_it_outlives_the_vm_that_had_it(self):
        source = self.make_vm('server')
        checksum = self.fill(self.path(source), 2)
        volume = self.manage(self.reference(source))
        self.wait(source.Destroy_Task())
        self.assertEqual(checksum, self.checksum(volume))

    def test_it_is_a_volume_like_any_other(self):
        source = self.make_vm('server', sizes_gib=(1,))
        checksum = self.fill(self.path(source), 3)
        volume = self.manage(self.reference(source))
        instance = self.attach(volume)
        volume = self.fresh(volume)
        self.detach(volume, instance)
        volume = self.fresh(volume)
        snapshot = self.snapshot(volume)
        copy = self.new_volume('LocalDS_2')
        self.made(copy, self.driver.create_volume_from_snapshot(copy,
                                                                snapshot))
        self.assertEqual(checksum, self.checksum(copy))
        self.driver.delete_snapshot(snapshot)
        self.assertEqual((True, None), self.driver.migrate_volume(
            self.context, volume, self.there('LocalDS_0')))
        self.driver.extend_volume(volume, 2)
        self.assertEqual(2, self.truth(volume).size_gib)
        self.driver.delete_volume(volume)
        self.assertIsNone(self.truth(volume))

    def test_the_rest_of_its_vm_stays(self):
        source = self.make_vm('server', sizes_gib=(1, 2))
        first, second = (disk.backing.fileName
                         for disk in self.disks(source))
        volume = self.manage(
            {'source-name': f'{second}@/DC0/vm/server'})
        self.assertEqual(2, self.truth(volume).size_gib)
        self.assertEqual([first], [disk.backing.fileName
                                   for disk in self.disks(source)])

    def test_part_of_a_gib_counts_as_one(self):
        source = self.make_vm('server', sizes_gib=(1.25,))
        volume = self.new_volume('LocalDS_1', 0)
        self.assertEqual(2, self.driver.manage_existing_get_size(
            volume, self.reference(source)))

    def test_it_gets_the_adapter_of_its_type(self):
        wanted = self.volume_type('lsi', adapter_type='lsiLogic')
        volume = self.manage(self.reference(self.make_vm('server')),
                             type_id=wanted['id'])
        self.assertEqual('VirtualLsiLogicController',
                         self.truth(volume).adapter)

    def test_a_type_that_it_does_not_fit_is_refused(self):
        source = self.make_vm('server')
        thick = self.volume_type('thick', vmdk_type='eagerZeroedThick')
        error = self.assertRaises(
            exception.ManageExistingVolumeTypeMismatch, self.manage,
            self.reference(source), type_id=thick['id'])
        self.assertIn('the disk is thin', str(error))
        self.assertEqual(1, len(self.disks(source)))

    def test_a_disk_left_as_a_file(self):
        path = self.leave_file('left #1 @home 50%')
        checksum = self.fill(path, 4)
        volume = self.manage({'source-name': path})
        self.assert_on('LocalDS_1', volume)
        self.assert_home(volume)
        self.assertEqual(checksum, self.checksum(volume))


class ReferencesTestCase(manage_case.ManageCase):
    """Which disk is meant, whatever people call their things."""

    def test_names_in_any_script_and_with_any_sign(self):
        for number, name in enumerate((
                'a@b', '@', 'a@b@c', '50%', 'a%2fb', 'größe 1', '机器', '#1',
                'x.vmdk', '[ds] a.vmdk', 'a b')):
            with self.subTest(name):
                vm = self.make_vm(f'plain-{number}')
                self.wait(vm.Rename_Task(name))
                volume = self.manage({
                    'source-name': f'{self.path(vm)}@DC0/vm/{name}'})
                self.assertIsNotNone(self.truth(volume))
                self.assertEqual([], self.disks(vm))

    def test_what_the_list_says_is_understood(self):
        folder = self.service.content.rootFolder.childEntity[0].vmFolder
        below = folder.CreateFolder('team@north/50%')
        self.addCleanup(lambda: self.wait(below.Destroy_Task()))
        vm = self.make_vm('s@rver', folder=below)
        entry = self.entry(self.path(vm))
        self.assertTrue(entry['safe_to_manage'], entry)
        volume = self.manage(entry['reference'])
        self.assertEqual([], self.disks(vm))
        self.wait(vm.Destroy_Task())
        self.driver.delete_volume(volume)

    def test_what_the_list_says_of_names_with_brackets_is_understood(self):
        vm = self.make_vm('a] b [c]')
        self.assertIn(']', self.path(vm).partition('] ')[2])
        entry = self.entry(self.path(vm))
        self.assertTrue(entry['safe_to_manage'], entry)
        volume = self.manage(entry['reference'])
        self.assertEqual([], self.disks(vm))
        self.wait(vm.Destroy_Task())
        self.driver.delete_volume(volume)

    def test_by_the_uuid_of_a_disk(self):
        vm = self.make_vm('server', sizes_gib=(1, 2))
        other, wanted = [disk.backing for disk in self.disks(vm)]
        checksum = self.fill(wanted.fileName, 3)
        volume = self.manage({'source-id': wanted.uuid})
        self.assertEqual((2, checksum), (self.truth(volume).size_gib,
                                         self.checksum(volume)))
        self.assertEqual([other.uuid], [disk.backing.uuid for disk
                                        in self.disks(vm)])

    def test_by_the_uuid_of_a_vm(self):
        vm = self.make_vm('server')
        checksum = self.fill(self.path(vm), 3)
        volume = self.manage({'source-id': vm.config.instanceUuid.upper()})
        self.assertEqual(checksum, self.checksum(volume))
        self.assertEqual([], self.disks(vm))

    def test_a_vm_of_several_disks_is_ambiguous(self):
        vm = self.make_vm('server', sizes_gib=(1, 2))
        self.assert_refused('may name any of',
                            {'source-id': vm.config.instanceUuid})

    def test_a_reference_that_means_two_disks_is_refused(self):
        path = self.leave_file('twice.vmdk@DC0/vm/gold')
        vm = self.make_vm('gold.vmdk')
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove',
                                            device=self.disks(vm)[0])])))
        other = self.leave_file('twice')
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(
                operation='add', device=vim.vm.device.VirtualDisk(
                    key=-1, controllerKey=1000, unitNumber=0,
                    backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                        fileName=other, diskMode='persistent')))])))
        self.assertEqual(path, f'{other}@DC0/vm/gold.vmdk')
        self.assert_refused('may name any of', {'source-name': path})

    def test_nonsense_is_refused_with_the_remedy(self):
        vm = self.make_vm('server')
        for wrong in ({}, {'source-name': ''}, {'source-name': '@'},
                      {'source-name': 'server'},
                      {'source-name': '[LocalDS_1] no/no.vmdk'},
                      {'source-name': '[no] no/no.vmdk'},
                      {'source-name': '[LocalDS_1] no/no.vmdk@DC0/vm/server'},
                      {'source-name': f'{self.path(vm)}@DC0/vm/other'},
                      {'source-name': f'{self.path(vm)}@DC0/vm'},
                      {'source-id': 'server'}, {'source-id': vm.name},
                      {'source-id': 'x', 'source-name': 'y'}):
            with self.subTest(wrong):
                self.assert_refused('vmdk_path@vm_inventory_path', wrong)

    def assert_refused(self, reason, reference):
        error = self.assertRaises(exception.ManageExistingInvalidReference,
                                  self.manage, reference)
        self.assertIn(reason, str(error))


class FailedManageTestCase(manage_case.ManageCase):
    """Whatever fails, the VM keeps its disk as it was."""

    STEPS = [('CreateVM_Task', 0), ('MoveVirtualDisk_Task', 0),
             *(('ReconfigVM_Task', skip) for skip in range(7))]

    def test_failure_at_each_step(self):
        for method, skip in self.STEPS:
            for effect in ({'task_fault': {'type': 'NoDiskSpace'}},
                           {'task_fault': {'type': 'SystemError'},
                            'after_work': True},
                           {'fault': {'type': 'SystemError'}},
                           {'cut': 'before'}, {'cut': 'after'}):
                with self.subTest(f'{method} {skip} {effect}'):
                    self.check(effect | {'method': method, 'skip': skip,
                                         'count': 1})

    def check(self, rule):
        source = self.make_vm('server')
        before = self.facts(source)
        rule = self.control.fault(**rule)
        try:
            volume = self.manage(self.reference(source))
            self.assert_hit(rule)
        except Exception:
            self.assert_hit(rule)
            self.assertEqual(before, self.facts(source))
            self.assertEqual(['server'], sorted(self.shadow_vms()))
            # Usable: it can be managed after all.
            volume = self.manage(self.reference(source))
        self.assertEqual([], self.disks(source))
        self.assert_home(volume)
        self.assertEqual(volume.id, self.truth(volume).disk.backing.uuid)
        self.assertEqual(before['checksum'], self.checksum(volume))
        self.driver.delete_volume(volume)
        self.wait(source.Destroy_Task())
        self.assertEqual([], sorted(self.shadow_vms()))

    def assert_hit(self, rule):
        [found] = [each for each in self.control.faults()
                   if each['id'] == rule['id']]
        self.assertEqual(1, found['hits'])
        self.control.reset_faults()

    def facts(self, vm):
        [disk] = self.disks(vm)
        return {'path': disk.backing.fileName, 'uuid': disk.backing.uuid,
                'controller': disk.controllerKey, 'unit': disk.unitNumber,
                'size': disk.capacityInBytes, 'name': vm.name,
                'checksum': self.checksum_of(disk.backing.fileName)}

    def test_a_file_stays_as_it_was(self):
        path = self.leave_file('left')
        checksum = self.checksum_of(path)
        for skip in range(6):
            with self.subTest(skip):
                self.control.fault(method='ReconfigVM_Task', skip=skip,
                                   count=1, task_fault={'type': 'SystemError'})
                self.assertRaises(vmware_exceptions.VimException, self.manage,
                                  {'source-name': path})
                self.control.reset_faults()
                self.assertEqual({}, self.shadow_vms())
                self.assertEqual(checksum, self.checksum_of(path))
        self.assert_home(self.manage({'source-name': path}))


class UnsafeTestCase(manage_case.ManageCase):
    """What is not taken, and the reason given; in the list as on demand."""

    def assert_unsafe(self, reason, vm):
        entry = self.entry(self.path(vm))
        self.assertFalse(entry['safe_to_manage'])
        self.assertRegex(entry['reason_not_safe'], reason)
        error = self.assertRaises(exception.ManageExistingInvalidReference,
                                  self.manage, self.reference(vm))
        self.assertRegex(str(error), reason)

    def test_a_running_vm(self):
        vm = self.make_vm('server')
        self.wait(vm.PowerOnVM_Task())
        self.addCleanup(lambda: self.wait(vm.PowerOffVM_Task()))
        self.assert_unsafe("'server' is poweredOn", vm)
        self.wait(vm.PowerOffVM_Task())
        self.manage(self.reference(vm))
        self.wait(vm.PowerOnVM_Task())

    def test_a_vm_with_snapshots(self):
        vm = self.make_vm('server')
        self.wait(vm.CreateSnapshot_Task('a', None, False, False))
        self.assert_unsafe('delta of another disk', vm)

    def test_a_template(self):
        vm = self.make_vm('server')
        vm.MarkAsTemplate()
        self.assert_unsafe('is a template', vm)

    def test_an_independent_disk(self):
        self.assert_unsafe('independent_persistent', self.make_vm(
            'server', mode='independent_persistent'))

    def test_a_disk_of_two_vms(self):
        first, second = self.make_vm('first'), self.make_vm('second')
        self.wait(second.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(
                operation='add', device=vim.vm.device.VirtualDisk(
                    key=-1, controllerKey=1000, unitNumber=3,
                    backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                        fileName=self.path(first),
                        diskMode='persistent')))])))
        self.assert_unsafe("also a disk of VM '(first|second)'", first)
        self.wait(second.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove',
                                            device=self.disks(second)[1])])))

    def test_a_datastore_that_is_not_the_backends(self):
        self.driver = self.make_driver(vmware_datastore_regex='LocalDS_[023]')
        self.assert_unsafe('vmware_datastore_regex', self.make_vm('server'))

    def test_a_datastore_below_its_floor_is_no_hindrance(self):
        self.driver = self.make_driver(vmdk_ext_min_free_percent=100)
        volume = self.manage(self.reference(self.make_vm('server')))
        self.assertEqual('LocalDS_1', self.truth(volume).datastore)

    def test_a_volume_of_cinders(self):
        volume = self.create()
        truth = self.truth(volume)
        entry = self.entry(truth.path, [volume])
        self.assertEqual((False, volume.id, 'it is managed already'),
                         (entry['safe_to_manage'], entry['cinder_id'],
                          entry['reason_not_safe']))
        self.assertRaises(
            exception.ManageExistingAlreadyManaged, self.manage,
            {'source-id': truth.disk.backing.uuid})

    def test_a_volume_on_an_instance_is_told_once(self):
        volume = self.create()
        self.attach(volume)
        entries = [each for each in self.listed([volume])
                   if each['cinder_id'] == volume.id]
        self.assertEqual(1, len(entries))

    def test_a_volume_that_this_cinder_does_not_know(self):
        volume = self.create()
        path = self.truth(volume).path
        volume.destroy()
        entry = self.entry(path)
        self.assertIn('another Cinder', entry['reason_not_safe'])
        self.assertIsNone(entry['cinder_id'])

    def test_several_disks_may_belong_together(self):
        vm = self.make_vm('server', sizes_gib=(1, 2))
        entry = self.entry(self.path(vm))
        self.assertFalse(entry['safe_to_manage'])
        self.assertIn('2 disks', entry['reason_not_safe'])

    def test_files_below_snapshots_are_no_files_left(self):
        volume = self.create()
        base = self.truth(volume).path
        self.snapshot(volume)
        listed = [str(each['reference']) for each in self.listed([volume])]
        self.assertFalse([each for each in listed if base in each], listed)
        error = self.assertRaises(exception.ManageExistingInvalidReference,
                                  self.manage, {'source-name': base})
        self.assertIn('part of the snapshots', str(error))


class UnmanageTestCase(manage_case.ManageCase):
    """A volume is left to the administrator, and comes back."""

    def test_nothing_but_the_marks_is_changed(self):
        volume = self.create(content=backend_case.content(5))
        before, checksum = self.truth(volume), self.checksum(volume)
        self.driver.unmanage(volume)
        volume.destroy()
        self.assertIsNone(self.truth(volume))
        [vm] = self.shadow_vms().values()
        self.assertEqual((before.path, before.disk.backing.uuid, volume.name),
                         (self.path(vm), self.disks(vm)[0].backing.uuid,
                          vm.name))
        self.assertEqual(checksum, self.checksum_of(before.path))
        self.assertIsNone(vm.config.managedBy)
        marks = {option.key: option.value for option in vm.config.extraConfig}
        self.assertFalse(marks.get('cinder.volume.id'))

    def test_what_was_not_managed_to_the_end_is_not_deleted(self):
        source = self.make_vm('server')
        checksum = self.fill(self.path(source), 5)
        volume = self.manage(self.reference(source))
        path = self.truth(volume).path
        volume.status = 'error_managing_deleting'
        self.driver.delete_volume(volume)
        volume.destroy()
        self.assertEqual(checksum, self.checksum_of(path))
        self.manage(self.entry(path)['reference'])

    def test_it_is_listed_and_managed_again_as_it_is(self):
        volume = self.create(content=backend_case.content(6))
        path, checksum = self.truth(volume).path, self.checksum(volume)
        self.driver.unmanage(volume)
        volume.destroy()
        entry = self.entry(path)
        self.assertTrue(entry['safe_to_manage'], entry)
        again = self.manage(entry['reference'])
        self.assert_on('LocalDS_1', again)
        self.assertEqual((path, again.name, again.id, checksum), (
            self.truth(again).path, self.truth(again).vm.name,
            self.truth(again).disk.backing.uuid, self.checksum(again)))
        self.assertEqual(1, len(self.shadow_vms()))

    def test_what_upstreams_driver_left_is_managed_too(self):
        volume = self.create()
        [vm] = self.shadow_vms().values()
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[
            vim.option.OptionValue(key='cinder.volume.id', value='')])))
        volume.destroy()
        again = self.manage(self.entry(self.path(vm))['reference'])
        self.assertEqual(vm, self.truth(again).vm)

    def test_failing_to_take_it_over_leaves_it_as_it_was(self):
        for skip in range(2):
            for after_work in (False, True):
                with self.subTest(f'{skip} {after_work}'):
                    volume = self.create()
                    self.driver.unmanage(volume)
                    volume.destroy()
                    [vm] = self.shadow_vms().values()
                    uuid = self.disks(vm)[0].backing.uuid
                    reference = self.reference_of(vm)
                    self.control.fault(
                        method='ReconfigVM_Task', skip=skip, count=1,
                        task_fault={'type': 'SystemError'},
                        after_work=after_work)
                    try:
                        self.manage(reference)
                    except Exception:
                        self.assertEqual(
                            (volume.name, uuid),
                            (vm.name, self.disks(vm)[0].backing.uuid))
                        self.manage(reference)
                    self.control.reset_faults()
                    self.wait(vm.Destroy_Task())

    def reference_of(self, vm):
        return {'source-id': vm.config.instanceUuid}

    def test_one_that_was_never_made_is_made_and_managed_again(self):
        self.driver = self.make_driver(vmware_lazy_create=True)
        volume = self.create()
        self.assertEqual({}, self.shadow_vms())
        self.driver.unmanage(volume)
        volume.destroy()
        self.assertIsNone(self.truth(volume))
        again = self.manage({'source-id': volume.id})
        self.assertEqual(bytes(512), self.read(again, 512))
