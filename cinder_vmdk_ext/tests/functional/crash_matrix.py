# SPDX-License-Identifier: Apache-2.0
"""Every operation, cut off at every call that changes something.

Write docs/crash-matrix.md anew with ``make crash-matrix``.
"""

import collections
import contextlib
import json
import pathlib
import re
import shutil
import sys
import time
import traceback
import unittest
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from oslo_config import cfg
from oslo_utils import uuidutils

from cinder import exception
from cinder import objects

from cinder_vmdk_ext import audit
from cinder_vmdk_ext import evidence
from cinder_vmdk_ext import quarantine
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests import section

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / 'docs' / 'crash-matrix.md'
RECORDS = ROOT / 'build' / 'crash-matrix'
CHANGING = (
    '(CreateVM|CloneVM|RelocateVM|ReconfigVM|Destroy|ExtendVirtualDisk'
    '|CreateSnapshot|RemoveSnapshot|RevertToSnapshot|MoveIntoFolder|Rename'
    '|MoveVirtualDisk|CopyVirtualDisk|DeleteVirtualDisk|CreateVirtualDisk'
    '|RemoveAllSnapshots)_Task'
    '|CreateFolder|MarkAsTemplate|MakeDirectory|RenameSnapshot|UnregisterVM')
MODES = ('killed before', 'killed after', 'request lost', 'reply lost')
# More calls than any operation makes.
MOST_CALLS = 20

HEAD = '''\
# The crash matrix

Each operation is cut off at each of its calls that change something in the
vCenter, in four ways: the process is **killed before** the call or **killed
after** it (nothing of it runs on: no handler, no cleaning up; a task that
was started goes on), the **request** is **lost** (the connection breaks, and
nothing is executed), or the **reply** is **lost** (it is executed, and the
connection breaks). Then a new driver starts, as Cinder starts it, reports
statistics once, and what was asked for is asked for again as a user would:
what was not made is deleted and made anew, all else is repeated.

A case is right when the repeat succeeds, every volume has exactly one VM with
one disk of the content that it is to have, the audit finds nothing but
leftovers that tell their owner, a sweep moves those, and afterwards the audit
finds nothing. It is the simulated vCenter of the tests that says so, looked
at by pyVmomi.

`make crash-matrix` runs it all and writes this page; `make test` runs the
operations marked with *.

- **calls**: calls that change something, the most that were seen
- **went on**: the operation succeeded all the same
- **repeated**: it failed, or was killed, and the repeat succeeded
- **leftovers**: things that a sweep then had to move, in all cases together

| operation | calls | cases | went on | repeated | leftovers | wrong |
|---|---|---|---|---|---|---|
'''


GAPS = '''
## Known gaps
Not in the matrix: operations on images, manage, groups, transfers and
attaching itself. The cases that are not right, with what was found:

'''


class Killed(BaseException):
    """The process is gone: no ``except Exception`` sees it."""


class Operation(NamedTuple):
    """What is cut off, and how a user goes on."""

    # Makes what there is before; gives the operation.
    prepare: Callable[[Any], 'Attempt']
    quick: bool = False  # part of make test


class Attempt(NamedTuple):
    """An operation on things that are there."""

    act: Callable[[], None]
    # Asks for it again after a failure; by default the same.
    again: Callable[[], None] | None = None
    # Afterwards: checksums of volumes' disks by id.
    expected: Callable[[], dict[str, str]] = dict


class Outcome(NamedTuple):
    """What came of one case."""

    operation: str
    mode: str
    call: int
    method: str
    succeeded: bool  # at the first attempt
    leftovers: int
    wrong: str


class CrashCase(backend_case.BackendCase):
    """Cuts operations off."""

    OPTIONS = {'vmware_snapshot_format': 'template'}

    def setUp(self):
        super().setUp()
        self.outcomes: list[Outcome] = []
        self.addCleanup(self._swap_driver, None)
        self._own: Any = None

    def _swap_driver(self, fresh):
        old, self._own = self._own, fresh
        if old is not None:
            with contextlib.suppress(Exception):
                old._end_session()
        self.driver = fresh or self.shared_driver

    def restart(self):
        """A new process: a new driver, told what Cinder knows."""
        self._swap_driver(self.make_driver())
        self.settle()
        volumes = list(objects.VolumeList.get_all(self.context))
        updates, _none = self.driver.update_provider_info(
            volumes, list(objects.SnapshotList.get_all(self.context, {})))
        for update in updates or ():
            volume = self.fresh_by_id(update['id'])
            volume.update(update)
            volume.save()
        self.report()

    def fresh_by_id(self, volume_id):
        return objects.Volume.get_by_id(self.context, volume_id)

    def settle(self):
        """Wait for the tasks that go on after their client is gone."""
        # A driver's thread waits for each of its tasks, so few can be running.
        for task in self.service.content.taskManager.recentTask[-4:]:
            with contextlib.suppress(Exception):
                while task.info.state in ('queued', 'running'):
                    time.sleep(0.05)

    # -- Cutting off --------------------------------------------------------

    @contextlib.contextmanager
    def cut(self, mode, call):
        """Cut off what runs in the block; yields what was hit."""
        hit: dict[str, Any] = {'method': None, 'count': 0}
        if mode.startswith('killed'):
            with self._killing(mode, call, hit):
                yield hit
            return
        rule = self.control.fault(
            method=CHANGING, skip=call, count=1,
            cut='before' if mode == 'request lost' else 'after')
        try:
            yield hit
        finally:
            hits = [each for each in self.control.faults()
                    if each['id'] == rule['id'] and each['hits']]
            self.control.remove_fault(rule)
            if hits:
                hit['method'] = self._cut_method()

    def _cut_method(self):
        for each in reversed(self.control.calls(last=200)):
            if each['outcome'] not in ('ok', 'success', '') and re.fullmatch(
                    CHANGING, each['method']):
                return each['method']
        return '?'

    @contextlib.contextmanager
    def _killing(self, mode, call, hit):
        session = self.driver.session
        real = session.invoke_api

        def invoke(module, method, *args, **kwargs):
            if hit['method']:
                raise Killed
            name = args[0] if method == 'call' else method
            if not re.fullmatch(CHANGING, str(name)):
                return real(module, method, *args, **kwargs)
            hit['count'] += 1
            if hit['count'] <= call:
                return real(module, method, *args, **kwargs)
            hit['method'] = name
            if mode == 'killed after':
                real(module, method, *args, **kwargs)
            raise Killed

        session.invoke_api = invoke
        try:
            yield
        finally:
            del session.invoke_api

    def run_case(self, name, operation, mode, call):
        """One case.

        :returns: its outcome; None when the operation has no such call
        """
        attempt = operation.prepare(self)
        succeeded, problem, left = True, '', 0
        with self.cut(mode, call) as hit:
            try:
                attempt.act()
            except (Exception, Killed):
                succeeded = False
        if hit['method'] is None:
            self.remove_all()
            if not succeeded:
                raise AssertionError(f'{name} fails when nothing is cut off')
            return None
        self.settle()
        try:
            if mode.startswith('killed'):
                self.restart()
            if not succeeded:
                (attempt.again or attempt.act)()
            left = self.check(attempt.expected())
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            problem = f'{type(error).__name__}: {error} ({last.name})'
        self.remove_all()
        return Outcome(name, mode, call, hit['method'], succeeded, left,
                       problem[:400])

    def check(self, expected):
        """All is well but for leftovers, which a sweep moves.

        :returns: how many those were
        """
        self.report()
        for volume_id, checksum in expected.items():
            truth = self.truth(self.fresh_by_id(volume_id))
            assert truth is not None, f'volume {volume_id} has no VM'
            assert checksum == self.checksum_of(truth.path), 'other content'
        found = self.look()
        bad = [each for each in found if not each.sweepable
               or not each.owner]
        assert not bad, f'the audit finds {[_words(each) for each in bad]}'
        mover = quarantine.Quarantine(self.driver)
        for each in found:
            mover.move(each)
        after = self.look()
        assert not after, f'after the sweep: {[_words(e) for e in after]}'
        for volume_id, checksum in expected.items():
            truth = self.truth(self.fresh_by_id(volume_id))
            assert checksum == self.checksum_of(truth.path), 'swept content'
        return len(found)

    def look(self):
        return [each for each
                in audit.compare(evidence.Reader(self.driver).read())
                if each.kind != 'quarantined']

    def remove_all(self):
        self.settle()
        self._remove_shadow_vms()
        for snapshot in objects.SnapshotList.get_all(self.context, {}):
            snapshot.destroy()
        for volume in objects.VolumeList.get_all(self.context):
            volume.destroy()
        content = self.service.content
        for each in audit.compare(evidence.Reader(self.driver).read()):
            # The file of a disk that was on an instance only.
            self.wait(content.virtualDiskManager.DeleteVirtualDisk_Task(
                each.reference, content.rootFolder.childEntity[0]))

    def run_operation(self, name, operation, modes=MODES):
        for mode in modes:
            for call in range(MOST_CALLS):
                outcome = self.run_case(name, operation, mode, call)
                if outcome is None:
                    break
                self.outcomes.append(outcome)
                print(f'{name}, {mode} call {call + 1} {outcome.method}: '
                      + (outcome.wrong or 'right'), file=sys.stderr,
                      flush=True)

    @contextlib.contextmanager
    def format(self, form):
        """Snapshots of that format in the block."""
        options = 'vmware_snapshot_format', form, section.NAME
        cfg.CONF.set_override(*options)
        try:
            yield
        finally:
            cfg.CONF.clear_override(options[0], options[2])

    # -- What is asked for --------------------------------------------------

    def making(self, make):
        """An operation that makes a volume: a failed one is deleted first.

        :param make: makes it, given its record; gives the model update
        """
        made = [self.new_volume()]

        def act():
            self.made(made[-1], make(made[-1]))

        def again():
            failed = self.fresh(made[-1])
            failed.status = 'error'
            failed.save()
            self.driver.delete_volume(failed)
            failed.destroy()
            made.append(self.new_volume())
            act()
        return made, act, again

    def checksum_of(self, path):
        """Of the grains that are not zeros: fast, and of all content."""
        return self._disk_request('GET', '/checksum', path,
                                  grains=1)['sha256']

    def sums(self, *volumes):
        return {volume.id: self.checksum(volume) for volume in volumes}


def _words(finding):
    return (f'{finding.kind} {finding.thing} {finding.name}: '
            f'{finding.detail}')


def _source(case, **fields):
    return case.create(content=backend_case.content('source'), **fields)


def _create(case):
    made, act, again = case.making(
        lambda volume: case.driver.create_volume(volume))
    return Attempt(act, again, lambda: {
        made[-1].id: case.checksum(made[-1])})


def _copying(prepare):
    """Making a volume of another's content.

    :param prepare: gives how, of a source volume
    """
    def begin(case):
        source = _source(case)
        make = prepare(case, source)
        made, act, again = case.making(make)
        before = case.checksum(source)
        return Attempt(act, again, lambda: {source.id: before,
                                            made[-1].id: before})
    return begin


def _clone(case, source):
    return lambda volume: case.driver.create_cloned_volume(
        volume, case.fresh(source))


def _linked_clone(case, source):
    linked = case.volume_type(f'linked-{uuidutils.generate_uuid()}',
                              clone_type='linked')

    def make(volume):
        volume.volume_type_id = linked['id']
        volume.save()
        return case.driver.create_cloned_volume(volume, case.fresh(source))
    return make


def _from_snapshot(case, source):
    snapshot = case.snapshot(source)
    return lambda volume: case.driver.create_volume_from_snapshot(volume,
                                                                  snapshot)


def _snapshot(form):
    def begin(case):
        source = _source(case)
        before = case.checksum(source)
        taken = [case.new_snapshot(source)]

        def act():
            with case.format(form):
                update = case.driver.create_snapshot(taken[-1])
            taken[-1].update(update)
            taken[-1].status = 'available'
            taken[-1].save()

        def again():
            failed = objects.Snapshot.get_by_id(case.context, taken[-1].id)
            failed.status = 'error'
            failed.save()
            case.driver.delete_snapshot(failed)
            failed.destroy()
            taken.append(case.new_snapshot(source))
            act()
        return Attempt(act, again, lambda: {source.id: before})
    return begin


def _delete_snapshot(case):
    source = _source(case)
    before = case.checksum(source)
    snapshot = case.snapshot(source)

    def act():
        case.driver.delete_snapshot(snapshot)
        snapshot.destroy()
    return Attempt(act, None, lambda: {source.id: before})


def _revert(form):
    def begin(case):
        source = _source(case)
        before = case.checksum(source)
        with case.format(form):
            snapshot = case.snapshot(source)
        case.write(source, backend_case.content('after the snapshot'))

        def act():
            case.driver.revert_to_snapshot(case.context, case.fresh(source),
                                           snapshot)
        return Attempt(act, None, lambda: {source.id: before})
    return begin


def _delete(case):
    volume = _source(case)

    def act():
        case.driver.delete_volume(case.fresh(volume))
        volume.destroy()
    return Attempt(act)


def _changing(change, pool=None):
    """Changing a volume whose content stays.

    :param change: does it, given the case and the volume's record
    """
    def begin(case):
        volume = _source(case)
        sums: dict[str, str] = {}
        before = case.read(volume, 1 << 20)

        def act():
            now = case.fresh(volume)
            change(case, now)
            if pool is not None:
                now.host = f'{backend_case.HOST}#{pool}'
            now.save()

        def expected():
            if case.read(volume, 1 << 20) != before:
                raise AssertionError('other content')
            sums.update(case.sums(volume))
            return sums
        return Attempt(act, None, expected)
    return begin


def _extend(case, volume):
    case.driver.extend_volume(volume, 2)
    volume.size = 2
    assert case.truth(volume).size_gib == 2, 'not extended'


def _extend_moving(case, volume):
    rule = case.control.fault(method='ExtendVirtualDisk_Task', count=1,
                              task_fault={'type': 'NoDiskSpace'})
    try:
        _extend(case, volume)
    finally:
        case.control.remove_fault(rule)


def _retype(specs, pool):
    def change(case, volume):
        wanted = case.volume_type(f'type-{uuidutils.generate_uuid()}',
                                  **specs)
        if not case.driver.retype(case.context, volume, wanted, {},
                                  case.there(pool)):
            raise exception.VolumeBackendAPIException(data='not retyped')
        volume.volume_type_id = wanted['id']
    return change


def _migrate(case, volume):
    moved, _update = case.driver.migrate_volume(
        case.context, volume, case.there('LocalDS_2'))
    assert moved, 'not migrated'


def _migrate_attached(case):
    volume = _source(case)
    before = case.read(volume, 1 << 20)
    instance = case.attach(volume)

    def act():
        now = case.fresh(volume)
        _migrate(case, now)
        now.host = f'{backend_case.HOST}#LocalDS_2'
        now.save()

    def expected():
        device = case.disk_on(instance, volume)
        assert case.truth(volume).path == device.backing.fileName, (
            'the shadow VM names another file')
        assert case.read(volume, 1 << 20) == before, 'other content'
        return case.sums(volume)
    return Attempt(act, None, expected)


OPERATIONS = {
    'create': Operation(_create, quick=True),
    'clone': Operation(_copying(_clone)),
    'clone (linked)': Operation(_copying(_linked_clone)),
    'create from a snapshot': Operation(_copying(_from_snapshot)),
    'snapshot (COW)': Operation(_snapshot('COW')),
    'snapshot (template)': Operation(_snapshot('template'), quick=True),
    'delete a snapshot': Operation(_delete_snapshot),
    'revert (COW)': Operation(_revert('COW')),
    'revert (template)': Operation(_revert('template'), quick=True),
    'extend': Operation(_changing(_extend)),
    'extend, and move': Operation(_changing(_extend_moving)),
    'retype in place': Operation(_changing(
        _retype({'adapter_type': 'paraVirtual'}, 'LocalDS_1'))),
    'retype by a copy': Operation(_changing(
        _retype({'vmdk_type': 'thick'}, 'LocalDS_1'))),
    'retype to another pool': Operation(_changing(
        _retype({'vmdk_type': 'thick', 'adapter_type': 'paraVirtual'},
                'LocalDS_2'), 'LocalDS_2')),
    'migrate': Operation(_changing(_migrate, 'LocalDS_2')),
    'migrate attached': Operation(_migrate_attached),
    'delete': Operation(_delete, quick=True),
}


def page(outcomes: list[Outcome]) -> str:
    """docs/crash-matrix.md."""
    text = HEAD
    total: dict[str, int] = collections.Counter()
    for name, operation in OPERATIONS.items():
        own = [each for each in outcomes if each.operation == name]
        if not own:
            text += f'| {name} | | not run | | | | |\n'
            continue
        wrong = [each for each in own if each.wrong]
        went_on = sum(each.succeeded and not each.wrong for each in own)
        row = {'calls': max(each.call for each in own) + 1,
               'cases': len(own), 'went on': went_on,
               'repeated': len(own) - went_on - len(wrong),
               'leftovers': sum(each.leftovers for each in own),
               'wrong': len(wrong)}
        total.update(row)
        text += (f'| {name}{"*" if operation.quick else ""} | '
                 + ' | '.join(str(value) for value in row.values()) + ' |\n')
    total.pop('calls', None)
    text += '| all | | ' + ' | '.join(
        str(value) for value in total.values()) + ' |\n'
    wrong = [each for each in outcomes if each.wrong]
    if wrong:
        text += GAPS
        text += ''.join(
            f'- {each.operation}, {each.mode} call {each.call + 1} '
            f'({each.method}): {_anonymous(each.wrong)}\n' for each in wrong)
    return text


def _anonymous(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '...', text)
    return re.sub(r'\s+', ' ', text)


class _Run(CrashCase):
    """The whole matrix, or the operations that are named."""

    wanted: tuple[str, ...] = ()

    def test_all(self):
        RECORDS.mkdir(parents=True, exist_ok=True)
        for name in self.wanted or OPERATIONS:
            del self.outcomes[:]
            self.run_operation(name, OPERATIONS[name])
            (RECORDS / f'{name}.json').write_text(json.dumps(self.outcomes))


def load_tests(loader, tests, pattern):
    """This module holds no tests of its own."""
    return unittest.TestSuite()


def main(wanted: list[str]) -> int:
    """Run operations, or all; then write the page of all that were run."""
    _Run.wanted = tuple(wanted)
    if not wanted:
        shutil.rmtree(RECORDS, ignore_errors=True)
    result = unittest.TextTestRunner().run(
        unittest.TestSuite([_Run('test_all')]))
    outcomes = [Outcome(*each) for path in RECORDS.glob('*.json')
                for each in json.loads(path.read_text())]
    PAGE.write_text(page(outcomes))
    wrong = sum(bool(each.wrong) for each in outcomes)
    print(f'{len(outcomes)} cases, {wrong} wrong: {PAGE}')
    return int(bool(wrong) or not result.wasSuccessful())


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
