# SPDX-License-Identifier: Apache-2.0
"""`repair` in a part of the disaster drill; the whole takes minutes.

``make disaster-drill`` does all kinds of damage.
"""

from cinder_vmdk_ext.tests.functional import disaster_damages
from cinder_vmdk_ext.tests.functional import disaster_drill


class QuickTestCase(disaster_drill.DrillCase):

    def test_some_kinds_of_damage_are_named_and_mended(self):
        for name, damage in disaster_damages.DAMAGES.items():
            if damage.quick:
                with self.subTest(name):
                    self.assertEqual('', self.drill(name).wrong)

    def test_a_repair_that_is_not_agreed_to_changes_nothing(self):
        hurt = disaster_damages.DAMAGES['vm-renamed'].make(self)
        self.catch_up()
        volume = self.volume_of(hurt.owner)
        status, _out, asked = self.command('repair', answers='n\n')
        self.assertEqual(1, status)
        self.assertIn('is named renamed by hand. Go on (its VM gets', asked)
        would, = self.listed('repair', '--dry-run', status=3)
        self.assertIn('would be repaired', would['done'])
        self.assertEqual('renamed by hand', self.truth(volume).vm.name)
        self.assertEqual(1, self.command('repair', 'no such volume')[0])
        lost = self.create()
        self.destroy(self.truth(lost).vm)
        done = {each['owner']: each['done'] for each in self.listed(
            'repair', '--yes', status=3)}
        self.assertIn('repaired', done[volume.id])
        self.assertIn('if it is named', done[lost.id])
        self.assertEqual([], self.asked)
