# SPDX-License-Identifier: Apache-2.0
"""The results of `make tempest`, explained and written into the docs.

docs/tempest.json has the last results with lazy creation off and on, and
docs/tempest.md is written from it. tempest_reasons.toml explains each test
that was skipped or failed.
"""

import collections
import dataclasses
import json
from pathlib import Path
import re
import tomllib
from typing import NamedTuple

from sandbox import configuration

DOCS = configuration.REPOSITORY / 'docs'
REASONS = Path(__file__).with_name('tempest_reasons.toml')

#: Name of a mode -> its heading
MODES = {'full': 'lazy creation off', 'lazy': 'lazy creation on'}
#: The packages whose tests are run
SUITES = ('tempest.api.volume', 'cinder_tempest_plugin')
PASSED, SKIPPED, FAILED = 'ok', 'SKIPPED', 'FAILED'
OUTCOMES = {PASSED: 'passed', SKIPPED: 'skipped', FAILED: 'failed'}

# "{0} a.b.Class.test [1.5s] ... SKIPPED: why"; a class stands as
# "setUpClass (a.b.Class)".
_LINE = re.compile(r'^\{\d+\} (?P<test>.+?) (?:\[[\d.]+s\] )?\.\.\. '
                   r'(?P<outcome>ok|FAILED|SKIPPED)(?:: (?P<why>.*))?$')
_CLASS = re.compile(r'^(?P<step>setUpClass|tearDownClass) \((?P<name>.+)\)$')
_TRACEBACK = 'Captured traceback'
_FRAME = re.compile(r'^(Traceback |File |During |The above |[~^ ]+$|$)')


class Outcome(NamedTuple):
    """The outcome of a test, or of the set-up of all tests of a class."""

    test: str
    outcome: str
    why: str


def outcomes(output):
    """Each outcome that Tempest has printed, in its order.

    The "why" of a failure is the last line of its traceback.
    """
    found, traceback = [], None
    for line in output.splitlines():
        match = _LINE.match(line)
        if match:
            found.append(Outcome(match['test'], match['outcome'],
                                 match['why'] or ''))
            traceback = None
        elif line.startswith('Captured '):
            traceback = line.startswith(_TRACEBACK)
        elif traceback and found and line.startswith('    ') \
                and not line.startswith('      ') \
                and not _FRAME.match(line.strip()):
            found[-1] = found[-1]._replace(why=line.strip())
    return found


def name_of(test):
    """A test without the "[id-...,tags]" behind its name."""
    return test.partition('[')[0]


def of_tests(found, planned):
    """The outcome of each test that has one.

    A class that was skipped, or whose set-up failed, stands for its tests;
    what fails after the tests of a class stands for itself.

    :param found: see `outcomes`
    :param planned: the names of all tests that are to run
    :returns: name -> Outcome
    """
    answer = {}
    for each in found:
        whole = _CLASS.match(each.test)
        if whole is None:
            answer[name_of(each.test)] = each._replace(
                test=name_of(each.test))
        elif whole['step'] == 'tearDownClass':
            answer[each.test] = each
        else:
            answer.update(
                (test, each._replace(test=test)) for test in planned
                if test.rpartition('.')[0] == whole['name'])
    return answer


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why some tests are skipped or fail.

    :param outcome: SKIPPED or FAILED
    :param test: a pattern that is found in their names
    :param explanation: a sentence for the docs
    :param why: a pattern that is found in what Tempest says
    :param modes: those in which it holds
    """

    outcome: str
    test: str
    explanation: str
    why: str = ''
    modes: tuple[str, ...] = tuple(MODES)

    def explains(self, outcome, mode):
        """Whether this is the reason of an outcome."""
        return (outcome.outcome == self.outcome and mode in self.modes
                and re.search(self.test, outcome.test) is not None
                and re.search(self.why, outcome.why) is not None)


def reasons(path=REASONS):
    """What the file says, in its order."""
    return [Reason(**{**each, 'modes': tuple(each.get('modes', MODES))})
            for each in tomllib.loads(path.read_text())['reason']]


def reason_of(outcome, mode, known):
    """The first known reason of an outcome, or None."""
    return next((each for each in known if each.explains(outcome, mode)),
                None)


def unexplained(found, mode, known):
    """Those of the outcomes that are no success and have no known reason."""
    return [each for each in found if each.outcome != PASSED
            and reason_of(each, mode, known) is None]


@dataclasses.dataclass
class Record:
    """The last run in one mode.

    :param releases: name of a package -> its version
    :param counts: name of a class -> outcome -> number of its tests
    :param others: those that did not pass
    :param not_run: how many tests have no outcome, because the run was
        broken off
    :param note: what else a reader has to know of the run
    """

    date: str
    minutes: int
    releases: dict[str, str]
    counts: dict[str, dict[str, int]]
    others: list[Outcome]
    not_run: int = 0
    note: str = ''

    @classmethod
    def of(cls, results, planned, **what):
        """The record of a run; see `of_tests`."""
        counts = collections.defaultdict(collections.Counter)
        for each in results.values():
            counts[_class_of(each.test)][each.outcome] += 1
        return cls(
            counts={name: dict(counts[name]) for name in sorted(counts)},
            others=sorted(each for each in results.values()
                          if each.outcome != PASSED),
            not_run=len(set(planned) - set(results)), **what)

    def lacking(self, tests):
        """The tests of the classes of which not every test has a result.

        :param tests: the names of all tests, with their attributes or without
        """
        sizes = collections.Counter(_class_of(name_of(each))
                                    for each in tests)
        return [each for each in tests
                if self._results_of(_class_of(name_of(each)))
                < sizes[_class_of(name_of(each))]]

    def _results_of(self, name):
        return sum(self.counts.get(name, {}).values())

    def completed(self, planned, more):
        """This record, with the results of a later run of some classes.

        :param planned: the names of the tests of those classes
        :param more: the record of that run
        :raises ValueError: it was a run of other releases
        """
        if more.releases != self.releases:
            raise ValueError(f'those results are of {self.releases}, and '
                             f'these of {more.releases}; run all tests')
        classes = {_class_of(name) for name in planned}
        known = sum(map(self._results_of, classes))
        return Record(
            date=more.date, minutes=self.minutes + more.minutes,
            releases=self.releases,
            counts=dict(sorted((self.counts | more.counts).items())),
            others=sorted([each for each in self.others
                           if _class_of(each.test) not in classes]
                          + more.others),
            not_run=self.not_run + known - len(planned) + more.not_run,
            note=self.note)

    def total(self, suite, outcome):
        """How many tests of a suite had an outcome."""
        return sum(count.get(outcome, 0) for name, count
                   in self.counts.items() if name.startswith(suite))


def _class_of(test):
    whole = _CLASS.match(test)
    return whole['name'] if whole else test.rpartition('.')[0]


def load(folder=DOCS):
    """Mode -> its Record, of those that there are."""
    path = folder / 'tempest.json'
    if not path.exists():
        return {}
    return {mode: Record(**{**values, 'others': [
        Outcome(*each) for each in values['others']]})
            for mode, values in json.loads(path.read_text()).items()}


def save(records, folder=DOCS, known=None):
    """Write docs/tempest.json and docs/tempest.md."""
    (folder / 'tempest.json').write_text(json.dumps(
        {mode: dataclasses.asdict(records[mode]) for mode in MODES
         if mode in records}, indent=1) + '\n')
    (folder / 'tempest.md').write_text('\n'.join(
        page(records, reasons() if known is None else known)) + '\n')


# -- the page ----------------------------------------------------------------

_INTRODUCTION = '''\
# Tempest's volume tests

The volume tests of Tempest (`tempest.api.volume`) and those of
cinder-tempest-plugin, unchanged and from their packages, on the cloud of
`make sandbox CLOUD=1`: Keystone, Glance, Cinder with cinder-backup, Nova with
its VMware driver, and two backends of this driver on one simulated vCenter.
They run with lazy creation off and on:

    make sandbox CLOUD=1 ARGS='--backend second'
    make tempest
    make sandbox-stop
    make sandbox CLOUD=1 ARGS='--backend second --lazy'
    make tempest
    make sandbox-stop

`make tempest` writes this page. It fails if a test fails or is skipped
without a reason in
[tempest_reasons.toml](../sandbox/tests/tempest_reasons.toml), where the
explanations below come from.
'''


def page(records, known):
    """docs/tempest.md, as lines."""
    yield _INTRODUCTION
    yield '## Results'
    yield ''
    yield from _results(records)
    for outcome in (FAILED, SKIPPED):
        yield ''
        yield f'## {OUTCOMES[outcome].capitalize()}'
        yield ''
        yield from _explained(records, outcome, known)
    yield ''
    yield '## Each class'
    yield ''
    yield 'Passed / skipped / failed.'
    yield ''
    yield from _classes(records)


def _row(*cells):
    return f'| {" | ".join(str(cell) for cell in cells)} |'


def _results(records):
    yield _row('', *MODES.values())
    yield '|---|' + '---:|' * len(MODES)
    for suite in SUITES:
        for outcome, heading in OUTCOMES.items():
            yield _row(f'{suite}: {heading}', *(
                record.total(suite, outcome) if record else 'no run'
                for record in map(records.get, MODES)))
    for heading, cell in (
            ('**passed / skipped / failed**', lambda one: '**%s**' % (
                ' / '.join(str(one.total('', outcome))
                           for outcome in OUTCOMES))),
            ('not run', lambda one: one.not_run or 'none'),
            ('date', lambda one: one.date),
            ('minutes', lambda one: one.minutes),
            ('releases', lambda one: ', '.join(
                f'{name} {version}'
                for name, version in one.releases.items()))):
        yield _row(heading, *(cell(record) if record else '' for record
                              in map(records.get, MODES)))
    for mode, record in records.items():
        if record.not_run:
            yield ''
            yield (f'The run with {MODES[mode]} was broken off. Tests '
                   f'without a result: {record.not_run}.')
        if record.note:
            yield ''
            yield f'Of the run with {MODES[mode]}: {record.note}'


def _explained(records, outcome, known):
    """A table of the reasons, with the tests of each."""
    tests = collections.defaultdict(lambda: collections.defaultdict(set))
    for mode, record in records.items():
        for each in record.others:
            if each.outcome == outcome:
                reason = reason_of(each, mode, known)
                tests[reason.explanation if reason else
                      f'**not explained:** {_cell(each.why)}'][
                          each.test].add(mode)
    if not tests:
        yield 'None.' if records else 'There was no run yet.'
        return
    yield _row('why', 'tests', *MODES.values())
    yield '|---|---|' + '---:|' * len(MODES)
    for explanation, names in tests.items():
        yield _row(explanation, _named(names), *(
            sum(mode in modes for modes in names.values())
            for mode in MODES))


def _named(names):
    """The tests of a reason, by class."""
    classes = collections.defaultdict(list)
    for name in sorted(names):
        classes[_class_of(name)].append(name)
    # Not as code: what documents name so is a test of this project.
    return '<br>'.join(
        f'{name}, {len(tests)} tests' if len(tests) > 1
        else _cell(tests[0]) for name, tests in classes.items())


def _cell(text):
    """A text that does not end its cell of a table."""
    return text.replace('|', '\\|').replace('<', '&lt;')


def _classes(records):
    yield _row('class', *MODES.values())
    yield '|---|' + '---:|' * len(MODES)
    for name in sorted({name for record in records.values()
                        for name in record.counts}):
        yield _row(name, *(
            ' / '.join(str(record.counts[name].get(outcome, 0))
                       for outcome in OUTCOMES)
            if record and name in record.counts else 'no run'
            for record in map(records.get, MODES)))
