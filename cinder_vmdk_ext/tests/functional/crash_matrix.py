# SPDX-License-Identifier: Apache-2.0
"""Interrupts every operation at every call that changes something.

``make crash-matrix`` writes docs/crash-matrix.md.
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

from cinder import objects

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import quarantine
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import crash_others
from cinder_vmdk_ext.tests.functional import crash_volumes
from sandbox.embedded import section

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / 'docs' / 'crash-matrix.md'
RECORDS = ROOT / 'build' / 'crash-matrix'
CHANGING = (
    '(CreateVM|CloneVM|RelocateVM|ReconfigVM|Destroy|ExtendVirtualDisk'
    '|CreateSnapshot|RemoveSnapshot|RevertToSnapshot|MoveIntoFolder|Rename'
    '|MoveVirtualDisk|CopyVirtualDisk|DeleteVirtualDisk|CreateVirtualDisk'
    '|RemoveAllSnapshots|DeleteDatastoreFile|MoveDatastoreFile)_Task'
    '|CreateFolder|MarkAsTemplate|MakeDirectory|RenameSnapshot|UnregisterVM'
    '|ImportVApp|ExportVm|HttpNfcLeaseComplete')
OPERATIONS = crash_volumes.OPERATIONS | crash_others.OPERATIONS
MODES = ('killed before', 'killed after', 'request lost', 'reply lost')
# More calls than any operation makes.
MOST_CALLS = 20

HEAD = '''\
# The crash matrix

Each operation is interrupted at each of its calls that change something in
the vCenter, in four ways: the process is **killed before** the call, or
**killed after** it (no handler runs and nothing is cleaned up; a task that
was started continues, and ends before anything else happens), the
**request** is **lost** (the connection breaks, and nothing is executed), or
the **reply** is **lost** (the call is executed, and the connection breaks).
Then a new driver starts, as Cinder starts it, and reports statistics once.
After that the request is repeated, as a user would do it: a volume that was
not created is deleted and created again, and any other operation is repeated.

A case is right if the repeated request succeeds, if every volume has exactly
one VM with one disk and the right content, if the audit finds only leftovers
that name their owner, if a sweep moves these, and if the audit then finds
nothing. pyVmomi checks this on the simulated vCenter of the tests.

`make crash-matrix` runs all cases and writes this page; `make test` runs the
operations marked with *.

- **calls**: the largest number of calls that change something
- **went on**: the operation succeeded in spite of the interruption
- **repeated**: it failed, or was killed, and the repeated request succeeded
- **leftovers**: objects that a sweep then had to move, in all cases together

| operation | calls | cases | went on | repeated | leftovers | wrong |
|---|---|---|---|---|---|---|
'''


TAIL = '''
Detaching is not in the table: the driver makes no call for it.
'''
GAPS = '''
## Known gaps
The cases that are not right, and why:

'''


class Killed(BaseException):
    """The process is killed: no ``except Exception`` catches it."""


class Outcome(NamedTuple):
    """The result of one case."""

    operation: str
    mode: str
    call: int
    method: str
    succeeded: bool  # at the first attempt
    leftovers: int
    wrong: str


class CrashCase(backend_case.BackendCase):
    """Interrupts operations."""

    # So the UUID of a new disk takes a call of its own, which is cut too.
    VCENTER = backend_case.BackendCase.VCENTER | {'new_disk_uuid': 'ignored'}
    OPTIONS = {'vmware_snapshot_format': 'template'}

    def setUp(self):
        super().setUp()
        self.outcomes: list[Outcome] = []
        # Functions that undo changes of a case to other objects than volumes.
        self.undo: list[Callable[[], Any]] = []
        self.addCleanup(self._swap_driver, None)
        self._own: Any = None

    def _swap_driver(self, fresh):
        old, self._own = self._own, fresh
        if old is not None:
            old.backend.end_session()
        self.driver = fresh or self.shared_driver

    def restart(self):
        """Act as a new process: start a new driver with Cinder's records."""
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
        """Wait for the tasks that continue after the death of their client."""
        # A driver's thread waits for each of its tasks, so few can be running.
        for task in self.service.content.taskManager.recentTask[-4:]:
            with contextlib.suppress(Exception):
                while task.info.state in ('queued', 'running'):
                    time.sleep(0.05)

    # -- Cutting off --------------------------------------------------------

    @contextlib.contextmanager
    def cut(self, mode, call):
        """Interrupt the operation in the block; yields the calls hit."""
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
        cause: BaseException | None = None
        with self.cut(mode, call) as hit:
            try:
                attempt.act()
            except (Exception, Killed) as error:
                succeeded, cause = False, error
        if hit['method'] is None:
            self.remove_all()
            if not succeeded:
                raise AssertionError(
                    f'{name} fails when nothing is cut off') from cause
            return None
        self.settle()
        try:
            if mode.startswith('killed'):
                self.restart()
            if not succeeded:
                (attempt.again or attempt.act)()
            left = self.check(attempt.expected)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            problem = f'{type(error).__name__}: {error} ({last.name})'
        self.remove_all()
        return Outcome(name, mode, call, hit['method'], succeeded, left,
                       problem[:400])

    def check(self, expect):
        """Check that only leftovers remain, and that a sweep moves them.

        :param expect: of the attempt, called after statistics
        :returns: how many leftovers there were
        """
        self.report()
        expected = expect()
        for volume_id, checksum in expected.items():
            truth = self.truth(self.fresh_by_id(volume_id))
            assert truth is not None, f'volume {volume_id} has no VM'
            assert checksum == self.checksum_of(truth.path), 'other content'
        found = self.look()
        bad = [each for each in found if not each.sweepable
               or not each.owner]
        assert not bad, f'the audit finds {[_words(each) for each in bad]}'
        mover = quarantine.Quarantine(self.driver.backend)
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
                in compare.compare(collect.EvidenceReader(
                    self.driver.backend).read())
                if each.kind != 'quarantined']

    def remove_all(self):
        self.settle()
        while self.undo:
            self.undo.pop()()
        for instance in self.instances():
            if instance.snapshot:
                self.wait(instance.RemoveAllSnapshots_Task())
        self._remove_shadow_vms()
        for snapshot in objects.SnapshotList.get_all(self.context, {}):
            snapshot.destroy()
        for volume in objects.VolumeList.get_all(self.context):
            volume.destroy()
        content = self.service.content
        reader = collect.EvidenceReader(self.driver.backend)
        for each in compare.compare(reader.read()):
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
        """Take snapshots in this format in the block."""
        options = 'vmware_snapshot_format', form, section.NAME
        cfg.CONF.set_override(*options)
        try:
            yield
        finally:
            cfg.CONF.clear_override(options[0], options[2])

    # -- Operations ---------------------------------------------------------

    def making(self, make):
        """An operation that creates a volume; a failed one is deleted first.

        :param make: creates it from its record; returns the model update
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

    def sums(self, *volumes):
        return {volume.id: self.checksum(volume) for volume in volumes}


def _words(finding):
    return (f'{finding.kind} {finding.thing} {finding.name}: '
            f'{finding.detail}')


def page(outcomes: list[Outcome]) -> str:
    """The text of docs/crash-matrix.md."""
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
    text += TAIL
    wrong = [each for each in outcomes if each.wrong]
    if wrong:
        text += GAPS
        text += ''.join(
            f'- {each.operation}, {each.mode} call {each.call + 1} '
            f'({each.method}): {_anonymous(each.wrong)}\n' for each in wrong)
    return text


def _anonymous(text: str) -> str:
    """The text without the parts that differ between runs."""
    text = re.sub('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '...', text)
    return re.sub(r'\s+', ' ', text)


class _Run(CrashCase):
    """Runs the whole matrix, or the named operations."""

    wanted: tuple[str, ...] = ()

    def test_all(self):
        RECORDS.mkdir(parents=True, exist_ok=True)
        for name in self.wanted or OPERATIONS:
            del self.outcomes[:]
            self.run_operation(name, OPERATIONS[name])
            (RECORDS / f'{name}.json').write_text(json.dumps(self.outcomes))


def load_tests(loader, tests, pattern):
    """This module has no tests of its own."""
    return unittest.TestSuite()


def main(wanted: list[str]) -> int:
    """Run the named operations, or all; then write the page of all runs."""
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
