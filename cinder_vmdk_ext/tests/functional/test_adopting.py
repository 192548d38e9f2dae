# SPDX-License-Identifier: Apache-2.0
"""`volume adopt` manages the disks of a list, and says what came of each.

Cinder's API is stood in for: it does here what the API and the manager do.
sandbox/tests/test_operations.py has the true one.
"""

import contextvars
import json
from unittest import mock

from oslo_db import exception as db_exception
from oslo_utils import units
from sqlalchemy import exc as sqlalchemy_exc

from cinder import exception

from cinder_vmdk_ext.cmd import adopting
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import command_case
from cinder_vmdk_ext.tests.functional import manage_case


class AdoptTestCase(manage_case.ManageCase, command_case.CommandCase):

    def setUp(self):
        super().setUp()
        self.asked = []
        patched = mock.patch.object(command_case.Backends, 'volume_api',
                                    self.connect, create=True)
        patched.start()
        self.addCleanup(patched.stop)

    # -- Cinder's API -------------------------------------------------------

    def connect(self, project):
        self.asked.append(project)
        return self

    def manage(self, host, ref, name, description, volume_type,
               availability_zone, bootable):
        if name == 'interrupted':
            raise KeyboardInterrupt
        if name == 'over the quota':
            raise exceptions.VolumeApiFailed('the quota is used up')
        volume = self.database.volume(
            0, host=host, display_name=name, volume_type_id=volume_type,
            bootable=bootable, status='managing')
        try:
            with self.backends.locking():  # of the service's process
                size_gib = self.driver.manage_existing_get_size(volume, ref)
                self.made(volume, self.driver.manage_existing(volume, ref)
                          | {'size': size_gib})
        except exception.CinderException:
            volume.update({'status': 'error_managing'})
            volume.save()
        return volume.id

    def status(self, volume_id):
        return backend_case.objects.Volume.get_by_id(self.context,
                                                     volume_id).status

    # -- Rows ---------------------------------------------------------------

    def adopted(self, rows, *words, status=0):
        done = self.command('volume', 'adopt', '-', *words, '--yes',
                            '--format', 'json', answers=json.dumps(rows))
        self.assertEqual((status, ''), (done[0], done[2]), done)
        return json.loads(done[1])

    def test_each_row_is_checked_adopted_and_known_again(self):
        gold = self.volume_type('gold', vmdk_type='thin')
        thick = self.volume_type('thick', vmdk_type='thick')
        web = self.make_vm('web')
        self.addCleanup(self.destroy, web)
        checksum = self.fill(self.path(web), 'web')
        left = self.leave_file('left', 'LocalDS_2')
        rows = [
            self.reference(web) | {'name': 'web-data', 'type': 'gold',
                                   'bootable': True, 'project': 'shop'},
            {'source_name': left}, {'source_name': '[LocalDS_1] none.vmdk'},
            {'source_id': self.instances()[0].config.instanceUuid,
             'type': thick['id']}]
        would = self.adopted(rows, '--dry-run', status=3)
        self.assertEqual(['would be managed', 'would be managed'],
                         [each['done'] for each in would[:2]])
        self.assertIn('there is no such disk', would[2]['done'])
        self.assertIn('poweredOn', would[3]['done'])
        self.assertEqual((units.Gi, 'LocalDS_1'), (
            would[0]['size_bytes'], would[0]['pool']))
        self.assertEqual([], self.asked)
        done = self.adopted(rows, status=1)
        self.assertEqual(['managed', 'managed'],
                         [each['done'] for each in done[:2]])
        self.assertEqual(['shop', ''], self.asked)
        volume = backend_case.objects.Volume.get_by_id(self.context,
                                                       done[0]['id'])
        self.assertEqual(('web-data', gold['id'], True, checksum), (
            volume.display_name, volume.volume_type_id, volume.bootable,
            self.checksum(volume)))
        self.assert_on('LocalDS_1', volume)
        again = self.adopted(rows[:2])
        self.assertEqual([('managed already', each['id'])
                          for each in done[:2]],
                         [(each['done'], each['id']) for each in again])
        self.assertEqual(2, len(self.asked))
        volume.update({'status': 'error_managing'})
        volume.save()
        self.assertIn('error_managing since an earlier run', self.adopted(
            rows[:2], status=1)[0]['done'])

    def test_no_advice_costs_a_volume_its_disk(self):
        row = {'source_name': self.leave_file('kept')}
        with mock.patch.object(self, 'status', return_value='managing'):
            slow = self.adopted([row], '--wait', '0', status=1)[0]
        self.assertIn('is managing after 0 s; wait', slow['done'])
        volume = backend_case.objects.Volume.get_by_id(self.context,
                                                       slow['id'])
        volume.update({'status': 'error_extending'})
        volume.save()
        done = self.adopted([row], status=1)[0]['done']
        self.assertIn('managed already, but', done)
        self.assertNotIn('delete', slow['done'] + done)

    def test_a_database_that_is_busy_is_asked_again(self):
        row = {'source_name': self.leave_file('busy')}
        update = backend_case.objects.Volume.admin_metadata_update
        # oslo.db passes the second on as it is.
        answers = iter((db_exception.DBError('locked'),
                        sqlalchemy_exc.OperationalError('', {}, 'locked'),
                        None))

        def answer(volume, *args):
            error = next(answers)
            if error:
                raise error
            return update(volume, *args)
        with mock.patch.object(backend_case.objects.Volume,
                               'admin_metadata_update', answer):
            self.assertEqual('managed', self.adopted([row])[0]['done'])

    def marked(self, path, host=backend_case.HOST, **fields):
        """A volume that was adopted before."""
        made = self.database.volume(1, host=f'{host}#LocalDS_1', **fields)
        self.addCleanup(made.destroy)
        made.admin_metadata_update({adopting.ADOPTED: path}, False)
        return made

    def test_what_another_backend_adopted_is_not_taken_for_this_disk(self):
        path = self.leave_file('twin')
        self.marked(path, 'elsewhere@another')
        self.assertEqual('managed', self.adopted(
            [{'source_name': path}])[0]['done'])

    def test_metadata_that_a_project_can_write_does_not_count(self):
        path = self.leave_file('wanted')
        forged = self.database.volume(
            1, host=f'{backend_case.HOST}#LocalDS_1', status='available',
            metadata={adopting.ADOPTED: path})
        self.addCleanup(forged.destroy)
        self.assertEqual('managed', self.adopted(
            [{'source_name': path}])[0]['done'])

    def test_a_volume_that_stays_managing_gets_a_remedy_that_works(self):
        path = self.leave_file('stuck')
        stuck = self.marked(path, status='managing')
        row = [{'source_name': path}]
        self.assertRegex(self.adopted(row, '--dry-run', status=3)[0]['done'],
                         'is managing; wait, and repeat$')
        with mock.patch.object(adopting, 'STUCK_SECONDS', 0.0):
            done = self.adopted(row, '--dry-run', status=3)[0]['done']
            with self.driver.backend._manage_lock():
                # As another operation than the one that manages.
                held = contextvars.Context().run(
                    self.adopted, row, '--dry-run', status=3)[0]['done']
        self.assertIn('; wait', held)
        self.assertIn(f'reset-state --state error_managing {stuck.id}', done)
        # What Cinder's API and manager do then.
        stuck.update({'status': 'error_managing_deleting'})
        stuck.save()
        self.driver.delete_volume(stuck)
        stuck.destroy()
        self.assertEqual('managed', self.adopted(row)[0]['done'])

    def test_two_rows_that_name_one_disk_are_found_before_any_is_managed(
            self):
        web = self.make_vm('web')
        self.addCleanup(self.destroy, web)
        would = self.adopted([
            self.reference(web), {'source_name': self.path(web)}],
            '--dry-run', status=3)
        self.assertEqual(
            ['would be managed', 'refused: row 1 names the same disk'],
            [each['done'] for each in would])

    def test_a_row_that_fails_stops_no_other_and_a_break_stops_them(self):
        paths = [self.leave_file(name) for name in ('a', 'b', 'c')]
        rows = [{'source_name': path, 'name': name} for path, name in zip(
            paths, ('over the quota', 'fine', 'interrupted'))]
        done = [each['done'] for each in self.adopted(rows, status=1)]
        self.assertEqual(['failed: the quota is used up', 'managed'],
                         done[:2])
        self.assertIn('interrupted', done[2])

    def test_a_wrong_list_is_a_wrong_call(self):
        for words in (['none.csv'], ['-'], ['/']):
            status, out, err = self.command('volume', 'adopt', *words,
                                            answers='colour\nred\n')
            self.assertEqual((2, ''), (status, out))
            self.assertRegex(err, "none.csv|field 'colour'|directory")
