# SPDX-License-Identifier: Apache-2.0
"""Attachments of other services are found by what changed last."""

import testtools

from cinder import objects

from cinder_vmdk_ext.volumes import attachments
from sandbox.embedded import database

UUID = 'c1f1f4a2-0f0e-4f3b-9a5d-0d7e1f5c7a10'


class AttachmentsTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.database = self.useFixture(database.Database())
        self.volume = self.database.volume(1, host='host@vmdk#pool')
        self.recent = attachments.Recent()

    def attach(self, moref):
        made = objects.VolumeAttachment(
            self.database.context, volume_id=self.volume.id,
            attach_status='attaching', instance_uuid=UUID,
            connector={'instance': moref} if moref else None)
        made.create()
        made.attach_status = 'attached'
        made.save()
        return made

    def test_each_call_names_what_changed_since_the_last(self):
        self.assertEqual(set(), self.recent.instances())
        self.attach('vm-1')
        self.assertEqual({'vm-1'}, self.recent.instances())
        self.attach('vm-2')
        self.assertIn('vm-2', self.recent.instances())

    def test_a_page_full_of_changes_is_followed_by_the_next(self):
        self.attach('vm-0')
        self.recent.instances()
        names = {f'vm-{number}' for number in range(
            2 * attachments._A_PAGE + 1)}
        for name in sorted(names):
            self.attach(name)
        self.assertLessEqual(names, self.recent.instances())

    def test_one_without_a_connector_names_no_instance(self):
        self.attach(None)
        self.assertEqual(set(), self.recent.instances())

    def test_volumes_name_their_instances(self):
        self.attach('vm-1')
        [volume] = objects.VolumeList.get_all(self.database.context)
        self.assertEqual(({'vm-1'}, {UUID}), (
            attachments.morefs_of([volume]),
            attachments.uuids_of([volume])))
