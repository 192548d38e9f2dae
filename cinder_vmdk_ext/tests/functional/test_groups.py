# SPDX-License-Identifier: Apache-2.0
"""Groups of volumes, called as by Cinder's volume manager."""

from oslo_vmware import exceptions as vmware_exceptions

from cinder import exception
from cinder.message import api as message_api
from cinder.message import message_field
from cinder import objects

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case

SNAPSHOT_CREATE = message_field.Action.SNAPSHOT_CREATE
CONSISTENT = {'consistent_group_snapshot_enabled': '<is> True'}


class GroupCase(backend_case.BackendCase):
    """A group in the database, and its volumes."""

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def group(self, **specs):
        return self.database.group(
            f'kind {sorted(specs)}', f'{backend_case.HOST}#LocalDS_1', **specs)

    def members(self, group, count=2, **fields):
        made = []
        for number in range(count):
            volume = self.new_volume('LocalDS_1', group_id=group.id, **fields)
            self.made(volume, self.driver.create_volume(volume))
            self.write(volume, backend_case.content(number))
            made.append(volume)
        return made

    def snapshots(self, group, volumes):
        made = objects.GroupSnapshot(
            self.context, group_id=group.id, status='creating',
            group_type_id=group.group_type_id, user_id='user',
            project_id=group.project_id, name='a group snapshot')
        made.create()
        each = [self.new_snapshot(volume) for volume in volumes]
        for snapshot in each:
            snapshot.group_snapshot_id = made.id
            snapshot.save()
        return made, each

    def take(self, group, volumes):
        """A group snapshot, as the manager takes it."""
        made, snapshots = self.snapshots(group, volumes)
        done, each = self.driver.create_group_snapshot(self.context, made,
                                                       snapshots)
        self.assertEqual({snapshot.id for snapshot in snapshots},
                         {update['id'] for update in each})
        for snapshot in snapshots:
            update = next(dict(update) for update in each
                          if update['id'] == snapshot.id)
            del update['id']
            snapshot.update(update)
            snapshot.save()
        return done['status'], made, snapshots

    def targets(self, group, **sources):
        """Volumes that are to come from snapshots or volumes."""
        [(field, ids)] = sources.items()
        return [self.new_volume('LocalDS_2', group_id=group.id,
                                **{field: each}) for each in ids]

    def begins_as(self, number, volume):
        expected = backend_case.content(number)
        self.assertEqual(expected, self.read(volume, len(expected)))

    def instance_snapshots(self):
        return [vm for vm in self.instances() if vm.snapshot]


class GroupTestCase(GroupCase):
    """A group whose volumes have nothing in common."""

    def test_it_is_made_changed_and_deleted_with_its_volumes(self):
        group = self.group()
        self.assertEqual({'status': 'available'},
                         self.driver.create_group(self.context, group))
        volumes = self.members(group)
        self.assertEqual((None, None, None), self.driver.update_group(
            self.context, group, add_volumes=volumes[:1]))
        done, each = self.driver.delete_group(self.context, group, volumes)
        self.assertEqual('available', done['status'])
        self.assertEqual(['deleted'] * 2, [one['status'] for one in each])
        self.assertEqual({}, self.shadow_vms())

    def test_a_volume_that_cannot_be_deleted_keeps_no_other(self):
        group = self.group()
        first, second = self.members(group)
        self.control.fault(method='Destroy_Task', name=first.name, count=1,
                           task_fault={'type': 'SystemError'})
        done, each = self.driver.delete_group(self.context, group,
                                              [first, second])
        self.assertEqual('error_deleting', done['status'])
        self.assertEqual(
            {first.id: 'error_deleting', second.id: 'deleted'},
            {one['id']: one['status'] for one in each})
        self.assertEqual([first.name], list(self.shadow_vms()))

    def test_snapshots_of_detached_and_attached_volumes(self):
        group = self.group()
        volumes = self.members(group)
        self.attach(volumes[1])
        status, made, snapshots = self.take(group, volumes)
        self.assertEqual('available', status)
        self.assertIsNone(snapshots[0].provider_location)
        self.assertIsNotNone(snapshots[1].provider_location)
        done, each = self.driver.delete_group_snapshot(self.context, made,
                                                       snapshots)
        self.assertEqual(['deleted'] * 2, [one['status'] for one in each])
        self.assertEqual(2, len(self.shadow_vms()))

    def test_one_that_fails_is_told_and_the_others_stand(self):
        group = self.group()
        first, second = self.members(group)
        self.control.fault(method='CreateSnapshot_Task', name=first.name,
                           count=1, after_work=True,
                           task_fault={'type': 'SystemError'})
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            status, made, snapshots = self.take(group, [first, second])
        self.assertEqual(('error', 'error', 'available'), (
            status, snapshots[0].status, snapshots[1].status))
        self.assertEqual(1, len(log.output), log.output)
        self.assertIn(f'create_snapshot of snapshot {snapshots[0].id} failed',
                      log.output[0])
        self.assertEqual([('VOLUME_SNAPSHOT', snapshots[0].id)],
                         self.informed_of(SNAPSHOT_CREATE))
        self.assertIsNone(self.truth(first).vm.snapshot)
        self.assertIsNotNone(self.truth(second).vm.snapshot)

    def informed_of(self, action):
        """The kinds and ids of what failed, in a user's messages."""
        return [(each['resource_type'], each['resource_uuid'])
                for each in message_api.API().get_all(self.context)
                if each['action_id'] == action[0]]

    def test_a_group_from_a_group_snapshot(self):
        group = self.group()
        status, made, snapshots = self.take(group, self.members(group))
        other = self.group_like(group)
        targets = self.targets(other,
                               snapshot_id=[each.id for each in snapshots])
        done, each = self.driver.create_group_from_src(
            self.context, other, targets, made, snapshots)
        self.assertEqual('available', done['status'])
        for number, volume in enumerate(targets):
            self.made(volume, {'provider_id': each[number]['provider_id']})
            self.assert_on('LocalDS_2', volume)
            self.begins_as(number, volume)

    def test_a_group_from_a_group(self):
        group = self.group()
        volumes = self.members(group)
        self.attach(volumes[0])
        other = self.group_like(group)
        targets = self.targets(other,
                               source_volid=[each.id for each in volumes])
        self.driver.create_group_from_src(
            self.context, other, targets, source_group=group,
            source_vols=volumes)
        for number, volume in enumerate(targets):
            self.begins_as(number, volume)

    def test_a_group_that_fails_half_way_leaves_nothing(self):
        group = self.group()
        volumes = self.members(group)
        targets = self.targets(self.group_like(group),
                               source_volid=[each.id for each in volumes])
        self.control.fault(method='CloneVM_Task', skip=1, count=1,
                           task_fault={'type': 'SystemError'},
                           after_work=True)
        self.assertRaises(
            vmware_exceptions.VimException,
            self.driver.create_group_from_src, self.context,
            group, targets, source_group=group, source_vols=volumes)
        self.assertEqual({volume.name for volume in volumes},
                         set(self.shadow_vms()))
        self.assertCountEqual(
            [('VOLUME', each.id) for each in targets], self.informed_of(
                message_field.Action.CREATE_VOLUME_FROM_BACKEND))

    def test_of_one_with_a_lost_volume_no_group_is_made(self):
        for specs in ({}, CONSISTENT):
            group = self.group(**specs)
            volumes = self.members(group)
            _status, made, snapshots = self.take(group, volumes)
            self.destroy(self.truth(volumes[1]).vm)
            self.catch_up()
            before = set(self.shadow_vms())
            other = self.group_like(group)
            for field, records, sources in (
                    ('source_volid', volumes,
                     {'source_group': group, 'source_vols': volumes}),
                    ('snapshot_id', snapshots,
                     {'group_snapshot': made, 'snapshots': snapshots})):
                targets = self.targets(
                    other, **{field: [each.id for each in records]})
                caught = self.assertRaises(
                    exceptions.BackingLost, self.driver.create_group_from_src,
                    self.context, other, targets, **sources)
                self.assertEqual(volumes[1].id, caught.identifier)
                self.assertEqual(before, set(self.shadow_vms()))

    def group_like(self, group):
        made = objects.Group(
            self.context, group_type_id=group.group_type_id,
            status='creating', user_id='user', host=group.host,
            project_id=group.project_id, name='another group')
        made.create()
        return made


class ConsistentGroupTestCase(GroupCase):
    """A group whose snapshots are of one moment."""

    def test_the_pools_say_that_it_is_possible(self):
        for pool in self.report()['pools']:
            self.assertIs(True, pool['consistent_group_snapshot_enabled'])

    def test_detached_volumes_need_nothing_more(self):
        group = self.group(**CONSISTENT)
        status, _made, snapshots = self.take(group, self.members(group))
        self.assertEqual('available', status)
        self.assertEqual([None, None], [each.provider_location
                                        for each in snapshots])

    def test_volumes_on_one_instance_are_held_by_its_snapshot(self):
        group = self.group(**CONSISTENT)
        volumes = self.members(group, 3)
        for volume in volumes[:2]:
            instance = self.attach(volume)
        paths = [self.disk_on(instance, volume).backing.fileName
                 for volume in volumes[:2]]
        checksums = [self.checksum(volume) for volume in volumes[:2]]
        self.control.reset_journal()
        status, made, snapshots = self.take(group, volumes)
        self.assertEqual('available', status)
        methods = self.control.journal()['methods']
        # One for the instance, one for the volume that is detached.
        self.assertEqual(2, methods['CreateSnapshot_Task']['calls'])
        self.assertEqual([], self.instance_snapshots())
        self.assertEqual(paths, [
            self.disk_on(instance, volume).backing.fileName
            for volume in volumes[:2]])
        self.assertEqual(paths, [self.truth(volume).path
                                 for volume in volumes[:2]])
        self.assertEqual(checksums, [self.checksum(volume)
                                     for volume in volumes[:2]])
        for number, snapshot in enumerate(snapshots):
            copy = self.new_volume('LocalDS_0')
            self.made(copy, self.driver.create_volume_from_snapshot(
                copy, snapshot))
            self.begins_as(number, copy)
        self.driver.delete_group_snapshot(self.context, made, snapshots)

    def test_volumes_on_several_instances_have_no_one_moment(self):
        group = self.group(**CONSISTENT)
        volumes = self.members(group)
        for volume, instance in zip(volumes, self.instances()):
            self.attach(volume, instance)
        before = set(self.shadow_vms())
        status, _made, snapshots = self.take(group, volumes)
        self.assertEqual(('error', ['error', 'error']), (
            status, [each.status for each in snapshots]))
        self.assertEqual(before, set(self.shadow_vms()))
        self.assertEqual(2, len([
            each for each in message_api.API().get_all(self.context)
            if each['action_id'] == SNAPSHOT_CREATE[0]]))

    def test_all_or_none(self):
        group = self.group(**CONSISTENT)
        volumes = self.members(group)
        for volume in volumes:
            self.attach(volume)
        before = set(self.shadow_vms())
        for method, skip in (('CreateSnapshot_Task', 0), ('CloneVM_Task', 0),
                             ('CloneVM_Task', 1)):
            with self.subTest(method, skip=skip):
                self.control.fault(method=method, skip=skip, count=1,
                                   task_fault={'type': 'SystemError'},
                                   after_work=True)
                status, _made, snapshots = self.take(group, volumes)
                self.control.reset_faults()
                self.assertEqual(('error', ['error', 'error']), (
                    status, [each.status for each in snapshots]))
                self.assertEqual(before, set(self.shadow_vms()))
                self.assertEqual([], self.instance_snapshots())

    def test_a_group_from_one_that_is_attached(self):
        group = self.group(**CONSISTENT)
        volumes = self.members(group)
        for volume in volumes:
            self.attach(volume)
        targets = self.targets(group,
                               source_volid=[each.id for each in volumes])
        self.driver.create_group_from_src(
            self.context, group, targets, source_group=group,
            source_vols=volumes)
        self.assertEqual([], self.instance_snapshots())
        for number, volume in enumerate(targets):
            self.begins_as(number, volume)
            self.assertEqual('LocalDS_2', self.truth(volume).datastore)

    def test_one_that_was_attached_meanwhile_spoils_it(self):
        group = self.group(**CONSISTENT)
        volumes = self.members(group)
        create = self.driver.create_snapshot

        def attaching(snapshot):
            made = create(snapshot)
            if snapshot.volume_id == volumes[1].id:
                self.attach(objects.Volume.get_by_id(self.context,
                                                     volumes[0].id))
            return made
        self.driver.create_snapshot = attaching
        self.addCleanup(delattr, self.driver, 'create_snapshot')
        status, _made, snapshots = self.take(group, volumes)
        self.assertEqual('error', status)
        self.assertIsNone(self.truth(volumes[1]).vm.snapshot)

    def test_what_has_no_disk_yet_has_no_content_either(self):
        self.driver = self.make_driver(vmware_lazy_create=True)
        group = self.group(**CONSISTENT)
        volume = self.new_volume(group_id=group.id)
        self.made(volume, self.driver.create_volume(volume))
        status, made, snapshots = self.take(group, [volume])
        self.assertEqual('available', status)
        self.driver.delete_group_snapshot(self.context, made, snapshots)

    def test_nothing_made_raises_what_cinder_expects(self):
        group = self.group(**CONSISTENT)
        volumes = self.members(group)
        for volume, instance in zip(volumes, self.instances()):
            self.attach(volume, instance)
        targets = self.targets(group,
                               source_volid=[each.id for each in volumes])
        error = self.assertRaises(
            exception.InvalidVolume, self.driver.create_group_from_src,
            self.context, group, targets, source_group=group,
            source_vols=volumes)
        self.assertIn('on 2 instances', str(error))
