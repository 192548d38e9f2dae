# SPDX-License-Identifier: Apache-2.0
"""The long poll reports what concerns volumes, wherever it is put."""

import random
import threading
import time
from unittest import mock

from pyVmomi import vim

from cinder_vmdk_ext.backings import cache
from cinder_vmdk_ext.backings import model
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.volumes import reconcile
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import updates


class MembersTestCase(backend_case.BackendCase):

    def setUp(self):
        super().setUp()
        self.driver.volumeops.read_backings()  # waits until all are reported

    def memory(self, driver=None):
        """The VMs in memory, by moref."""
        return {vm.moref: vm for vm
                in (driver or self.driver).volumeops.read_backings().all}

    def await_true(self, condition):
        deadline = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def stage(self):
        """What holds the VMs of the present conversation."""
        return self.driver.backend.stream.conversation().sink(
            'VirtualMachine')

    def move(self, vm, folder):
        self.wait(folder.MoveIntoFolder_Task([vm]))

    def root(self):
        return self.all(vim.Datacenter)[0].vmFolder

    def rename(self, vm, name):
        self.wait(vm.Rename_Task(name))

    def reported(self):
        """Collect the VMs of which the long poll reports something."""
        found = []
        real = updates._change
        # Not those of other tests: neither their VMs nor their drivers'.
        self.catch_up()
        thread = self.driver.backend.stream.conversation()._thread

        def change(entry):
            ref = soap.ref(entry.getparent()[1])
            if (ref.type == 'VirtualMachine'
                    and threading.current_thread() is thread):
                found.append(ref.value)
            return real(entry)
        patch = mock.patch.object(updates, '_change', change)
        patch.start()
        self.addCleanup(patch.stop)
        return found

    def forgotten(self):
        """Collect the VMs that memory drops."""
        found = []
        stage = self.stage()
        real = stage._publish

        def publish(changed):
            found.extend(moref for moref, vm in changed.items() if vm is None)
            return real(changed)
        patch = mock.patch.object(stage, '_publish', publish)
        patch.start()
        self.addCleanup(patch.stop)
        return found

    # -- VMs of others --------------------------------------------------------

    def test_a_vm_of_others_changes_without_a_report(self):
        ours = self.truth(self.create()).vm
        self.await_true(lambda: ours._moId in self.memory())
        found = self.reported()
        stranger = self.wait(self.root().CreateVM_Task(
            vim.vm.ConfigSpec(name='stranger', files=vim.vm.FileInfo(
                vmPathName='[LocalDS_1]')), ours.resourcePool))
        for number in range(10):
            self.wait(stranger.ReconfigVM_Task(
                vim.vm.ConfigSpec(annotation=f'change {number}')))
            self.rename(stranger, f'renamed {number}')
        self.wait(stranger.PowerOnVM_Task())
        self.wait(stranger.PowerOffVM_Task())
        self.wait(stranger.Destroy_Task())
        self.rename(ours, 'last')
        self.await_true(lambda: self.memory()[ours._moId].name == 'last')
        self.assertEqual({ours._moId}, set(found))

    # -- Shadow VMs -----------------------------------------------------------

    def test_a_vm_is_known_while_it_is_moved_out_and_in(self):
        volume = self.create()
        vm = self.truth(volume).vm
        home = vm.parent
        self.await_true(lambda: vm._moId in self.memory())
        forgotten = self.forgotten()
        for number, folder in enumerate((self.root(), home, self.root())):
            self.move(vm, folder)
            self.rename(vm, f'moved {number}')
            self.await_true(lambda: self.memory().get(vm._moId)
                            and self.memory()[vm._moId].name
                            == f'moved {number}')
        self.assertNotIn(vm._moId, forgotten)
        self.wait(vm.Destroy_Task())
        self.await_true(lambda: vm._moId not in self.memory())

    def test_a_vm_outside_of_the_folders_is_known_at_the_start(self):
        volume = self.create()
        vm = self.truth(volume).vm
        self.move(vm, self.root())
        other = self.make_driver()
        self.assertIn(vm._moId, self.memory(other))
        self.rename(vm, 'outside')
        self.await_true(
            lambda: self.memory(other)[vm._moId].name == 'outside')

    def test_a_vm_that_is_registered_elsewhere_is_known_again(self):
        vm = self.truth(self.create()).vm
        moref, name = vm._moId, vm.name
        self.await_true(lambda: moref in self.memory())
        place = vm.config.files.vmPathName, name, False, vm.resourcePool
        with mock.patch.object(cache, 'FIRST_PAUSE_SECONDS', 0):
            vm.UnregisterVM()
            self.await_true(lambda: moref not in self.memory())
            self.driver.backend.reconciler.run()  # it is nowhere
            found = self.wait(self.root().RegisterVM_Task(*place, None))
            self.driver.backend.reconciler.run()
        self.await_true(lambda: found._moId in self.memory())

    def test_a_vm_in_a_folder_made_later_is_known(self):
        self.await_true(lambda: self.driver.volumeops.backings_known())
        folder = self.root()
        for name in ('OpenStack', 'Project (later)', 'Volumes'):
            below = {each.name: each for each in folder.childEntity}
            folder = below.get(name) or folder.CreateFolder(name)
        self.addCleanup(lambda: self.wait(folder.parent.Destroy_Task()))
        vm = self.truth(self.create()).vm
        self.move(vm, folder)
        self.rename(vm, 'in a later folder')
        self.await_true(lambda: self.memory().get(vm._moId)
                        and self.memory()[vm._moId].name
                        == 'in a later folder')
        self.wait(vm.Destroy_Task())
        self.await_true(lambda: vm._moId not in self.memory())

    def test_a_folder_that_was_renamed_gets_no_new_volume(self):
        self.await_true(lambda: self.driver.volumeops.backings_known())
        project = self.truth(self.create()).vm.parent.parent
        name = project.name
        self.wait(project.Rename_Task('aside'))
        self.addCleanup(lambda: self.wait(project.Destroy_Task()))
        self.await_true(lambda: project._moId not in {
            known.value for known
            in list(self.driver.volumeops._folder_cache.values())})
        found = self.truth(self.create()).vm.parent.parent
        self.assertEqual((name, False),
                         (found.name, found._moId == project._moId))

    def test_a_delete_makes_no_search_for_its_vm(self):
        volume = self.create()
        vm = self.truth(volume).vm
        self.await_true(lambda: vm._moId in self.memory())
        watch_list = self.driver.volumeops.backing_view._list
        with mock.patch.object(watch_list, 'add',
                               wraps=watch_list.add) as add:
            self.driver.delete_volume(volume)
            self.await_true(lambda: vm._moId not in self.memory())
            # The same settling has to be over: a later report follows it.
            later = self.truth(self.create()).vm
            self.await_true(lambda: later._moId in self.memory())
        self.assertNotIn(vm._moId, [
            ref.value for call in add.mock_calls for ref in call.args[0]])

    def test_after_random_changes_memory_equals_a_fresh_read(self):
        dice = random.Random(15)
        for number in range(4):
            self.create()
        folders = [self.root().CreateFolder('aside'),
                   next(iter(self.shadow_vms().values())).parent]
        self.addCleanup(lambda: self.wait(folders[0].Destroy_Task()))

        def move(vm):
            folder = dice.choice([*folders, self.root()])
            if vm.parent != folder:
                self.move(vm, folder)

        def register(vm):
            place = (vm.config.files.vmPathName, vm.name, False,
                     self.instances()[0].resourcePool, None)
            vm.UnregisterVM()
            self.wait(folders[1].RegisterVM_Task(*place))

        def mark(vm):
            self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[
                vim.option.OptionValue(key=model.VOLUME_ID,
                                       value=str(dice.random()))])))
        changes = (move, move, register, mark,
                   lambda vm: self.rename(vm, f'volume-{dice.random()}'),
                   lambda vm: self.rename(folders[1].parent,
                                          f'was {dice.random()}'),
                   lambda vm: self.wait(vm.Destroy_Task()))
        for step in range(10):
            for change in dice.sample(changes, 3):
                vms = sorted(self.shadow_vms().items())
                if vms:
                    change(dice.choice(vms)[1])
            self.await_true(self.knows_vms)

    # -- Instances ------------------------------------------------------------

    def test_an_instance_is_known_while_it_has_a_volume(self):
        volume = self.create()
        instance = self.attach(volume)
        self.report()
        self.assertIn(instance._moId, self.memory())
        before = self.stage()
        self.service.content.sessionManager.TerminateSession(
            [self.driver.session._session_id])
        # Until memory is used again, VMs are read, and no pass is made.
        self.await_true(lambda: self.stage() not in (None, before)
                        and self.stage().whole
                        and self.driver.backend.view.known() is not None)
        self.assertIn(instance._moId, self.memory())
        self.detach(volume, instance)
        self.driver.backend.reconciler._followed_at.clear()
        self.report()
        # Its removal from the list takes no call of its own.
        second = self.create()
        self.attach(second, self.instances()[1])
        self.report()
        self.await_true(lambda: instance._moId not in self.memory())
        self.assertIn(self.instances()[1]._moId, self.memory())

    def test_a_disk_that_another_service_attached_is_followed(self):
        volume = self.create()
        self.report()
        reconciler = self.driver.backend.reconciler
        self.addCleanup(setattr, reconciler, '_owner', reconciler._owner)
        reconciler._owner = reconcile.Owner(None, 'group@vmware')
        volume.cluster_name = 'group@vmware#LocalDS_1'
        volume.save()
        self.driver, ours = self.make_driver(), self.driver
        instance = self.attach(volume)
        self.driver = ours
        for attachment in volume.volume_attachment:
            attachment.attach_status = 'attached'
            attachment.attach_mode = 'ro'
            attachment.save()
        self.report()
        self.assertIn(instance._moId, self.memory())
        disk = self.disk_on(instance, volume)
        self.control.call('POST', '/sdrs/move', {
            'vm': instance.name, 'disk': str(disk.key),
            'datastore': 'LocalDS_3'})
        self.report()
        self.assert_on('LocalDS_3', volume)
