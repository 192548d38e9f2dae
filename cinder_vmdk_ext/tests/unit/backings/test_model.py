# SPDX-License-Identifier: Apache-2.0
"""Which of all VMs belongs to a volume."""

import unittest

from cinder_vmdk_ext.backings import model as shadow


def backing(moref, name='v', **more):
    return shadow.Backing(moref, name, ('datastore-1',), **more)


class BackingsTestCase(unittest.TestCase):

    def test_the_uuid_decides_before_the_mark_and_the_mark_before_the_name(
            self):
        by_name = backing('vm-1', 'volume-1')
        by_mark = backing('vm-2', volume_id='id-1', uuid='other')
        by_uuid = backing('vm-3', uuid='id-1')
        for vms, expected in (((by_name, by_mark, by_uuid), by_uuid),
                              ((by_name, by_mark), by_mark),
                              ((by_name,), by_name)):
            self.assertEqual(expected,
                             shadow.Backings(vms).find('id-1', 'volume-1'))

    def test_a_template_is_no_volumes_vm(self):
        """A snapshot's template has the mark of the volume it is of."""
        found = shadow.Backings([
            backing('vm-1', uuid='u', volume_id='id-1', template=True)])
        self.assertIsNone(found.find('id-1', 'v'))
        self.assertEqual([], found.all)


if __name__ == '__main__':
    unittest.main()
