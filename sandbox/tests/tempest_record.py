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
    :param commits: name of a class -> the commit that its results are of,
        as far as it is known
    """

    date: str
    minutes: int
    releases: dict[str, str]
    counts: dict[str, dict[str, int]]
    others: list[Outcome]
    not_run: int = 0
    note: str = ''
    commits: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, results, planned, commit, **what):
        """The record of a run of a commit; see `of_tests`."""
        counts = collections.defaultdict(collections.Counter)
        for each in results.values():
            counts[_class_of(each.test)][each.outcome] += 1
        return cls(
            counts={name: dict(counts[name]) for name in sorted(counts)},
            others=sorted(each for each in results.values()
                          if each.outcome != PASSED),
            not_run=len(set(planned) - set(results)),
            commits=dict.fromkeys(sorted(counts), commit), **what)

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
        """How many tests of a class have a result."""
        # What fails after the tests is no test.
        return sum(self.counts.get(name, {}).values()) - sum(
            each.test == f'tearDownClass ({name})' for each in self.others)

    def completed(self, more):
        """This record, with the results of a later run.

        They take the place of what is here, class by class; but those of a
        class in which that run was broken off, and which has more here.

        :param more: the record of that run
        :raises ValueError: it was a run of other releases
        """
        if more.releases != self.releases:
            raise ValueError(f'those results are of {self.releases}, and '
                             f'these of {more.releases}; run all tests')
        gained = {name: more._results_of(name) - self._results_of(name)
                  for name in more.counts}
        later = {name for name, number in gained.items() if number >= 0}
        kept = set(self.counts) - later
        return Record(
            date=more.date, releases=self.releases,
            minutes=more.minutes + (self.minutes if kept else 0),
            counts=_chosen(self.counts, kept, more.counts, later),
            others=sorted(
                [each for each in self.others if _class_of(each.test) in kept]
                + [each for each in more.others
                   if _class_of(each.test) in later]),
            not_run=self.not_run - sum(gained[name] for name in later),
            note=self.note if kept else more.note,
            commits=_chosen(self.commits, kept, more.commits, later))

    def tests_of_commits(self):
        """Commit -> how many results are of it; "" if it is not known."""
        found = collections.Counter()
        for name in self.counts:
            found[self.commits.get(name, '')] += self._results_of(name)
        return dict(sorted(found.items()))

    def total(self, suite, outcome):
        """How many tests of a suite had an outcome."""
        return sum(count.get(outcome, 0) for name, count
                   in self.counts.items() if name.startswith(suite))


def _chosen(first, names, second, others):
    """Those entries of two dictionaries that have these names, sorted."""
    return dict(sorted(
        [(name, value) for name, value in first.items() if name in names]
        + [(name, value) for name, value in second.items()
           if name in others]))


def _class_of(test):
    whole = _CLASS.match(test)
    return whole['name'] if whole else test.rpartition('.')[0]


def read(path):
    """Mode -> its Record, of those in a file; none, if it is not there."""
    if not path.exists():
        return {}
    return {mode: Record(**{**values, 'others': [
        Outcome(*each) for each in values['others']]})
            for mode, values in json.loads(path.read_text()).items()}


def write(records, path):
    """Write a file for `read`."""
    path.write_text(json.dumps(
        {mode: dataclasses.asdict(records[mode]) for mode in MODES
         if mode in records}, indent=1) + '\n')


def load(folder=DOCS):
    """What docs/tempest.json has; see `read`."""
    return read(folder / 'tempest.json')


def save(records, folder=DOCS, known=None):
    """Write docs/tempest.json and docs/tempest.md."""
    write(records, folder / 'tempest.json')
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
            ('commit: tests', lambda one: ', '.join(
                f'{commit or "earlier"}: {number}' for commit, number
                in one.tests_of_commits().items())),
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
