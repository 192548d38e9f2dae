# SPDX-License-Identifier: Apache-2.0
"""A copy replaces the old disk, or the volume keeps the old one."""

import types
import unittest
from unittest import mock

from oslo_utils import units
from oslo_vmware import exceptions

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import exceptions as errors
from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.volumes import replace

VOLUME = {'id': 'id-1', 'name': 'volume-1', 'size': 2}
OLD, NEW = (vcenters.moref('VirtualMachine', each) for each in ('old', 'new'))
REFUSED = exceptions.VimException('refused')


class BesideTestCase(unittest.TestCase):
    """A second disk goes to another pool where its own takes none."""

    def setUp(self):
        self.make = mock.Mock(side_effect=[
            errors.NoPlacement('a disk', {'ds': 'it is drained'}), 'made'])

    def test_a_second_attempt_may_be_on_any_pool(self):
        volume = VOLUME | {'host': 'cinder-1@vmdk#ds'}
        self.assertEqual('made', replace.Replacement.beside(
            volume, 'restore', self.make))
        self.assertEqual(['cinder-1@vmdk#ds', ''],
                         [call.args[0]['host'] for call
                          in self.make.call_args_list])

    def test_what_was_read_already_is_not_tried_again(self):
        self.assertRaises(
            errors.NoPlacement, replace.Replacement.beside, VOLUME,
            'reimage', self.make, lambda: False)


class Cinder:
    """Upstream, its operations and the finder; notes what is done."""

    def __init__(self, **fails):
        self.fails = fails
        self.done = []
        self.volumeops = self.original = self

    def _note(self, what, vm):
        self.done.append((what, vm))
        if self.fails.get(what) == vm:
            raise REFUSED

    def reconfigure_disk(self, vm, **changes):
        self._note('reconfigure', vm)
        return types.SimpleNamespace(capacity_bytes=units.Gi,
                                     provisioning='thin')

    def mark(self, vm, key):
        return ''

    def set_identity(self, vm, name, config):
        self._note('identify', vm)
        if vm is OLD:
            self.old = name, config[shadow.REPLACED]

    def delete_backing(self, vm):
        self._note('delete', vm)

    def restore_identity(self, volume, vm):
        self._note('restore', vm)

    def extend_backing(self, vm, size_gib, provisioning):
        self._note('extend', vm)

    def storage_profile_id(self, volume):
        return None

    def extra_config(self, volume):
        return {}


class ReplacementTestCase(unittest.TestCase):

    def act(self, method, *args, **fails):
        self.cinder = Cinder(**fails)
        made = replace.Replacement(self.cinder, self.cinder)
        try:
            getattr(made, method)(VOLUME, *args)
        except exceptions.VimException as error:
            self.assertIs(REFUSED, error)
            return False
        return True

    def test_the_old_one_is_deleted_last(self):
        self.assertTrue(self.act('replace', OLD, NEW))
        self.assertEqual([('reconfigure', NEW), ('identify', OLD),
                          ('identify', NEW), ('delete', OLD)],
                         self.cinder.done)
        name, replaced = self.cinder.old
        self.assertEqual('id-1', replaced)
        self.assertRegex(name, '^volume-1-replaced-[0-9a-f]{8}$')

    def test_a_failure_gives_the_old_one_its_identity_back(self):
        for fails in ({'identify': OLD}, {'identify': NEW}):
            self.assertFalse(self.act('replace', OLD, NEW, **fails))
            self.assertEqual([('restore', OLD), ('delete', NEW)],
                             self.cinder.done[-2:])

    def test_an_old_one_that_cannot_be_deleted_is_left(self):
        with self.assertLogs(replace.LOG.logger.name) as logged:
            self.assertTrue(self.act('replace', OLD, NEW, delete=OLD))
        self.assertIn('VM old is left over', logged.output[0])

    def test_a_copy_that_is_too_small_is_extended_or_goes(self):
        self.assertTrue(self.act('finish', NEW, None))
        self.assertEqual(('extend', NEW), self.cinder.done[-1])
        self.assertFalse(self.act('finish', NEW, None, extend=NEW))
        self.assertEqual(('delete', NEW), self.cinder.done[-1])


if __name__ == '__main__':
    unittest.main()
