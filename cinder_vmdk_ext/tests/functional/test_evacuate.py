# SPDX-License-Identifier: Apache-2.0
"""`migrate plan` and `migrate run`: a pool becomes empty, and all is whole.

What is where is read by pyVmomi.
"""

import os
import signal
from unittest import mock

from oslo_utils import units
from pyVmomi import vim

from cinder import objects

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import command_case
from cinder_vmdk_ext.volumes import evacuate

content = backend_case.content


class MigratingCase(command_case.CommandCase):

    OPTIONS = {'vmware_snapshot_format': 'COW', 'vmware_lazy_create': True}

    def setUp(self):
        super().setUp()
        manager = self.service.content.customFieldsManager
        field = manager.AddCustomFieldDef('cinder_state', vim.Datastore)
        self.addCleanup(manager.RemoveCustomFieldDef, field.key)
        manager.SetField(self.datastore('LocalDS_1'), field.key, 'drain')
        self.undrain = lambda: manager.SetField(
            self.datastore('LocalDS_1'), field.key, '')
        self.drain = lambda: manager.SetField(
            self.datastore('LocalDS_1'), field.key, 'drain')
        self.undrain()

    def template_of(self, volume):
        """A snapshot that is a template, of a driver that makes such."""
        self.driver = self.make_driver(vmware_snapshot_format='template')
        snapshot = self.snapshot(volume)
        self.driver = self.shared_driver
        return snapshot

    def make_one_of_each(self):
        """A volume of each kind, by what it is called."""
        linked = self.volume_type('linked', clone_type='linked')
        made = {name: self.create(content=content(name)) for name in (
            'plain', 'with snapshots', 'attached', 'templated', 'source')}
        snapshot = self.snapshot(made['with snapshots'])
        self.write(made['with snapshots'], content('later'))
        made['of a snapshot'] = self.clone(snapshot, linked['id'])
        # It goes, and leaves what it shares with others.
        strayed = made['strayed'] = self.clone(snapshot, linked['id'])
        self.driver.migrate_volume(self.context, strayed,
                                   self.there('LocalDS_2'))
        strayed.host = f'{backend_case.HOST}#LocalDS_2'
        strayed.save()
        self.instance = self.attach(made['attached'])
        self.template = self.template_of(made['templated'])
        promised = made['promised'] = self.new_volume()
        promised.update(self.driver.create_volume(promised))
        promised.update({'status': 'available'})
        promised.save()
        self.assertTrue(state.is_promised(promised))
        misnamed = made['misnamed'] = self.create('LocalDS_2')
        misnamed.host = f'{backend_case.HOST}#LocalDS_1'
        misnamed.save()
        return made

    def create(self, *args, **kwargs):
        """As ever; a lazy one gets its disk."""
        volume = super().create(*args, **{**kwargs, 'content': b''})
        if self.truth(volume) is None:
            self.driver.initialize_connection(volume, {
                'instance': self.instances()[0]._moId, 'ip': '1',
                'host': 'h', 'initiator': 'i'})
            volume.refresh()
        if kwargs.get('content'):
            self.write(volume, kwargs['content'])
        return volume

    def clone(self, snapshot, type_id):
        volume = self.new_volume(type_id=type_id)
        return self.made(volume, self.driver.create_volume_from_snapshot(
            volume, snapshot))

    def state_of(self, volumes):
        """What must be the same afterwards."""
        found = {}
        for name, volume in volumes.items():
            volume = self.fresh(volume)
            truth = self.truth(volume)
            found[name] = (volume.status, volume.migration_status,
                           volume.size, truth and self.checksum(volume))
        template = self.template_vm()
        disk = next(each for each in template.config.hardware.device
                    if isinstance(each, vim.vm.device.VirtualDisk))
        found['template'] = self.checksum_of(disk.backing.fileName)
        return found

    def template_vm(self):
        return next(vm for name, vm in self.named(vim.VirtualMachine)
                    if self.template.name in name)

    def files_on(self, name):
        """Files of a datastore, and VMs that are there, by pyVmomi."""
        datastore = self.datastore(name)
        task = datastore.browser.SearchDatastoreSubFolders_Task(
            f'[{name}]', vim.host.DatastoreBrowser.SearchSpec(
                details=vim.host.DatastoreBrowser.FileInfo.Details(
                    fileType=True)))
        return sorted(
            [f'{found.folderPath}{file.path}' for found in self.wait(task)
             for file in found.file
             if not isinstance(file, vim.host.DatastoreBrowser.FolderInfo)]
            + [vm.name for vm in datastore.vm])

    def assert_empty(self, volumes, before):
        self.assertEqual([], self.files_on('LocalDS_1'))
        self.assertEqual(before, self.state_of(volumes))
        for name, volume in volumes.items():
            volume = self.fresh(volume)
            pool = volume.host.partition('#')[2]
            self.assertNotEqual('LocalDS_1', pool, name)
            if name != 'promised':
                self.assert_on(pool, volume)
        disk = self.disk_on(self.instance, volumes['attached'])
        self.assertEqual(disk.backing.fileName,
                         self.truth(volumes['attached']).path)
        self.assertEqual(content('plain'),
                         self.read(volumes['plain'], 64 * units.Ki))


class EmptyingTestCase(MigratingCase):

    def test_a_pool_with_volumes_of_all_kinds_becomes_empty(self):
        volumes = self.make_one_of_each()
        before = self.state_of(volumes)
        status, _out, err = self.command('migrate', 'run', 'LocalDS_1',
                                         '--yes')
        self.assertEqual(2, status)
        self.assertIn('LocalDS_1 takes new volumes; drain it first', err)
        self.drain()
        self.catch_up()
        held = self.files_on('LocalDS_1')
        plan = self.listed('migrate', 'plan', 'LocalDS_1', '--to',
                           'LocalDS_2', '--to', 'LocalDS_3')
        self.assertEqual(
            sorted([volume.id for volume in volumes.values()]
                   + [self.template.id]), sorted(
                each['id'] for each in plan))
        self.assertEqual({'volume', 'promise', 'record', 'snapshot'},
                         {each['thing'] for each in plan})
        self.assertLessEqual({each['pool'] for each in plan},
                             {'LocalDS_2', 'LocalDS_3'})
        self.assertEqual(volumes['attached'].id, plan[-1]['id'])
        self.assertEqual(held, self.files_on('LocalDS_1'))
        self.assertEqual(before, self.state_of(volumes))
        # The third is broken off once its disk has moved.
        release, count = evacuate._release, []

        def broken(volume, update):
            count.append(volume.id)
            if len(count) == 3:
                raise KeyboardInterrupt
            release(volume, update)

        with mock.patch.object(evacuate, '_release', broken):
            status, _out, _err = self.command(
                'migrate', 'run', 'LocalDS_1', '--to', 'LocalDS_2', '--to',
                'LocalDS_3', '--yes')
        self.assertNotEqual(0, status)
        left = self.fresh(objects.Volume(id=count[2]))
        self.assertEqual(evacuate.MOVING, left.migration_status)
        self.catch_up()
        again = self.listed('migrate', 'run', 'LocalDS_1', '--to',
                            'LocalDS_2', '--to', 'LocalDS_3', '--yes')
        self.assertEqual('corrected', {
            each['id']: each['done'] for each in again}[left.id], again)
        self.assertLess(len(again), len(plan))
        self.assert_empty(volumes, before)
        self.catch_up()
        self.assertEqual([], self.listed('migrate', 'plan', 'LocalDS_1'))

    def test_what_cannot_move_is_said_and_stays(self):
        busy, lost, one, other = (self.create() for _each in range(4))
        busy.update({'status': 'extending'})
        busy.save()
        self.destroy(self.truth(lost).vm)
        orphan = self.create()
        orphan.destroy()
        self.drain()
        self.catch_up()
        found = {each['id']: each for each in self.listed(
            'migrate', 'plan', 'LocalDS_1', status=3)}
        self.assertEqual('it is extending', found[busy.id]['stays'])
        self.assertIn('lost', found[lost.id]['stays'])
        vm = self.truth(orphan).vm._moId
        self.assertIn('audit says: orphan', found[vm]['stays'])
        self.assertEqual({one.id, other.id}, {
            key for key, each in found.items() if not each['stays']})
        # An interrupt ends it after the move that is under way.
        carry_out = evacuate.Evacuation.carry_out

        def interrupted(evacuation, step):
            os.kill(os.getpid(), signal.SIGINT)
            return carry_out(evacuation, step)

        with mock.patch.object(evacuate.Evacuation, 'carry_out',
                               interrupted):
            status, out, err = self.command('migrate', 'run', 'LocalDS_1',
                                            '--yes')
        self.assertEqual(1, status)
        self.assertIn('1 of 2 are left', err)
        left, = (each for each in (one, other)
                 if self.truth(each).datastore == 'LocalDS_1')
        # The vCenter refuses the other: all is as before.
        before = self.fresh(left)
        self.control.fault(method='RelocateVM_Task', count=1, task_fault={
            'type': 'InvalidState'})
        self.catch_up()
        rows = self.listed('migrate', 'run', 'LocalDS_1', '--yes', status=1)
        self.assertIn('failed', {each['done'].partition(':')[0]
                                 for each in rows})
        after = self.fresh(left)
        self.assertEqual((before.status, before.migration_status,
                          before.host),
                         (after.status, after.migration_status, after.host))
        self.assertEqual('LocalDS_1', self.truth(left).datastore)

    def test_without_space_elsewhere_nothing_moves(self):
        volume = self.create()
        found, = self.listed('migrate', 'plan', 'LocalDS_1', '--to',
                             'LocalDS_2', '--to', 'LocalDS_3')
        self.assertEqual('', found['stays'])
        thick = self.volume_type('thick', vmdk_type='thick')['id']
        huge = self.create('LocalDS_2', 99, thick)
        self.refresh_figures()
        found, = self.listed('migrate', 'plan', 'LocalDS_1', '--to',
                             'LocalDS_2', status=3)
        self.assertIn('LocalDS_2', found['stays'])
        self.assertEqual('LocalDS_1', self.truth(volume).datastore)
        self.driver.delete_volume(huge)
        status, _out, err = self.command('migrate', 'plan', 'LocalDS_1',
                                         '--to', 'LocalDS_1')
        self.assertEqual(2, status)
        self.assertIn('cannot be emptied to itself', err)
