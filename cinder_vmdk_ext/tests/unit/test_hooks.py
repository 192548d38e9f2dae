# SPDX-License-Identifier: Apache-2.0
"""The locks, claims, reads and log lines of a hook."""

import functools
import unittest
from unittest import mock

from cinder import objects

from cinder_vmdk_ext.backings import promises
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import hooks
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import operation
from cinder_vmdk_ext.scheduling import reservations

VOLUME = {'id': 'v'}
IN_TREE = {'provider_location': None, 'volume': VOLUME}
TEMPLATE = {'provider_location': 'path', 'volume': VOLUME}


class _Backend:

    def __init__(self):
        self.reservations = reservations.Reservations()
        self.promised = promises.Promises(
            functools.partial(promises.share, 'h@b', None), rows=list)
        self.admission = mock.Mock()
        self.compliance = mock.Mock()
        self.limits = mock.Mock()


class _Driver:

    def __init__(self):
        self.backend = _Backend()

    @hooks.hook(reads=('runtime.host',))
    def attach(self, volume, connector):
        """Attach."""
        return operation.current()

    @hooks.hook(reads=('snapshot',), places=True)
    def extend(self, volume):
        """Extend."""
        return operation.current(), self.attach(volume, {})

    @hooks.hook()
    def change(self, volume, host=None, new_size=None):
        """Change."""
        return operation.current()

    @hooks.hook(makes=True)
    def make(self, volume):
        """Make."""

    @hooks.hook()
    def of_group(self, group, error=None):
        """Make a group."""
        if error:
            raise error

    @hooks.hook(locks_on=('volume', 'snapshot'))
    def revert(self, volume, snapshot=None):
        """Revert."""


def _volume(**fields):
    return dict.fromkeys(promises.FIELDS) | {
        'id': 'v', 'size': 2, 'host': 'h@b#one'} | fields


class LinesTestCase(unittest.TestCase):
    """An operator reads what the driver does, and for how long."""

    HERE = {'id': 'v-1', 'host': 'h@b#one'}

    def lines(self, call, *args):
        with self.assertLogs(hooks.__name__, 'INFO') as logged:
            try:
                call(*args)
            except ZeroDivisionError:
                pass
        return [each.getMessage() for each in logged.records]

    def test_one_as_it_begins_and_one_as_it_ends(self):
        first, last = self.lines(_Driver().attach, self.HERE, {})
        self.assertEqual('attach of v-1 begins, on h@b#one', first)
        self.assertRegex(
            last, r'^attach of v-1 is done after \d+\.\d s, on h@b#one$')

    def test_the_last_names_the_pool_of_the_model_update(self):
        with mock.patch.object(operation, 'current', return_value=(
                True, {'host': 'h@b#two'})):
            self.assertRegex(self.lines(_Driver().attach, self.HERE, {})[1],
                             'on h@b#two$')

    def test_the_last_says_that_it_failed(self):
        with mock.patch.object(operation, 'current',
                               side_effect=ZeroDivisionError):
            self.assertRegex(self.lines(_Driver().attach, self.HERE, {})[1],
                             'attach of v-1 failed after')

    def test_any_failure_is_one_more_line_with_the_sentence_alone(self):
        error = ZeroDivisionError('no\n  way')
        with mock.patch.object(operation, 'current', side_effect=error), \
                self.assertLogs('cinder_vmdk_ext', 'ERROR') as logged, \
                self.assertRaises(ZeroDivisionError) as caught:
            _Driver().attach(self.HERE, {})
        self.assertIs(error, caught.exception)
        line, = logged.records
        self.assertEqual('attach of dict v-1 failed: no way',
                         line.getMessage())
        self.assertIsNone(line.exc_info)

    def test_a_failure_is_that_of_the_operation_whatever_cinder_passes(self):
        # Neither has all the fields of a volume, and without the database
        # neither loads what it refers to.
        for thing in (objects.Group(id='g-1'), objects.Snapshot(id='s-1')):
            with self.assertLogs('cinder_vmdk_ext', 'ERROR') as logged, \
                    self.assertRaises(ZeroDivisionError):
                _Driver().of_group(thing, ZeroDivisionError('no way'))
            self.assertIn(f'{thing.id} failed: no way', logged.output[0])

    def test_of_a_group_they_name_the_group(self):
        group = mock.Mock(id='g-1', host='h@b', spec_set=('id', 'host'))
        first, last = self.lines(_Driver().of_group, group)
        self.assertEqual('of_group of g-1 begins, on h@b', first)
        self.assertRegex(last, 'of_group of g-1 is done after .*, on h@b$')


class HookTestCase(unittest.TestCase):

    def locked_by(self, *args, **kwargs):
        with mock.patch.object(locks, 'volumes') as volumes:
            _Driver().revert(*args, **kwargs)
        return volumes.call_args.args

    def test_an_operation_has_its_own_and_gives_back_that_around_it(self):
        outer, inner = _Driver().extend({'id': 'volume'})
        self.assertEqual(('snapshot',), outer.prefetch.paths)
        self.assertEqual(('runtime.host',), inner.prefetch.paths)
        self.assertIsNone(operation.current().prefetch)

    def test_an_instance_to_attach_to_is_read_too(self):
        found = _Driver().attach('volume', connector={'instance': 'vm-7'})
        self.assertEqual(('vm-7',), found.prefetch.others)
        self.assertEqual((), _Driver().attach('volume', {}).prefetch.others)

    def test_claims_are_held_by_an_operation_that_places(self):
        outer, inner = _Driver().extend({'id': 'volume'})
        self.assertIsNotNone(outer.claims)
        self.assertIs(outer.claims, inner.claims)
        self.assertIsNone(operation.current().claims)

    def test_a_snapshot_in_a_tree_stands_for_its_volume(self):
        self.assertEqual(('other', 'v'), self.locked_by(
            {'id': 'other'}, snapshot=IN_TREE))

    def test_a_template_stands_for_no_other_vm(self):
        self.assertEqual(('v',), self.locked_by(VOLUME, TEMPLATE))

    def setUp(self):
        super().setUp()
        self.driver = _Driver()
        known = self.driver.backend.promised
        with mock.patch.object(promises.threading, 'Thread'):
            known.start()
        known.read()

    def promised(self):
        return [(each.pool, each.place, each.size_gib)
                for each in self.driver.backend.promised.all()]

    def noted(self, result=None, **given):
        """What is promised after an operation on a volume."""
        with mock.patch.object(operation, 'current', return_value=result):
            self.driver.change(_volume(**given.pop('volume', {})), **given)
        return self.promised()

    def test_what_it_made_of_a_promise_counts_before_cinder_writes_it(self):
        promised = {'provider_id': state.PROMISED}
        there = {'host': 'h@b#two'}
        for result, given, wanted in (
                ({'provider_id': state.PROMISED}, {}, [('one', '', 2)]),
                (({'provider_id': state.PROMISED}, True), {},
                 [('one', '', 2)]),
                (None, {'volume': promised}, []),  # nothing changed
                (None, {'volume': promised, 'new_size': 7},
                 [('one', '', 7)]),
                (True, {'volume': promised, 'host': there}, [('two', '', 2)]),
                ((True, {'provider_location': 'place'}),
                 {'volume': promised, 'host': there}, [('two', 'place', 2)]),
                ((False, None), {'volume': promised, 'host': there}, [])):
            with self.subTest(result=result, **given):
                self.setUp()
                self.assertEqual(wanted, self.noted(result, **given))

    def test_a_volume_that_is_made_counts_from_the_begin(self):
        self.driver.change(_volume(status='creating'))
        self.assertEqual([], self.promised())
        for _each in range(2):
            self.driver.make(_volume(status='creating'))
            self.assertEqual([('one', '', 2)], self.promised())

    def test_a_promise_that_an_operation_changed_and_then_failed_counts(self):
        def fail():
            volume['host'] = 'h@b#two'
            raise ZeroDivisionError
        volume = _volume(provider_id=state.PROMISED)
        failing = mock.patch.object(operation, 'current', fail)
        with failing, self.assertRaises(ZeroDivisionError):
            self.driver.change(volume)
        self.assertEqual([('two', '', 2)], self.promised())

    def test_a_hook_says_what_it_was_given(self):
        self.assertEqual(hooks.Hook((), ('snapshot',), True),
                         _Driver.extend.hook)
        self.assertEqual('Extend.', _Driver.extend.__doc__)


if __name__ == '__main__':
    unittest.main()
