# SPDX-License-Identifier: Apache-2.0
"""The findings of the comparison, on plain values."""

import dataclasses
import unittest

from cinder_vmdk_ext.audit import compare as audit_compare
from cinder_vmdk_ext.audit import quarantine
from cinder_vmdk_ext import names as patterns

ID = '11111111-2222-3333-4444-555555555555'
OTHER = '99999999-2222-3333-4444-555555555555'
RECORD = audit_compare.Volume(ID, f'volume-{ID}', 'gold')
VM = audit_compare.Machine(
    'vm-1', f'volume-{ID}', uuid=ID, volume_id=ID, ours=True, pool='gold',
    place='gold', files=((f'[gold] volume-{ID}/volume-{ID}.vmdk', 5),),
    age_seconds=90000)


def compare(volumes=(RECORD,), machines=(VM,), files=(), snapshots=()):
    return audit_compare.compare(audit_compare.Evidence(
        tuple(volumes), tuple(snapshots), tuple(machines), tuple(files)))


def kinds(**evidence):
    return [each.kind for each in compare(**evidence)]


class CompareTestCase(unittest.TestCase):

    def test_nothing_where_all_agree(self):
        files = [audit_compare.File(
                     'gold', f'volume-{ID}/volume-{ID}{end}.vmdk', 7)
                 for end in ('', '-flat')]
        self.assertEqual([], compare(files=files))

    def test_lost_only_what_was_made_and_is_at_rest_here(self):
        self.assertEqual(['lost'], kinds(machines=()))
        for change in ({'backed': False}, {'at_rest': False},
                       {'mine': False}):
            self.assertEqual([], kinds(
                volumes=[dataclasses.replace(RECORD, **change)],
                machines=()), change)

    def test_a_vm_of_another_backends_volume_is_no_orphan(self):
        self.assertEqual([], kinds(
            volumes=[dataclasses.replace(RECORD, mine=False)]))

    def test_an_instance_is_none_of_ours(self):
        vm = audit_compare.Machine('vm-2', 'web', uuid=OTHER)
        self.assertEqual([], kinds(machines=[VM, vm]))

    def test_a_template_that_was_managed_is_its_records(self):
        """It has the marks of the snapshot that it was before."""
        for name, path in ((f'snapshot-{OTHER}', ''),
                           ('by hand', '/dc/vm/by hand')):
            template = audit_compare.Machine(
                'vm-2', name, path=f'dc/vm/{name}', uuid='older',
                snapshot_id='older', ours=True, template=True)
            snapshot = audit_compare.Snapshot(OTHER, f'snapshot-{OTHER}', ID,
                                              template=True, path=path)
            self.assertEqual([], kinds(machines=[VM, template],
                                       snapshots=[snapshot]))

    def test_a_template_without_its_disk_or_file_is_a_lost_snapshot(self):
        template = audit_compare.Machine(
            'vm-2', f'snapshot-{OTHER}', uuid=OTHER, ours=True, template=True,
            disks=('[gold] s/s.vmdk',), below=('[gold] s/base.vmdk',))
        snapshot = audit_compare.Snapshot(OTHER, f'snapshot-{OTHER}', ID,
                                          template=True)
        files = [audit_compare.File('gold', f's/{name}.vmdk')
                 for name in ('s', 'base')]
        for change, there, expected in (
                ({}, files, []),
                ({}, files[:1], ['its template vm-2 needs '
                                 '[gold] s/base.vmdk, which is gone']),
                ({}, files[1:], ['its template vm-2 needs '
                                 '[gold] s/s.vmdk, which is gone']),
                ({'disks': (), 'below': (), 'disk_count': 0}, (),
                 ['its template vm-2 has no disk'])):
            found = audit_compare.compare(audit_compare.Evidence(
                (RECORD,), (snapshot,),
                (VM, dataclasses.replace(template, **change)), tuple(there),
                searched=frozenset({'gold'})))
            self.assertEqual(expected, [
                each.detail.partition('; ')[2] for each in found
                if each.kind == 'lost'])

    def test_a_file_below_a_linked_clone_is_no_orphan(self):
        file = audit_compare.File(
            'gold', f'volume-{OTHER}/volume-{OTHER}.vmdk')
        linked = dataclasses.replace(VM, below=(file.key,))
        self.assertEqual(['orphan'], kinds(files=[file]))
        self.assertEqual([], kinds(machines=[linked], files=[file]))

    def test_an_unmanaged_disk_is_never_swept(self):
        left = audit_compare.Machine('vm-2', f'volume-{OTHER}', ours=True)
        found, = compare(machines=[VM, left])
        self.assertEqual(('orphan', False), (found.kind, found.sweepable))
        self.assertEqual([], kinds(machines=[VM, dataclasses.replace(
            left, unmanaged=OTHER)]))

    def test_space_of_a_file_is_that_of_all_its_extents(self):
        files = [audit_compare.File('gold', f'volume-{OTHER}/a{end}.vmdk', 7)
                 for end in ('-flat', '')]
        found, = compare(files=files)
        self.assertEqual(('orphan', 14), (found.kind, found.space_bytes))

    def test_what_a_replaced_vm_still_holds_is_kept(self):
        old = dataclasses.replace(VM, uuid=OTHER, volume_id='', replaced=ID,
                                  name=f'volume-{ID}-replaced')
        lost, kept = compare(machines=[old])
        self.assertEqual(('lost', 'leftover'), (lost.kind, kept.kind))
        self.assertIn('vm-1', lost.detail)
        self.assertFalse(kept.sweepable)
        self.assertIn('all that is left', kept.detail)

    def test_a_vm_without_its_disk_frees_no_file(self):
        file = audit_compare.File('gold', f'volume-{ID}_1/volume-{ID}.vmdk', 7)
        lost, found = compare(machines=[dataclasses.replace(
            VM, disk_count=0, files=())], files=[file])
        self.assertEqual(('lost', ID), (lost.kind, lost.owner))
        self.assertFalse(found.sweepable)

    def test_the_vm_with_the_uuid_is_the_one_in_use(self):
        other = dataclasses.replace(VM, moref='vm-2', uuid=OTHER)
        for machines in ([VM, other], [other, VM]):
            found, = compare(machines=machines)
            self.assertEqual(('duplicated', 'vm-2', False), (
                found.kind, found.reference, found.sweepable))

    def test_one_that_only_bears_the_mark_is_not_the_one_in_use(self):
        other = dataclasses.replace(VM, uuid=OTHER, name='by hand')
        lost, there = compare(machines=[other])
        self.assertEqual(('lost', 'duplicated'), (lost.kind, there.kind))
        self.assertIn('by hand (vm-1)', lost.detail)
        self.assertFalse(there.sweepable)


class NamesTestCase(unittest.TestCase):
    """Cinder's own templates of names (volume_name_template)."""

    def test_leftovers_and_orphans_are_known_by_the_templates(self):
        names = patterns.Names('vol_%s.x', 'snap+%s')
        machines = [
            dataclasses.replace(VM, name=f'vol_{ID}.x'),
            dataclasses.replace(
                VM, moref='vm-2', uuid='', volume_id='', deployment='d',
                files=(), name=f'vol_{ID}.x-retype-{OTHER}'),
            dataclasses.replace(
                VM, moref='vm-3', uuid='', volume_id='', deployment='d',
                files=(), name=f'snap+{OTHER}', template=True)]
        found = audit_compare.compare(audit_compare.Evidence(
            (dataclasses.replace(RECORD, name=f'vol_{ID}.x'),), (),
            tuple(machines), (), names, 'd'))
        self.assertEqual(
            [('leftover', ID, True), ('orphan', OTHER, True)],
            [(each.kind, each.owner, each.sweepable) for each in found])


class DiskTestCase(unittest.TestCase):

    def find(self, *others, **volume):
        used = dataclasses.replace(
            VM, folder='[gold] nova', disks=('[gold] web/disk.vmdk',))
        return [(each.kind, each.owner) for each in audit_compare.compare(
            audit_compare.Evidence(
                (dataclasses.replace(RECORD, **volume),), (),
                (used, *others),
                (audit_compare.File('gold', 'web/disk.vmdk'),),
                searched=frozenset({'gold'})))]

    def test_a_disk_in_an_instances_folder_is_at_risk(self):
        web = audit_compare.Machine('vm-9', 'web', uuid=OTHER,
                                    folder='[gold] web')
        self.assertEqual([('at-risk', ID)], self.find(web))

    def test_a_disk_that_its_instance_names_is_not_shared(self):
        web = audit_compare.Machine('vm-9', 'web', uuid=OTHER,
                                    disks=('[gold] web/disk.vmdk',))
        self.assertEqual([], self.find(web, attached_to=(OTHER,)))
        self.assertEqual([('shared', ID)], self.find(web))

    def test_a_record_that_waits_for_a_day_is_stuck(self):
        waiting = {'at_rest': False, 'status': 'deleting'}
        self.assertEqual([], self.find(**waiting))
        self.assertEqual([('stuck', ID)],
                         self.find(idle_seconds=90000.0, **waiting))

    def test_an_image_that_an_operation_may_need_stays(self):
        image = audit_compare.File('gold', 'cinder_temp/a.vmdk')
        for at_rest in (True, False):
            found, = audit_compare.compare(audit_compare.Evidence(
                (dataclasses.replace(RECORD, at_rest=at_rest,
                                     backed=False),), (), (), (image,),
                named=frozenset({image.reference})))
            self.assertEqual(at_rest, found.sweepable)

    def test_an_image_of_another_deployment_is_not_listed(self):
        for mark, own, expected in (
                ('ours', 'ours', [True]), ('theirs', 'ours', []),
                ('ours', '', []), ('', 'ours', [False])):
            path = f'{patterns.temporary_folder(mark)}a.vmdk'
            found = audit_compare.compare(audit_compare.Evidence(
                (dataclasses.replace(RECORD, backed=False),), (), (),
                (audit_compare.File('gold', path),), deployment=own))
            self.assertEqual(expected, [each.sweepable for each in found],
                             (mark, own))

    def test_one_storage_shown_by_two_datastores_frees_no_file(self):
        """An NFS export in two datacenters, under two names."""
        used = dataclasses.replace(VM, files=(
            (f'[nfs-a] volume-{ID}/a.vmdk', 5),))
        files = [audit_compare.File(place, f'volume-{ID}/a.vmdk', 5,
                                    storage='nfs-a')
                 for place in ('nfs-a', 'nfs-b')]
        self.assertEqual([], audit_compare.compare(audit_compare.Evidence(
            (RECORD,), (), (used,), tuple(files))))


class DueTestCase(unittest.TestCase):

    def test_only_what_is_old_enough_and_of_known_age(self):
        def leftover(age):
            return dataclasses.replace(
                VM, moref=f'vm-{age}', uuid='', age_seconds=age,
                name=f'volume-{ID}-retype-{OTHER}')
        found = compare(machines=[VM, leftover(10.0), leftover(90000.0),
                                  leftover(None)])
        self.assertEqual(3, len(found))
        self.assertEqual(['vm-90000.0'], [
            each.reference for each in quarantine.due(found, 86400)])
        self.assertEqual(3, len(quarantine.due(found, 0)))
