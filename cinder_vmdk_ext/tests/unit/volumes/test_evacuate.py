# SPDX-License-Identifier: Apache-2.0
"""What a plan says of volumes that no test vCenter puts in that place."""

import unittest
from unittest import mock

from cinder import objects

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.volumes import evacuate


class RecordTestCase(unittest.TestCase):
    """A record that names the pool, of a volume that is elsewhere."""

    def step(self, pool):
        planned = evacuate.Evacuation.__new__(evacuate.Evacuation)
        volume = objects.Volume(id='v-1', status='available',
                                migration_status=None)
        planned._records = {'v-1': volume}
        return planned._volume(
            mock.Mock(id='v-1', status='available', attached_to=()),
            compare.Machine('vm-1', 'one', pool=pool), here=False)

    def test_it_is_corrected_to_the_pool_of_the_volume(self):
        step = self.step('two')
        self.assertEqual(('record', 'two', ''),
                         (step.thing, step.pool, step.why_not))

    def test_without_a_pool_to_name_nothing_is_moved(self):
        step = self.step(None)
        self.assertEqual('', step.pool)
        self.assertIn('no pool of this backend', step.why_not)


if __name__ == '__main__':
    unittest.main()
