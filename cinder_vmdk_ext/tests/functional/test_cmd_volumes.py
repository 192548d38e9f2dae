# SPDX-License-Identifier: Apache-2.0
"""`volume list` and `volume show` agree with pyVmomi."""

import contextvars

from oslo_utils import units

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import command_case

content = backend_case.content


class VolumesTestCase(command_case.CommandCase):

    VCENTER = command_case.CommandCase.VCENTER | {
        'policy': ['gold=LocalDS_1']}
    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def shown(self, volume, status=0):
        return self.listed('volume', 'show', volume.id, status=status)

    def test_a_volume_is_shown_as_it_is(self):
        gold = self.volume_type('gold', vmdk_type='thin',
                                storage_profile='gold')
        volume = self.create(type_id=gold['id'], content=content('one'))
        self.snapshot(volume)
        instance = self.attach(volume)
        volume.refresh()
        truth = self.truth(volume)
        found = self.shown(volume)
        self.assertEqual(
            ('in-use', units.Gi, 'LocalDS_1', 'present', truth.vm._moId,
             truth.vm.name, truth.path, truth.disk.capacityInBytes, 'thin',
             [instance.config.instanceUuid], 1, 'gold', True, [], False,
             []),
            tuple(found[key] for key in (
                'status', 'size_bytes', 'pool', 'backing', 'vm', 'vm_name',
                'disk', 'disk_bytes', 'provisioning', 'attached_to',
                'snapshots', 'policy', 'policy_complies', 'tasks', 'locked',
                'differences')))
        self.assertEqual(truth.path, found['chain'][0])
        self.assertIn(f'cinder.volume.id={volume.id}', found['marks'])
        self.detach(volume, instance)

    def test_an_operation_that_holds_the_lock_is_told_of(self):
        volume = self.create()
        with locks.volumes(volume.id):
            # As another operation than the one that holds it.
            found = contextvars.Context().run(self.shown, volume)
        self.assertTrue(found['locked'])
        self.assertFalse(self.shown(volume)['locked'])

    def test_a_task_that_runs_is_told_of(self):
        volume = self.create()
        rule = self.control.fault(method='RefreshStorageInfo|Rename_Task',
                                  task_hang=True)
        task = self.truth(volume).vm.Rename_Task('another')
        try:
            found, = self.shown(volume)['tasks']
        finally:
            self.control.release(rule)
            self.wait(task)
        self.assertRegex(found, rf'{task._moId}.*: (running|queued), ')

    def test_what_differs_is_said_and_decides_the_exit(self):
        lost, moved = self.create(), self.create(pool='LocalDS_1')
        lazy = self.new_volume()
        lazy.update({'status': 'available', 'provider_id': state.PROMISED})
        lazy.save()
        self.assertEqual({'present', 'not made yet'}, {
            each['backing'] for each in self.listed('volume', 'list')})
        self.destroy(self.truth(lost).vm)
        moved.host = f'{backend_case.HOST}#LocalDS_2'
        moved.save()
        found = {each['id']: each for each
                 in self.listed('volume', 'list', status=4)}
        self.assertEqual(
            {lost.id: ('lost', ['lost']), moved.id: (
                'present', ['misplaced']), lazy.id: ('not made yet', [])},
            {key: (each['backing'], each['differences'])
             for key, each in found.items()})
        self.assertEqual([moved.id], [each['id'] for each in self.listed(
            'volume', 'list', '--pool', 'LocalDS_2', '--different',
            status=3)])
        self.assertIn('its host names LocalDS_2', self.shown(
            moved, status=3)['differences'][0])
        self.assertEqual('lost', self.shown(lost, status=4)['backing'])

    def test_the_name_of_another_volume_hides_no_id(self):
        volume = self.create()
        namesake = self.create()
        namesake.display_name = volume.id
        namesake.save()
        self.assertEqual(volume.id, self.shown(volume)['id'])

    def test_a_volume_that_there_is_not_is_a_wrong_call(self):
        status, out, err = self.command('volume', 'show', 'none')
        self.assertEqual((2, ''), (status, out))
        self.assertIn(
            "0 volumes of these backends have the id or name 'none'", err)

    def test_a_listing_takes_as_many_calls_with_more_volumes(self):
        self.create()
        few = self.calls_of('volume', 'list')
        for _each in range(3):
            self.create()
        self.assertEqual(few, self.calls_of('volume', 'list'))
