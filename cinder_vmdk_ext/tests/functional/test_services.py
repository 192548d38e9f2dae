# SPDX-License-Identifier: Apache-2.0
"""Services of one cluster, in separate processes, on one backend."""

import time

from oslo_config import cfg
from pyVmomi import vim

from cinder import exception

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.tests import clustered
from cinder_vmdk_ext.tests.functional import backend_case
from sandbox.embedded import database
from sandbox.embedded import section

content = backend_case.content


class ClusterTestCase(backend_case.BackendCase):
    """Two services; each operation begins while another is under way."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.services = []
        for number in (1, 2):
            cls.start_service(number)

    @classmethod
    def start_service(cls, number):
        made = clustered.Process(number, section.of_vcenter(
            cls.vcenter, vmware_snapshot_format='template'),
            cfg.CONF.coordination.backend_url)
        cls.addClassCleanup(made.kill)
        cls.services[number - 1:number] = [made]

    def setUp(self):
        super().setUp()
        self.one, self.two = self.services
        self.path = str(database.api.main_context_manager.writer
                        .get_engine().url.database)
        for service in self.services:
            service.begin('database', path=self.path)
        for service in self.services:
            service.end()

    def new_volume(self, pool='LocalDS_1', size_gib=1, type_id=None,
                   **fields):
        return super().new_volume(
            pool, size_gib, type_id,
            cluster_name=f'{clustered.CLUSTER}#{pool}', **fields)

    def at_rest(self, **fields):
        """A volume that one service has made."""
        volume = self.new_volume(**fields)
        self.one.ask('create', volume=volume.id)
        return self.fresh(volume)

    def promised(self):
        """A volume whose disk is made by the first attachment."""
        return self.new_volume(status='available',
                               provider_id=state.PROMISED)

    def hold(self, method, skip=0):
        """Have a task of a method hang; give back how to wait for it, and
        how to let it go on.
        """
        rule = self.control.fault(method=method, skip=skip, count=1,
                                  task_hang=True)

        def reached():
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if any(each['id'] == rule['id'] and each['hits']
                       for each in self.control.faults()):
                    return
                time.sleep(0.02)
            self.fail(f'{method} was not called')
        return reached, lambda: self.control.release(rule)

    def overlap(self, method, first, second, skip=0):
        """Begin the second while a task of the first hangs.

        :param first, second: what the first and the second service are asked
        """
        reached, release = self.hold(method, skip)
        self.one.begin(**first)
        reached()
        self.two.begin(**second)
        time.sleep(0.5)  # the second comes as far as it can
        release()
        return self.one.end(), self.two.end()

    def count(self, method):
        return self.control.journal()['methods'].get(
            method, {}).get('calls', 0)

    def connector(self):
        return {'instance': self.instances()[0]._moId, 'ip': '127.0.0.1',
                'host': 'compute'}

    def names_of(self, kind):
        return sorted(each.name for each in self.all(kind))

    def test_a_folder_that_both_miss_is_made_once(self):
        volumes = [self.new_volume(project_id='of-both') for _ in range(2)]
        self.control.reset_journal()
        rule = self.control.fault(method='CreateFolder', delay_ms=300)
        for service, volume in zip(self.services, volumes):
            service.begin('create', volume=volume.id)
        for service in self.services:
            service.end()
        self.control.remove_fault(rule)
        self.assertEqual(1, self.names_of(vim.Folder).count(
            'Project (of-both)'))
        self.assertEqual(1, len({self.truth(volume).vm.parent._moId
                                 for volume in volumes}))

    def test_a_start_leaves_what_is_in_the_making_alone(self):
        volume = self.new_volume('LocalDS_2')
        self.overlap('CreateVM_Task', {'do': 'create', 'volume': volume.id},
                     {'do': 'start'})
        volume = self.fresh(volume)
        self.assertEqual('available', volume.status)
        self.assertTrue(state.is_backed(volume))
        self.assert_on('LocalDS_2', volume)
        self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_a_delete_is_not_undone_by_the_repair(self):
        volume = self.at_rest()
        self.relocate(volume, 'LocalDS_3')
        self.overlap('Destroy_Task', {'do': 'delete', 'volume': volume.id},
                     {'do': 'report'})
        self.assertEqual({}, self.shadow_vms())
        self.assertRaises(exception.VolumeNotFound, self.fresh, volume)

    def relocate(self, volume, pool):
        """Move a shadow VM, as an administrator does."""
        self.wait(self.truth(volume).vm.RelocateVM_Task(
            vim.vm.RelocateSpec(datastore=self.datastore(pool))))

    def report_at_once(self):
        for service in self.services:
            service.begin('report')
        for service in self.services:
            self.assertEqual('up', service.end())

    def report_until(self, condition):
        """Have both report until they have heard of what was done."""
        deadline = time.monotonic() + 60
        self.report_at_once()
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
            self.report_at_once()

    def repair(self, volume, pool):
        """Have both report until one has written the pool."""
        self.report_until(lambda: self.fresh(volume).host
                          == f'{backend_case.HOST}#{pool}')
        self.assert_on(pool, volume)
        self.assertEqual(f'{clustered.CLUSTER}#{pool}',
                         self.fresh(volume).cluster_name)

    def test_both_notice_a_move_from_outside_and_one_writes_it(self):
        volume = self.at_rest()
        self.report_at_once()
        self.relocate(volume, 'LocalDS_3')
        self.repair(volume, 'LocalDS_3')

    def test_an_attached_disk_that_was_moved_is_followed_once(self):
        volume = self.at_rest()
        instance = self.attach(volume)
        self.report_at_once()
        self.wait(instance.RelocateVM_Task(vim.vm.RelocateSpec(disk=[
            vim.vm.RelocateSpec.DiskLocator(
                diskId=self.disk_on(instance, volume).key,
                datastore=self.datastore('LocalDS_3'))])))
        self.control.reset_journal()
        self.repair(volume, 'LocalDS_3')
        self.report_at_once()
        self.assertEqual(1, self.count('ReconfigVM_Task'))
        self.assertEqual(
            self.disk_on(instance, volume).backing.fileName,
            self.truth(volume).path)

    def test_a_disk_that_its_instance_took_along_is_moved_out_once(self):
        volume = self.at_rest()
        instance = self.attach(volume)
        self.report_at_once()
        self.addCleanup(lambda: self.wait(instance.RelocateVM_Task(
            vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_0')))))
        self.wait(instance.RelocateVM_Task(vim.vm.RelocateSpec(
            datastore=self.datastore('LocalDS_3'))))
        self.control.reset_journal()
        self.report_until(lambda: self.count('ReconfigVM_Task'))
        self.report_at_once()
        self.assertEqual(1, self.count('ReconfigVM_Task'))
        self.assertNotEqual(
            instance.config.files.vmPathName.rpartition('/')[0],
            self.truth(volume).path.rpartition('/')[0])
        self.assertEqual(
            self.disk_on(instance, volume).backing.fileName,
            self.truth(volume).path)

    def test_an_exchange_of_disks_is_not_taken_for_a_broken_one(self):
        volume = self.at_rest()
        self.write(volume, content('of the snapshot'))
        snapshot = self.snapshot(volume)
        self.write(volume, content('afterwards'))
        # The old VM has lost its name, the new one has not got it.
        copy = self.new_volume()
        self.overlap(
            'ReconfigVM_Task',
            {'do': 'revert', 'volume': volume.id, 'snapshot': snapshot.id},
            {'do': 'clone', 'volume': copy.id, 'source': volume.id}, skip=2)
        self.assertEqual([content('of the snapshot')] * 2, [
            self.read(each, 1 << 16) for each in (volume, copy)])
        self.assertEqual(
            {volume.name, copy.name, snapshot.name}, set(self.shadow_vms()))

    def test_of_two_first_attachments_one_makes_the_disk(self):
        volume = self.promised()
        self.control.reset_journal()
        wanted = {'do': 'attach', 'volume': volume.id,
                  'connector': self.connector()}
        answers = self.overlap('CreateVM_Task', wanted, wanted)
        self.assertEqual((self.truth(volume).vm._moId,) * 2, answers)
        self.assertEqual(1, self.count('CreateVM_Task'))
        self.assertTrue(state.is_backed(self.fresh(volume)))
        self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_the_lock_of_a_service_that_is_killed_is_free(self):
        volume = self.promised()
        wanted = {'do': 'attach', 'volume': volume.id,
                  'connector': self.connector()}
        reached, release = self.hold('CreateVM_Task')
        self.one.begin(**wanted)
        reached()
        self.two.begin(**wanted)
        self.one.kill()
        answers = self.two.end()
        release()
        self.start_service(1)
        self.assertEqual(self.truth(volume).vm._moId, answers)
        self.assertEqual(volume.id, self.truth(volume).disk.backing.uuid)
        self.assertEqual([volume.name], list(self.shadow_vms()))
