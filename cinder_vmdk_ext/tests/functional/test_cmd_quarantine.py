# SPDX-License-Identifier: Apache-2.0
"""Objects in quarantine are listed, completely restored, or destroyed.

The state before and after is read by pyVmomi.
"""

import json
import re
from unittest import mock

from oslo_utils import uuidutils
from pyVmomi import vim

from cinder_vmdk_ext.audit import quarantine
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import command_case
from cinder_vmdk_ext.volumes import replace

content = backend_case.content


class QuarantineTestCase(command_case.CommandCase):

    OPTIONS = {'vmware_snapshot_format': 'template'}

    def sweep(self, *words):
        return self.listed('sweep', '--act', '--yes', '--minimum-age', '0',
                           *words)

    def orphan(self):
        """A volume's VM whose record is gone."""
        volume = self.create(content=content('set aside'))
        vm = self.truth(volume).vm
        volume.destroy()
        return vm

    def state_of(self, vm):
        """All that a sweep changes."""
        return (vm.name, vm.parent, vm.config.instanceUuid,
                {each.key: each.value for each in vm.config.extraConfig
                 if 'volume' in each.key or 'snapshot' in each.key
                 or each.key.startswith('vmdk-ext')},
                self.checksum_of(next(
                    device.backing.fileName
                    for device in vm.config.hardware.device
                    if isinstance(device, vim.vm.device.VirtualDisk))))

    def make_disk(self, path):
        datacenter = self.service.content.rootFolder.childEntity[0]
        try:
            self.service.content.fileManager.MakeDirectory(
                path.rpartition('/')[0], datacenter, True)
        except vim.fault.FileAlreadyExists:
            pass
        self.wait(self.service.content.virtualDiskManager
                  .CreateVirtualDisk_Task(
                      path, datacenter,
                      vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                          diskType='thin', adapterType='lsiLogic',
                          capacityKb=1024)))

    def is_there(self, path):
        try:
            self.service.content.virtualDiskManager.QueryVirtualDiskUuid(
                path, self.service.content.rootFolder.childEntity[0])
        except vim.fault.FileNotFound:
            return False
        return True

    def test_a_vm_comes_back_as_it_was(self):
        vm = self.orphan()
        before = self.state_of(vm)
        self.sweep()
        self.assertNotEqual(before, self.state_of(vm))
        found, = self.listed('quarantine', 'list')
        self.assertEqual(('vm', before[0], vm._moId, 'orphan', True, ''), (
            found['thing'], found['name'], found['reference'],
            found['kind'], found['mine'], found['hindrance']))
        self.assertLess(found['age_seconds'], 600)
        would, = self.listed('quarantine', 'restore', vm._moId, '--dry-run')
        self.assertEqual('would be restored', would['done'])
        self.assertEqual('Quarantine', vm.parent.name)
        done, = self.listed('quarantine', 'restore', before[0], '--yes')
        self.assertEqual('restored', done['done'])
        self.assertEqual(before, self.state_of(vm))
        self.assertEqual([], self.listed('quarantine', 'list'))

    def test_a_template_comes_back_as_it_was(self):
        snapshot = self.snapshot(self.create(content=content('moment')))
        vm = self.shadow_vms()[snapshot.name]
        snapshot.destroy()
        before = self.state_of(vm)
        self.sweep()
        self.assertNotEqual(before, self.state_of(vm))
        found, = self.listed('quarantine', 'list')
        self.assertEqual(
            ('template', snapshot.name, 'orphan', snapshot.id),
            (found['thing'], found['name'], found['kind'], found['owner']))
        self.listed('quarantine', 'restore', vm._moId, '--yes')
        self.assertEqual(before, self.state_of(vm))

    def test_a_file_comes_back_and_never_over_another(self):
        path = '[LocalDS_0] cinder_temp/a folder/image.vmdk'
        self.make_disk(path)
        self.sweep('--also', path)
        self.assertFalse(self.is_there(path))
        found, = self.listed('quarantine', 'list')
        self.assertEqual(
            ('file', 'image.vmdk', 'leftover',
             'cinder_temp/a folder/image.vmdk'),
            (found['thing'], found['name'], found['kind'], found['origin']))
        self.make_disk(path)
        words = 'quarantine', 'restore', found['reference'], '--yes'
        refused, = self.listed(*words, status=1)
        self.assertIn('another file is at', refused['done'])
        self.wait(self.service.content.virtualDiskManager
                  .DeleteVirtualDisk_Task(
                      path, self.service.content.rootFolder.childEntity[0]))
        self.listed(*words)
        self.assertTrue(self.is_there(path))
        self.sweep('--also', path)
        purged, = self.listed('quarantine', 'purge', '--older-than', '0',
                              '--yes')
        self.assertEqual('purged', purged['done'])
        self.assertFalse(self.is_there(purged['reference']))

    def test_a_descriptor_without_its_extent_is_a_file_like_others(self):
        """An upload that was broken off leaves one."""
        path = '[LocalDS_0] cinder_temp/broken/image.vmdk'
        self.make_disk(path)
        files = self.service.content.fileManager
        datacenter = self.service.content.rootFolder.childEntity[0]
        self.wait(files.DeleteDatastoreFile_Task(
            path.replace('image.', 'image-flat.'), datacenter))
        self.sweep('--also', path)
        found, = self.listed('quarantine', 'list')
        self.listed('quarantine', 'restore', found['reference'], '--yes')
        self.assertEqual([], self.listed('quarantine', 'list'))
        self.sweep('--also', path)
        found, = self.listed('quarantine', 'list')
        purged, = self.listed('quarantine', 'purge', found['reference'],
                              '--yes')
        self.assertEqual('purged', purged['done'])
        self.assertEqual([], self.listed('quarantine', 'list'))
        for gone in path, found['reference']:
            self.assertRaises(
                vim.fault.FileNotFound, self.wait,
                files.DeleteDatastoreFile_Task(gone, datacenter))

    def test_a_purge_destroys_what_is_old_enough_once_agreed(self):
        vm = self.orphan()
        self.sweep()
        self.assertEqual([], self.listed('quarantine', 'purge',
                                         '--older-than', '1', '--yes'))
        words = 'quarantine', 'purge', '--older-than', '0'
        status, out, asked = self.command(*words, answers='n\n')
        self.assertEqual(1, status)
        self.assertRegex(asked, r'Purge vm \S+ \(vm-\d+, .*\)\? \[y/N\]')
        self.assertIn('left', out)
        self.assertIn(vm._moId, [each._moId for each
                                 in self.shadow_vms().values()])
        self.assertIn('purged', self.command(*words, answers='y\n')[1])
        self.assertNotIn(vm._moId, [each._moId for each
                                    in self.shadow_vms().values()])

    def test_a_name_that_two_objects_have_changes_neither(self):
        vms = [self.orphan(), self.orphan()]
        name = vms[0].name
        self.wait(vms[1].ReconfigVM_Task(vim.vm.ConfigSpec(
            name=f'other {name}')))
        self.sweep()
        self.wait(vms[1].ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[
            vim.option.OptionValue(key=shadow.QUARANTINE_RECORD, value=next(
                each.value for each in vms[0].config.extraConfig
                if each.key == shadow.QUARANTINE_RECORD))])))
        before = list(map(self.state_of, vms))
        for verb in ('purge', 'restore'):
            status, out, err = self.command('quarantine', verb, name, '--yes')
            self.assertEqual((2, ''), (status, out))
            for vm in vms:
                self.assertIn(f"'{vm._moId} (vmdk)'", err)
        self.assertEqual(before, list(map(self.state_of, vms)))
        purged, = self.listed('quarantine', 'purge', vms[1]._moId, '--yes')
        self.assertEqual(('purged', name), (purged['done'], purged['name']))
        self.assertEqual(before[0], self.state_of(vms[0]))

    def test_a_named_thing_that_is_left_is_listed_with_the_reason(self):
        vm = self.orphan()
        words = 'sweep', '--act', '--yes', '--also', vm._moId
        young, = self.listed(*words, status=3)
        self.assertRegex(young['done'],
                         'left: (it is younger|its age is unknown)')
        self.assertNotEqual('Quarantine', vm.parent.name)
        self.sweep()
        left, = self.listed(*words, status=3)
        self.assertEqual('left: it is in quarantine', left['done'])
        left, = self.listed('repair', vm._moId, '--yes', status=3)
        self.assertIn(f'quarantine restore or purge {vm._moId}',
                      left['done'])

    def test_an_interrupt_leaves_the_report_of_what_was_done(self):
        self.orphan()
        self.orphan()
        for name, *words in (
                ('move', 'sweep', '--act', '--minimum-age', '0'),
                ('purge', 'quarantine', 'purge', '--older-than', '0')):
            act = getattr(quarantine.Quarantine, name)
            ends = [act, mock.Mock(side_effect=KeyboardInterrupt)]
            with mock.patch.object(
                    quarantine.Quarantine, name,
                    lambda *args: ends.pop(0)(*args)):
                status, out, err = self.command(*words, '--yes',
                                                '--format', 'json')
            self.assertEqual(1, status)
            self.assertRegex(err, r'\AError: interrupted;[^\n]*\n\Z')
            self.assertEqual([f'{name.rstrip("e")}ed',
                              'not finished: repeat the command'],
                             [each['done'] for each in json.loads(out)])
            self.sweep()

    def test_what_a_vm_uses_is_not_destroyed(self):
        vm = self.orphan()
        disk = next(device for device in vm.config.hardware.device
                    if isinstance(device, vim.vm.device.VirtualDisk))
        self.sweep()
        user = self.instances()[0]
        self.wait(user.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(
                operation='add', device=vim.vm.device.VirtualDisk(
                    key=-1, unitNumber=-1, capacityInKB=disk.capacityInKB,
                    controllerKey=next(
                        each.key for each in user.config.hardware.device
                        if isinstance(each,
                                      vim.vm.device.VirtualSCSIController)),
                    backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                        fileName=disk.backing.fileName,
                        diskMode='persistent')))])))
        added = user.config.hardware.device[-1]
        refused, = self.listed('quarantine', 'purge', vm._moId, '--yes',
                               status=1)
        self.assertIn(f'used by \'{user.name}', refused['done'])
        self.assertEqual('Quarantine', vm.parent.name)
        self.wait(user.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove',
                                            device=added)])))

    def test_an_instance_uuid_that_is_taken_refuses_a_restore(self):
        vm = self.orphan()
        uuid = vm.config.instanceUuid
        self.sweep()
        before = self.state_of(vm)
        other = self.orphan()
        self.wait(other.ReconfigVM_Task(vim.vm.ConfigSpec(instanceUuid=uuid)))
        refused, = self.listed('quarantine', 'restore', vm._moId, '--yes',
                               status=1)
        self.assertIn('has its instance UUID now', refused['done'])
        self.assertEqual(before, self.state_of(vm))

    def test_nothing_of_another_deployment_is_listed_or_touched(self):
        vm = self.orphan()
        self.sweep()
        before = self.state_of(vm)
        other = self.make_driver(vmdk_ext_deployment_id='another cinder')
        for words in (['restore', vm._moId], ['purge', vm._moId],
                      ['restore', before[0]], ['purge', before[2]]):
            status, out, err = self.command(
                'quarantine', *words, '--yes', driver=other)
            self.assertEqual(2, status)
            self.assertIn('this deployment has nothing in quarantine', err)
        for words in (['list'], ['purge', '--older-than', '0', '--yes']):
            self.assertEqual([], self.listed('quarantine', *words,
                                             driver=other))
        self.assertEqual(before, self.state_of(vm))

    def test_what_an_older_release_moved_is_destroyed_by_name_alone(self):
        vm = self.orphan()
        self.sweep()
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[
            vim.option.OptionValue(key=key, value='') for key in (
                shadow.QUARANTINE_RECORD, shadow.DEPLOYMENT)])))
        refused, = self.listed('quarantine', 'restore', vm._moId, '--yes',
                               status=1)
        self.assertIn('an older release', refused['done'])
        left, = self.listed('quarantine', 'purge', '--older-than', '0',
                            '--yes')
        self.assertTrue(re.match('left: the time of its move is unknown',
                                 left['done']))
        purged, = self.listed('quarantine', 'purge', vm._moId, '--yes')
        self.assertEqual('purged', purged['done'])

    def test_a_leftover_keeps_its_marks_through_quarantine(self):
        volume = self.create(content=content('replaced'))
        truth = self.truth(volume).vm
        vm = self.wait(truth.CloneVM_Task(
            truth.parent, replace.temporary_name(volume, 'retype'),
            vim.vm.CloneSpec(
                location=vim.vm.RelocateSpec(), template=False,
                powerOn=False, config=vim.vm.ConfigSpec(
                    instanceUuid=uuidutils.generate_uuid(), extraConfig=[
                        vim.option.OptionValue(key=shadow.REPLACED,
                                               value=volume.id)]))))
        before = self.state_of(vm)
        self.sweep()
        self.listed('quarantine', 'restore', vm._moId, '--yes')
        self.assertEqual(before, self.state_of(vm))
