# SPDX-License-Identifier: Apache-2.0
"""`vc ...`: the vCenter's storage, with a user of few privileges.

Before each command the user gets the privileges that docs/storage-api.md
names. First each privilege that a change needs is removed in turn: the command
is then refused, and nothing is changed. The effects are checked with pyVmomi.
"""

import os
import time
import uuid
from unittest import mock

import fixtures
from oslo_db import exception as db_exception
from pyVmomi import vim
from sqlalchemy import exc as sqlalchemy_exc

from cinder import objects

from cinder_vmdk_ext.cmd import backend
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import command_case

USER = 'storage@vsphere.local'
FILES = ('Datastore.Browse', 'Datastore.FileManagement')
STORAGE = ('Host.Config.Storage',)
GIB = 1 << 30


class VcCase(command_case.CommandCase):
    """Commands as a user of least privilege."""

    VCENTER = command_case.CommandCase.VCENTER | {'disk': ['20GiB']}

    def setUp(self):
        super().setUp()
        self.log_in_by_environment()
        self.vdm = self.service.content.virtualDiskManager
        self.datacenter = self.service.content.rootFolder.childEntity[0]

    def log_in_by_environment(self):
        patched = mock.patch.dict(os.environ, {
            'VCENTER_USERNAME': USER,
            'VCENTER_PASSWORD': self.vcenter.password})
        patched.start()
        self.addCleanup(patched.stop)

    def allow(self, *privileges):
        self.control.grant(
            [{'name': USER, 'password': self.vcenter.password}],
            {'storage': list(privileges)},
            [{'entity': '/', 'user': USER, 'role': 'storage'}])

    def vc(self, *words, needs=(), status=0):
        """A command with no more privileges than it needs."""
        self.allow(*needs)
        return self.listed('vc', *words, status=status)

    def done(self, *words, needs):
        """A command that changes something; refused without a privilege."""
        before = self.state()
        for missing in needs:
            self.allow(*(each for each in needs if each != missing))
            status, out, err = self.command('vc', *words, '--yes')
            self.assertEqual((1, 1), (status, err.count('\n')),
                             (words, missing, out, err))
            self.assertIn(f'lacks the privilege {missing} on', err)
        self.allow(*needs)
        would = self.listed('vc', *words, '--dry-run')
        self.assertIn('would be', would[0]['done'])
        self.assertEqual(before, self.state(), words)
        return self.listed('vc', *words, '--yes')

    def refused(self, *words, why, needs, status=1, asking=('--yes',)):
        """A command that is refused, and changes nothing."""
        self.allow(*needs)
        done, out, err = self.command('vc', *words, *asking)
        methods = self.calls_of_command()
        self.assertEqual((status, ''), (done, out), (words, err))
        self.assertRegex(err, rf'\AError: [^\n]*{why}[^\n]*\n\Z')
        self.assertFalse([
            each for each in methods if each.startswith((
                'CreateV', 'CreateN', 'CreateL', 'CreateCl', 'CreateS',
                'Delete', 'Destroy_', 'DestroyD', 'Move', 'Copy', 'Extend',
                'Inflate', 'Eager', 'Rename', 'Remove', 'Revert', 'Make',
                'Configure', 'DatastoreE', 'Rescan', 'Reconfig'))], words)

    def calls_of_command(self):
        """What the last command called; the driver calls beside it."""
        calls = self.control.calls(last=2000)
        session = [each['session'] for each in calls
                   if each['method'] == 'Logout'][-1]
        return [each['method'] for each in calls
                if each['session'] == session]

    def state(self):
        """All that these commands change, by pyVmomi."""
        content = self.service.content
        datastores = self.datacenter.datastore
        return (
            sorted(each.name for each in self.datacenter.hostFolder
                   .childEntity),
            sorted((each.name, each._moId, each.summary.maintenanceMode,
                    sorted(mount.key._moId for mount in each.host),
                    each.iormConfiguration.enabled,
                    each.iormConfiguration.congestionThreshold)
                   for each in datastores),
            [self.files(each) for each in datastores],
            [self.snapshots_of(vm) for vm in self.instances()],
            [self.allocations_of(vm) for vm in self.instances()],
            content.about.instanceUuid)

    def files(self, datastore):
        task = datastore.browser.SearchDatastoreSubFolders_Task(
            f'[{datastore.name}]', vim.host.DatastoreBrowser.SearchSpec(
                details=vim.host.DatastoreBrowser.FileInfo.Details(
                    fileSize=True, fileType=True, modification=False,
                    fileOwner=False), matchPattern=['*.vmdk']))
        return sorted((folder.folderPath.rstrip('/'), file.path,
                       file.fileSize)
                      for folder in self.wait(task) for file in folder.file)

    def snapshots_of(self, vm):
        def below(trees):
            return [(each.name, each.description, below(
                each.childSnapshotList)) for each in trees]
        return below(vm.snapshot.rootSnapshotList if vm.snapshot else [])

    def allocations_of(self, vm):
        return [(each.shares and each.shares.shares, each.limit,
                 each.reservation) for device in vm.config.hardware.device
                if isinstance(device, vim.vm.device.VirtualDisk)
                for each in [device.storageIOAllocation] if each]

    def place(self, name):
        return next((each for each in self.datacenter.datastore
                     if each.name == name), None)

    def capacity_and_type(self, path):
        """By the answer to a query of the disk's files, as pyVmomi has it."""
        name, within = path[1:].split('] ')
        folder, _, file = within.rpartition('/')
        query = vim.host.DatastoreBrowser.VmDiskQuery(
            details=vim.host.DatastoreBrowser.VmDiskQuery.Details(
                diskType=True, capacityKb=True, thin=True,
                hardwareVersion=False))
        datastore = self.place(name)
        found = self.wait(datastore.browser.SearchDatastore_Task(
            f'[{name}] {folder}', vim.host.DatastoreBrowser.SearchSpec(
                query=[query], matchPattern=[file],
                details=vim.host.DatastoreBrowser.FileInfo.Details(
                    fileType=True, fileSize=True, modification=False,
                    fileOwner=False))))
        return [(each.capacityKb * 1024, each.thin) for each in found.file]


class VcTestCase(VcCase):

    def test_clusters_are_listed_made_and_removed(self):
        cluster = self.datacenter.hostFolder.childEntity[0]
        found, = self.vc('cluster', 'list')
        self.assertEqual(
            (cluster.name, cluster._moId,
             sorted(each.name for each in cluster.host)),
            (found['name'], found['reference'], found['hosts']))
        self.assertEqual(
            sorted(each.name for each in cluster.datastore),
            [each['name'] for each in self.vc('cluster', 'datastores',
                                              cluster.name)])
        done, = self.done('cluster', 'create', 'new', '--drs',
                          needs=['Host.Inventory.CreateCluster'])
        made = next(each for each in self.datacenter.hostFolder.childEntity
                    if each.name == 'new')
        self.assertEqual((made._moId, 'created'),
                         (done['reference'], done['done']))
        self.assertTrue(made.configurationEx.drsConfig.enabled)
        self.assertTrue(self.vc('cluster', 'show', 'new')['drs'])
        self.refused('cluster', 'create', 'new', why='already',
                     needs=['Host.Inventory.CreateCluster'])
        self.done('cluster', 'delete', 'new',
                  needs=['Host.Inventory.DeleteCluster'])
        self.assertEqual([cluster], self.datacenter.hostFolder.childEntity)
        needs = ['Host.Inventory.DeleteCluster']
        self.refused('cluster', 'delete', cluster.name, why='has hosts',
                     needs=needs)
        self.refused('cluster', 'delete', 'none', status=2, needs=needs,
                     why=f"no cluster 'none'; there are '{cluster.name}'")

    # -- Datastores -----------------------------------------------------------

    def test_datastores_are_listed_with_hosts_space_and_vms(self):
        found = {each['name']: each for each in self.vc('datastore', 'list')}
        for each in self.datacenter.datastore:
            summary, seen = each.summary, found.pop(each.name)
            self.assertEqual(
                (each._moId, summary.capacity, summary.freeSpace,
                 summary.url, sorted(vm.name for vm in each.vm),
                 sorted(mount.key.name for mount in each.host)),
                (seen['reference'], seen['capacity_bytes'],
                 seen['free_bytes'], seen['url'], seen['vms'],
                 seen['hosts']))
        self.assertEqual({}, found)
        self.assertEqual('LocalDS_1', self.vc(
            'datastore', 'show', self.place('LocalDS_1')._moId)['name'])
        self.assertEqual(
            self.place('LocalDS_0').summary.freeSpace, self.vc(
                'datastore', 'refresh', 'LocalDS_0')['free_bytes'])

    def test_an_export_is_mounted_by_both_versions_and_unmounted(self):
        hosts = self.datacenter.hostFolder.childEntity[0].host
        words = ('datastore', 'create', 'nfs', 'nfs3', '--server', 'filer',
                 '--path', '/export')
        first, = self.done(*words, '--host', hosts[0].name, needs=STORAGE)
        self.assertEqual(f'nfs3 on {hosts[0].name}', first['name'])
        rest = self.done(*words, '--cluster', 'DC0_C0', needs=STORAGE)
        self.assertEqual(len(hosts) - 1, len(rest))
        made = self.place('nfs3')
        self.assertEqual(
            ('NFS', 'filer', '/export', {each._moId for each in hosts}),
            (made.summary.type, made.info.nas.remoteHost,
             made.info.nas.remotePath,
             {each.key._moId for each in made.host}))
        self.refused('datastore', 'create', 'nfs', 'nfs3', '--server',
                     'other', '--path', '/export', '--cluster', 'DC0_C0',
                     why='another datastore', needs=STORAGE)
        self.done('datastore', 'create', 'nfs41', 'nfs4', '--server', 'a',
                  '--server', 'b', '--path', '/four', '--host',
                  hosts[0].name, needs=STORAGE)
        self.assertEqual('NFS41', self.place('nfs4').info.nas.type)
        for name in 'nfs3', 'nfs4':
            self.done('datastore', 'delete', name,
                      needs=['Datastore.Delete'])
            self.assertIsNone(self.place(name))

    def test_a_mount_that_fails_on_a_host_says_how_far_it_came(self):
        words = ('datastore', 'create', 'nfs', 'half', '--server', 'filer',
                 '--path', '/half', '--cluster', 'DC0_C0', '--yes')
        self.allow(*STORAGE)
        self.control.fault(method='CreateNasDatastore', count=1, skip=1,
                           fault={'type': 'HostConfigFault'})
        status, _out, err = self.command('vc', *words)
        self.assertEqual(1, status)
        self.assertIn('1 of 2 hosts have newly mounted it', err)
        again, = self.listed('vc', *words)
        self.assertEqual('mounted', again['done'])
        self.assertEqual(2, len(self.place('half').host))
        self.place('half').DestroyDatastore()

    def test_vmfs_and_local_datastores_are_made_renamed_and_deleted(self):
        host = self.datacenter.hostFolder.childEntity[0].host[0]
        free, = host.configManager.datastoreSystem.QueryAvailableDisksForVmfs()
        words = ('datastore', 'create', 'vmfs', 'silver', '--host', host.name)
        self.refused(*words, '--device', 'naa.no', needs=STORAGE,
                     why=free.canonicalName)
        self.done(*words, '--device', free.canonicalName, needs=STORAGE)
        made = self.place('silver')
        self.assertEqual(free.canonicalName,
                         made.info.vmfs.extent[0].diskName)
        self.done('datastore', 'rename', 'silver', 'pure gold',
                  needs=['Datastore.Rename'])
        self.assertEqual('pure gold', made.name)
        self.refused('datastore', 'rename', 'pure gold', 'LocalDS_0',
                     why='already', needs=['Datastore.Rename'])
        needs = ['Datastore.Delete', 'Datastore.Browse']
        self.make_disk('[pure gold] kept.vmdk')
        self.refused('datastore', 'delete', 'pure gold', needs=needs,
                     why='has files of disks.*kept.vmdk')
        self.delete_disk('[pure gold] kept.vmdk')
        self.done('datastore', 'delete', 'pure gold', needs=needs)
        self.assertIsNone(self.place('pure gold'))
        folder = self.useFixture(fixtures.TempDir()).path
        self.done('datastore', 'create', 'local', 'here', '--host',
                  host.name, '--path', folder, needs=STORAGE)
        self.assertEqual([host], [each.key for each
                                  in self.place('here').host])
        self.place('here').DestroyDatastore()

    def make_disk(self, path):
        self.wait(self.vdm.CreateVirtualDisk_Task(
            path, self.datacenter,
            vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='thin', adapterType='lsiLogic', capacityKb=1024)))

    def delete_disk(self, path):
        self.wait(self.vdm.DeleteVirtualDisk_Task(path, self.datacenter))

    def test_a_volumes_disk_is_refused_under_every_path(self):
        volume = self.create(pool='LocalDS_1')
        snapshot = self.snapshot(volume)
        path = self.truth(volume).path
        self.assertNotEqual('', snapshot.id)
        shouted = path[:len('[LocalDS_1] ')] + path[
            len('[LocalDS_1] '):-len('.vmdk')].upper() + '.vmdk'
        before = self.state()
        for each in (path, shouted,
                     path.replace('.vmdk', '-flat.vmdk'),
                     path.replace('[LocalDS_1] ', '[LocalDS_1] ./'),
                     path.replace('[LocalDS_1] ', '[LocalDS_1]  '),
                     path.replace('/', '//'),
                     path.replace('/', '/../' + path.split('/')[0][12:]
                                  + '/'),
                     'ds:///vmfs/volumes/LocalDS_1/' + path[12:],
                     '[LocalDS_1] fcd/disk.vmdk'):
            for words in (['delete', each], ['extend', each, '--size',
                                             '9GiB'],
                          ['copy', each, '[LocalDS_1] mine.vmdk'],
                          ['move', each, '[LocalDS_1] mine.vmdk']):
                self.allow(*FILES)
                status, out, err = self.command('vc', 'disk', *words, '--yes')
                self.assertIn((status, out, err.count('\n')),
                              ((1, '', 1), (2, '', 1)), (words, err))
        self.assertEqual(before, self.state())

    def test_a_volumes_disk_is_refused_where_its_folder_was_renamed(self):
        volume = self.create(pool='LocalDS_1')
        home = self.truth(volume).path.rpartition('/')[0]
        name = self.truth(volume).path.rpartition('/')[2]
        files = self.service.content.fileManager

        def move(source, target):
            self.wait(files.MoveDatastoreFile_Task(
                source, self.datacenter, target, self.datacenter, False))

        move(home, '[LocalDS_1] archive')
        self.addCleanup(move, '[LocalDS_1] archive', home)
        self.wait(self.vdm.MoveVirtualDisk_Task(
            f'[LocalDS_1] archive/{name}', self.datacenter,
            '[LocalDS_1] archive/old.vmdk', self.datacenter, False))
        self.addCleanup(lambda: self.wait(self.vdm.MoveVirtualDisk_Task(
            '[LocalDS_1] archive/old.vmdk', self.datacenter,
            f'[LocalDS_1] archive/{name}', self.datacenter, False)))
        self.refused('disk', 'delete', '[LocalDS_1] archive/old.vmdk',
                     needs=FILES, why='has the UUID of the disk of VM')

    def test_a_disk_of_a_lost_volume_is_refused_by_its_uuid(self):
        volume = self.create(pool='LocalDS_1')
        vm = self.truth(volume).vm
        self.wait(vm.Rename_Task('rescued'))
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(
            datastore=self.place('LocalDS_2'))))
        path = self.truth(volume).path
        vm.UnregisterVM()
        self.addCleanup(self._delete_path, path.rpartition('/')[0])
        self.assertNotIn(volume.id, path)
        before = self.state()
        for words in (['delete', path], ['extend', path, '--size', '9GiB'],
                      ['copy', path, '[LocalDS_2] mine.vmdk'],
                      ['move', path, '[LocalDS_2] mine.vmdk'],
                      ['inflate', path], ['eager-zero', path]):
            self.refused('disk', *words, needs=FILES,
                         why=f'has the UUID of volume {volume.id},'
                         '.*volume relink')
        self.assertEqual(before, self.state())
        self.assertTrue(self.capacity_and_type(path))

    def test_a_disk_is_kept_while_the_database_does_not_answer(self):
        path = '[LocalDS_2] unknown.vmdk'
        self.make_disk(path)
        for error in (db_exception.DBError('down'),
                      sqlalchemy_exc.OperationalError('', {}, 'down')):
            with mock.patch.object(objects.VolumeList, 'get_all',
                                   side_effect=error):
                self.refused(
                    'disk', 'delete', path, needs=FILES,
                    why='whether the disk belongs .* is unknown.*down')
        self.assertTrue(self.capacity_and_type(path))
        self.delete_disk(path)

    def test_the_volume_of_a_uuid_is_found_by_both_of_its_ids(self):
        self.assertEqual('', backend.owner_of_uuid(str(uuid.uuid4())))
        name_id = str(uuid.uuid4())
        migrated = self.new_volume(_name_id=name_id)
        for each in migrated.id, name_id:
            self.assertEqual(f'volume {migrated.id}',
                             backend.owner_of_uuid(each))

    def test_a_datastore_in_use_stays_as_it_is(self):
        needs = ['Datastore.Delete', 'Datastore.Config', 'Datastore.Browse']
        user = self.instances()[0].name
        for words in (['delete', 'LocalDS_0'],
                      ['maintenance', 'enter', 'LocalDS_0']):
            self.refused('datastore', *words, needs=needs,
                         why=f"in use by .*'{user}'")

    def test_a_datastore_with_volumes_is_left_to_cinder(self):
        self.create(pool='LocalDS_1')
        needs = ['Datastore.Delete', 'Datastore.Config', 'Datastore.Rename',
                 'Datastore.Browse']
        for words in (['delete', 'LocalDS_1'],
                      ['rename', 'LocalDS_1', 'other'],
                      ['maintenance', 'enter', 'LocalDS_1']):
            self.refused('datastore', *words, needs=needs,
                         why='has volumes of Cinder')

    def test_a_datastore_goes_out_of_service_and_comes_back(self):
        needs = ['Datastore.Config']
        self.done('datastore', 'maintenance', 'enter', 'LocalDS_3',
                  needs=needs)
        self.assertEqual('inMaintenance',
                         self.place('LocalDS_3').summary.maintenanceMode)
        self.refused('datastore', 'maintenance', 'enter', 'LocalDS_3',
                     why='already', needs=needs)
        self.done('datastore', 'maintenance', 'exit', 'LocalDS_3',
                  needs=needs)
        self.assertEqual('normal',
                         self.place('LocalDS_3').summary.maintenanceMode)
        self.refused('datastore', 'maintenance', 'exit', 'LocalDS_3',
                     why='is in service', needs=needs)

    def test_whether_a_cluster_reaches_a_datastore(self):
        hosts = self.vc('datastore', 'reachable', 'LocalDS_2', 'DC0_C0')
        self.assertEqual([True, True], [each['usable'] for each in hosts])
        self.control.call('POST', '/mounts', {
            'datastore': 'LocalDS_2', 'host': hosts[0]['host'],
            'accessMode': 'readOnly'})
        try:
            found = self.vc('datastore', 'reachable', 'LocalDS_2', 'DC0_C0',
                            status=3)
            self.assertEqual(
                [('readOnly', False), ('readWrite', True)],
                [(each['access_mode'], each['usable']) for each in found])
        finally:
            self.control.call('POST', '/mounts', {
                'datastore': 'LocalDS_2', 'host': hosts[0]['host'],
                'accessMode': 'readWrite'})

    def test_storage_io_control_is_read_and_set(self):
        needs = ['Datastore.ConfigIOManagement']
        datastore = self.place('LocalDS_2')
        self.done('datastore', 'io', 'set', 'LocalDS_2', '--enable',
                  '--automatic', '80', needs=needs)
        config = datastore.iormConfiguration
        self.assertEqual(
            (True, 'automatic', 80),
            (config.enabled, config.congestionThresholdMode,
             config.percentOfPeakThroughput))
        self.done('datastore', 'io', 'set', 'LocalDS_2', '--manual', '20',
                  needs=needs)
        config = datastore.iormConfiguration
        self.assertEqual((True, 'manual', 20), (
            config.enabled, config.congestionThresholdMode,
            config.congestionThreshold))
        shown = self.vc('datastore', 'io', 'show', 'LocalDS_2')
        self.assertEqual((True, 'manual', None, 20), (
            shown['enabled'], shown['mode'], shown['percent'],
            shown['threshold_ms']))
        for words, why in ((['--manual', '4'], '5 to 100'),
                           (['--automatic', '101'], '50 to 100'),
                           (['--manual', '9', '--automatic', '60'], 'both'),
                           ([], 'nothing')):
            self.refused('datastore', 'io', 'set', 'LocalDS_2', *words,
                         why=why, needs=needs)
        self.done('datastore', 'io', 'set', 'LocalDS_2', '--disable',
                  needs=needs)
        self.assertFalse(datastore.iormConfiguration.enabled)

    def test_hosts_are_rescanned(self):
        done = self.done('host', 'rescan', '--cluster', 'DC0_C0',
                         needs=STORAGE)
        self.assertEqual(['rescanned'] * 2, [each['done'] for each in done])
        self.refused('host', 'rescan', needs=STORAGE,
                     why='name a host')

    # -- Disks ----------------------------------------------------------------

    def test_a_disk_is_made_copied_moved_extended_and_deleted(self):
        path, copy, moved = (f'[LocalDS_1] tools/{name}.vmdk'
                             for name in ('a', 'deep/er/b', 'c'))
        done, = self.done('disk', 'create', path, '--size', '2MiB',
                          needs=FILES)
        self.assertEqual((path, 'created'), (done['name'], done['done']))
        self.assertEqual([(2 << 20, True)], self.capacity_and_type(path))
        self.done('disk', 'extend', path, '--size', '4MiB', needs=FILES)
        self.assertEqual([(4 << 20, True)], self.capacity_and_type(path))
        self.done('disk', 'copy', path, copy, '--type', 'thick', needs=FILES)
        self.assertEqual([(4 << 20, False)], self.capacity_and_type(copy))
        self.done('disk', 'eager-zero', copy, needs=FILES)
        self.done('disk', 'inflate', path, needs=FILES)
        self.assertEqual([(4 << 20, False)], self.capacity_and_type(path))
        self.done('disk', 'move', path, moved, needs=FILES)
        self.assertEqual([], self.capacity_and_type(path))
        self.assertEqual([(4 << 20, False)], self.capacity_and_type(moved))
        listed = self.vc('disk', 'list', '--datastore', 'LocalDS_1',
                         needs=FILES[:1])
        self.assertEqual({(copy, 4 << 20), (moved, 4 << 20)}, {
            (each['path'], each['size_bytes']) for each in listed})
        found = self.vc('datastore', 'browse', 'LocalDS_1', 'tools',
                        '--recursive', '--pattern', '*.vmdk',
                        needs=FILES[:1])
        self.assertLessEqual(
            {'tools/c.vmdk', 'tools/deep/er/b.vmdk'},
            {each['path'] for each in found if each['kind'] == 'disk'})
        top = self.vc('datastore', 'browse', 'LocalDS_1', needs=FILES[:1])
        self.assertEqual([('tools', 'folder')], [
            (each['path'], each['kind']) for each in top
            if each['path'] == 'tools'])
        for each in copy, moved:
            self.done('disk', 'delete', each, needs=FILES)
        self.assertEqual([], self.files(self.place('LocalDS_1')))

    def test_every_type_and_adapter_of_a_disk_is_made(self):
        for number, (form, adapter) in enumerate((
                ('thin', 'lsiLogic'), ('thick', 'busLogic'),
                ('eagerZeroedThick', 'ide'), ('thin', 'lsiLogicsas'),
                ('thin', 'paraVirtual'))):
            path = f'[LocalDS_2] {number}.vmdk'
            self.vc('disk', 'create', path, '--size', '1MiB', '--type', form,
                    '--adapter', adapter, '--yes', needs=FILES)
            self.assertEqual([(1 << 20, form == 'thin')],
                             self.capacity_and_type(path))
            self.delete_disk(path)

    def test_a_wrong_path_or_size_changes_nothing(self):
        self.make_disk('[LocalDS_2] there.vmdk')
        try:
            for words, why, status in (
                    (['create', '[LocalDS_2] ../a.vmdk', '--size', '1MiB'],
                     'no path within a datastore', 1),
                    (['create', '[LocalDS_2] a.txt', '--size', '1MiB'],
                     'is no disk', 1),
                    (['create', '[no] a.vmdk', '--size', '1MiB'],
                     "the datastores are 'LocalDS_0'", 2),
                    (['create', '[LocalDS_2] there.vmdk', '--size', '1MiB'],
                     'there is a file', 1),
                    (['create', '[LocalDS_2] a.vmdk', '--size', '63TiB'],
                     'at most 62 TiB', 1),
                    (['extend', '[LocalDS_2] there.vmdk', '--size', '1MiB'],
                     'can only become larger', 1),
                    (['delete', '[LocalDS_2] there-flat.vmdk'],
                     'is no disk', 1),
                    (['delete', '[LocalDS_2] gone.vmdk'],
                     'there is no disk', 2),
                    (['eager-zero', '[LocalDS_2] there.vmdk'],
                     'is thin', 1),
                    (['move', '[LocalDS_2] there.vmdk',
                      '[LocalDS_2] there.vmdk'], 'there is a file', 1)):
                self.refused('disk', *words, why=why, status=status,
                             needs=FILES)
        finally:
            self.delete_disk('[LocalDS_2] there.vmdk')

    def test_a_disk_that_a_vm_uses_stays_as_it_is(self):
        vm = self.instances()[0]
        disk = next(each for each in vm.config.hardware.device
                    if isinstance(each, vim.vm.device.VirtualDisk))
        path = disk.backing.fileName
        listed, = self.vc('disk', 'list', '--vm', vm.name)
        self.assertEqual((path, disk.capacityInBytes, disk.backing.uuid), (
            listed['path'], listed['size_bytes'], listed['uuid']))
        for words in (['delete', path], ['extend', path, '--size', '90GiB'],
                      ['move', path, '[LocalDS_1] x.vmdk'],
                      ['inflate', path], ['copy', path,
                                          '[LocalDS_1] x.vmdk']):
            self.refused('disk', *words, needs=FILES,
                         why=f"in use by VM '{vm.name}'")

    def test_shares_and_limits_of_a_disk_are_read_and_set(self):
        needs = ['VirtualMachine.Config.EditDevice',
                 'VirtualMachine.Config.Resource']
        vm = self.instances()[1]

        def disk():
            return next(each for each in vm.config.hardware.device
                        if isinstance(each, vim.vm.device.VirtualDisk))

        def found():
            io = disk().storageIOAllocation
            return (io.shares.level, io.shares.shares, io.limit,
                    io.reservation)

        path = disk().backing.fileName
        words = 'disk', 'io', 'set', vm.name, path
        self.done(*words, '--shares', 'high', '--limit', '500', needs=needs)
        self.assertEqual(('high', 2000, 500, 0), found())
        self.done(*words, '--shares', '300', '--reservation', '100',
                  needs=needs)
        self.assertEqual(('custom', 300, 500, 100), found())
        self.assertEqual(
            (path, 'custom', 300, 500, 100),
            tuple(self.vc('disk', 'io', 'list', vm.name)[0].values()))
        for more, why in (
                (['--limit', '15'], '16 to'), (['--limit', '50'], 'above'),
                (['--shares', 'most'], 'low, normal, high'),
                (['--shares', '4001'], '200 to 4000'),
                (['--reservation', '-1'], 'a reservation of -1'),
                ([], 'nothing is to be set')):
            self.refused(*words, *more, why=why, needs=needs)
        self.refused('disk', 'io', 'set', vm.name, '[LocalDS_0] none.vmdk',
                     '--limit', '50', why='has no disk', status=2,
                     needs=needs)
        self.assertEqual(('custom', 300, 500, 100), found())
        self.done(*words, '--shares', 'normal', '--limit', '-1',
                  '--reservation', '0', needs=needs)
        self.assertEqual(('normal', 1000, -1, 0), found())

    def test_a_disk_with_children_stays_as_it_is(self):
        base = '[LocalDS_2] kin/base.vmdk'
        self.allow(*FILES)
        self.command('vc', 'disk', 'create', base, '--size', '1MiB', '--yes')
        self.command('vc', 'disk', 'create', '[LocalDS_2] kin/'
                     'base-000001.vmdk', '--size', '1MiB', '--yes')
        self.refused('disk', 'delete', base, needs=FILES,
                     why='has children .*base-000001')
        self.delete_disk('[LocalDS_2] kin/base-000001.vmdk')
        self.delete_disk(base)

    def test_a_disk_of_a_volume_is_left_to_cinder(self):
        volume = self.create(pool='LocalDS_1')
        path = self.truth(volume).path
        self.refused('disk', 'delete', path, needs=FILES,
                     why=f'belongs to volume or snapshot {volume.id}')
        self.refused('disk', 'copy', path, '[LocalDS_2] x.vmdk', needs=FILES,
                     why='belongs to volume')
        vm = self.truth(volume).vm
        self.wait(vm.Rename_Task('disguised'))
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(
            datastore=self.place('LocalDS_2'))))
        moved = self.truth(volume).path
        self.assertNotIn(volume.id, moved)
        self.refused('disk', 'delete', moved, needs=FILES,
                     why='belongs to a volume of Cinder')

    # -- Snapshots ------------------------------------------------------------

    def test_snapshots_are_taken_renamed_reverted_to_and_deleted(self):
        vm = self.instances()[0]
        state = 'VirtualMachine.State.'
        self.wait(vm.PowerOffVM_Task())
        self.addCleanup(lambda: self.wait(vm.PowerOnVM_Task()))
        for name in 'one', 'two', 'three':
            done, = self.done('snapshot', 'create', vm.name, name,
                              '--description', f'of {name}',
                              needs=[state + 'CreateSnapshot',
                                     'Datastore.AllocateSpace'])
            self.assertRegex(done['reference'], 'snapshot-')
        self.done('snapshot', 'rename', vm.name, 'two', '2nd',
                  needs=[state + 'RenameSnapshot'])
        self.assertEqual(
            [('one', 'of one', [('2nd', 'of two', [
                ('three', 'of three', [])])])], self.snapshots_of(vm))
        self.done('snapshot', 'revert', vm.name, 'one',
                  needs=[state + 'RevertToSnapshot'])
        self.assertEqual('one', next(
            each['name'] for each in self.vc('snapshot', 'tree', vm.name)
            if each['current']))
        self.refused('snapshot', 'delete', vm.name, 'two', status=2,
                     why="no snapshot 'two'; it has",
                     needs=[state + 'RemoveSnapshot'])
        self.done('snapshot', 'delete', vm.name, '2nd', '--children',
                  needs=[state + 'RemoveSnapshot'])
        self.assertEqual([('one', 'of one', [])], self.snapshots_of(vm))
        self.done('snapshot', 'delete', vm.name, 'one', '--no-consolidate',
                  needs=[state + 'RemoveSnapshot'])
        self.assertEqual([], self.snapshots_of(vm))

    def test_a_snapshot_of_a_vm_that_runs_is_not_reverted_to(self):
        vm = self.instances()[0]
        needs = ['VirtualMachine.State.CreateSnapshot',
                 'VirtualMachine.State.RevertToSnapshot',
                 'Datastore.AllocateSpace']
        self.vc('snapshot', 'create', vm.name, 'now', '--yes', needs=needs)
        self.refused('snapshot', 'revert', vm.name, 'now', why='runs',
                     needs=needs)
        self.wait(vm.RemoveAllSnapshots_Task())

    def test_a_snapshot_is_exported_whole_to_a_new_file(self):
        volume = self.create(content=backend_case.content('exported'))
        vm = self.truth(volume).vm
        self.wait(vm.CreateSnapshot_Task('moment', '', False, False))
        folder = self.useFixture(fixtures.TempDir()).path
        path = os.path.join(folder, 'moment.vmdk')
        words = 'snapshot', 'export', vm._moId, 'moment', path
        self.refused(*words, why='VApp.Export', needs=[], asking=())
        self.assertEqual([], os.listdir(folder))
        done, = self.vc(*words, needs=['VApp.Export'])
        self.assertEqual(['moment.vmdk'], os.listdir(folder))
        with open(path, 'rb') as file:
            data = file.read()
        self.assertEqual((b'KDMV', done['size_bytes'], bytes(512)),
                         (data[:4], len(data), data[-512:]))
        self.refused(*words, why='there is a file', needs=['VApp.Export'],
                     asking=())

    def test_a_vm_with_a_volume_gets_no_snapshot(self):
        volume = self.create()
        needs = ['VirtualMachine.State.CreateSnapshot']
        self.refused('snapshot', 'create', self.truth(volume).vm._moId, 'x',
                     why='belongs to a volume of Cinder', needs=needs)
        instance = self.attach(volume)
        self.refused('snapshot', 'create', instance.name, 'x',
                     why=f'attached .*volume-{volume.id}', needs=needs)
        self.detach(volume, instance)

    # -- Login ----------------------------------------------------------------

    def test_the_login_is_asked_for_and_never_cinders_own(self):
        own = self.driver.configuration.vmware_host_username
        self.allow()
        with mock.patch.dict(os.environ):
            del os.environ['VCENTER_USERNAME'], os.environ['VCENTER_PASSWORD']
            status, _out, err = self.command(
                'vc', 'cluster', 'list',
                answers=f'{USER}\n{self.vcenter.password}\n')
            self.assertEqual(0, status, err)
            self.assertRegex(err, rf'User of .*: Password of {USER}: ')
            status, _out, err = self.command('vc', 'cluster', 'list',
                                             answers=f'{own}\n')
            self.assertEqual(2, status)
            self.assertIn('is the account of cinder-volume', err)
            status, _out, err = self.command('vc', 'cluster', 'list')
            self.assertEqual(2, status)
            self.assertIn('no user was given', err)
        os.environ['VCENTER_PASSWORD'] = 'wrong'
        status, _out, err = self.command('vc', 'cluster', 'list')
        self.assertEqual(1, status)
        self.assertIn(f"refuses the user '{USER}'", err)
        self.assertNotIn('wrong', err)

    def test_a_vcenter_that_goes_away_in_between_is_one_clear_error(self):
        self.allow(*FILES)
        path = '[LocalDS_2] away.vmdk'
        words = 'vc', 'disk', 'create', path, '--size', '1MiB', '--yes'
        self.control.fault(method='CreateVirtualDisk_Task', cut='before',
                           count=1)
        status, out, err = self.command(*words)
        self.assertEqual((1, '', 1), (status, out, err.count('\n')), err)
        self.assertIn('CreateVirtualDisk_Task', err)
        self.assertEqual([], self.capacity_and_type(path))
        # The reply is lost, and the vCenter has done it.
        self.control.fault(method='CreateVirtualDisk_Task', cut='after',
                           count=1)
        status, out, err = self.command(*words)
        self.assertEqual((1, '', 1), (status, out, err.count('\n')), err)
        self.assertRegex(err, 'may have been|unknown')
        deadline = time.monotonic() + 60
        while not self.capacity_and_type(path):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        status, out, err = self.command(*words)
        self.assertEqual((1, ''), (status, out))
        self.assertIn(f'there is a file {path}', err)
        self.delete_disk(path)

    def test_a_change_is_made_only_when_it_is_agreed_to(self):
        self.allow(*FILES)
        words = 'vc', 'disk', 'create', '[LocalDS_2] q.vmdk', '--size', '1MiB'
        status, out, asked = self.command(*words, answers='n\n')
        self.assertEqual(1, status)
        self.assertIn('[LocalDS_2] q.vmdk on 127.0.0.1 will be created. '
                      'Continue? [y/N]', asked)
        self.assertIn('left', out)
        self.assertEqual([], self.capacity_and_type('[LocalDS_2] q.vmdk'))
        self.command(*words, answers='y\n')
        self.assertEqual([(1 << 20, True)],
                         self.capacity_and_type('[LocalDS_2] q.vmdk'))
        self.delete_disk('[LocalDS_2] q.vmdk')

    def test_a_listing_takes_as_many_calls_with_more_vms(self):
        def calls(*words):
            self.vc(*words)
            return len(self.calls_of_command())
        words = [('datastore', 'list'), ('cluster', 'list')]
        few = [calls(*each) for each in words]
        for _each in range(3):
            self.create()
        self.assertEqual(few, [calls(*each) for each in words])
