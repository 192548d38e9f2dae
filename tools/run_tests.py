# SPDX-License-Identifier: Apache-2.0
"""Runs every check and every test, and prints how many passed and failed.

The results of the Python tests are shown while they run. The checks and the Go
tests run at the same time, and are shown when they have ended. The last line
counts all of them. The exit status is 0 only if everything passed.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import dbm.dumb
import difflib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(sys.executable).parent
SIMULATOR = ROOT / 'simulator'
SAMPLE = ROOT / 'etc' / 'cinder_vmdk_ext.conf.sample'
# One more than the usual two processors, because tests often wait.
STESTR_WORKERS = 3
# Durations of long test classes, for a first run.
DURATIONS = ROOT / 'tools' / 'durations.json'
WORTH_RECORDING_SECONDS = 3
# A file system in memory, and the free space that the tests need there.
MEMORY = pathlib.Path('/dev/shm')
ENOUGH_MEMORY_BYTES = 6 << 30
# Go's tools take a fifth less CPU time if they collect garbage less often.
GO_COMPILER = {'GOGC': '300'}
# Simulated vCenters take a tenth less, and Python as well (sitecustomize.py).
SIMULATORS = {'GOGC': '400'}
STARTUP = ROOT / 'tools' / 'startup'
# A test that hangs must not block the caller for ever. A machine that other
# work slows down to a third of its speed may need most of an hour.
STESTR_LIMIT_SECONDS = 60 * 60


@dataclasses.dataclass
class Counts:
    """How many passed, failed and were skipped; and the output to show."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    output: str = ''

    def add(self, other: 'Counts') -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return (f'{self.passed} passed, {self.failed} failed, '
                f'{self.skipped} skipped')


@dataclasses.dataclass
class Step:
    name: str
    run: Callable[[], Counts]
    counts: Counts = dataclasses.field(default_factory=Counts)
    seconds: float = 0

    def __call__(self) -> 'Step':
        started = time.monotonic()
        self.counts = self.run()
        self.seconds = time.monotonic() - started
        return self

    def show(self) -> None:
        print(f'== {self.name}: {self.counts}')
        if self.counts.output.strip():
            print(self.counts.output.rstrip())

    def line(self) -> str:
        verdict = 'FAILED' if self.counts.failed else 'ok'
        return (f'  {self.name:<22} {verdict:<7} {self.counts}, '
                f'{self.seconds:.0f} s')


def check(*command: str | pathlib.Path, cwd: pathlib.Path = ROOT,
          **variables: str) -> Counts:
    """One command that is right when it exits with 0.

    :param variables: added to its environment
    """
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, text=True,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode == 0:
        return Counts(passed=1)
    return Counts(failed=1, output=result.stdout)


def gofmt(go: str) -> Counts:
    """Run gofmt, which exits with 0 even if it lists files to change."""
    root = subprocess.run([go, 'env', 'GOROOT'], capture_output=True,
                          text=True, check=True).stdout.strip()
    result = subprocess.run(
        [str(pathlib.Path(root) / 'bin' / 'gofmt'), '-l', '.'],
        cwd=SIMULATOR, capture_output=True, text=True)
    if result.returncode == 0 and not result.stdout:
        return Counts(passed=1)
    return Counts(failed=1, output='gofmt would change:\n'
                  f'{result.stdout}{result.stderr}')


def go_test(go: str) -> Counts:
    """Run Go's tests; a package that does not compile is one failure."""
    result = subprocess.run(
        # Not from its cache: qemu-img may have come since. Without its own
        # choice of go vet, the whole of which is a step of its own: that
        # would read all libraries once more.
        [go, 'test', '-vet', 'off', '-count', '1', '-json', './...'],
        cwd=SIMULATOR, env={**os.environ, **GO_COMPILER}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    counts = Counts()
    for line in result.stdout.splitlines(keepends=True):
        try:
            event = json.loads(line)
        except ValueError:
            counts.output += line
            continue
        action, named = event.get('Action'), 'Test' in event
        if action == 'build-output' or action == 'output' and (
                _worth_showing(event['Output'], named)):
            counts.output += event['Output']
        elif named and action == 'pass':
            counts.passed += 1
        elif named and action == 'fail':
            counts.failed += 1
        elif named and action == 'skip':
            counts.skipped += 1
    if result.returncode != 0 and not counts.failed:
        counts.failed += 1
    return counts


def _worth_showing(line: str, of_a_test: bool) -> bool:
    if of_a_test:
        return '--- FAIL' in line or '_test.go:' in line
    return line.startswith('FAIL')


def sample_configuration() -> Counts:
    """Check that the sample in etc/ is current."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = pathlib.Path(folder) / SAMPLE.name
        generated = check(
            BIN / 'oslo-config-generator', '--config-file',
            ROOT / 'etc' / 'config-generator.conf', '--output-file', fresh)
        if generated.failed:
            return generated
        difference = list(difflib.unified_diff(
            SAMPLE.read_text().splitlines() if SAMPLE.exists() else [],
            fresh.read_text().splitlines(),
            str(SAMPLE.relative_to(ROOT)), 'the options', lineterm=''))
    if not difference:
        return Counts(passed=1)
    return Counts(failed=1, output='\n'.join([
        *difference,
        'The sample is stale: run `make genconfig` and commit it.']))


def documentation() -> Counts:
    """Build the documentation; a warning is an error."""
    with tempfile.TemporaryDirectory(prefix='docs-') as folder:
        return check(BIN / 'python', '-m', 'sphinx', '-q', '-W',
                     '--keep-going', '-b', 'html', 'docs', folder)


def stestr() -> Counts:
    """Run the Python tests, and count them from stestr's record."""
    seed_durations()
    before = _recorded_runs()
    path = os.pathsep.join(filter(None, [
        str(STARTUP), os.environ.get('PYTHONPATH')]))
    process = subprocess.Popen(
        [str(BIN / 'stestr'), 'run', '--concurrency', str(STESTR_WORKERS)],
        cwd=ROOT, start_new_session=True,
        env={**os.environ, **SIMULATORS, 'PYTHONPATH': path})
    try:
        status = process.wait(STESTR_LIMIT_SECONDS)
    except BaseException as error:
        # This kills the workers as well: they are in its session.
        os.killpg(process.pid, signal.SIGKILL)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return Counts(failed=1, output=(
            f'The tests did not end within {STESTR_LIMIT_SECONDS} s, and '
            'were killed. One that started and did not end hangs.'))
    if _recorded_runs() == before:
        return Counts(failed=1, output='stestr recorded no run: see above')
    tests = _last_run()
    counts = _count(tests)
    remember_durations(tests)
    if status != 0 and not counts.failed:
        counts.failed += 1
    if not counts.passed:
        counts.failed += 1
        counts.output = 'No test passed.'
    return counts


def seed_durations() -> None:
    """Give stestr the durations of long classes, if it has no record yet.

    It distributes the tests among its workers by their last durations.
    """
    if (ROOT / '.stestr').exists() or not DURATIONS.exists():
        return
    subprocess.run([str(BIN / 'stestr'), 'init'], cwd=ROOT, check=True)
    with dbm.dumb.open(str(ROOT / '.stestr' / 'times.dbm'), 'c') as times:
        for test, seconds in json.loads(DURATIONS.read_text()).items():
            times[test] = str(seconds)


def remember_durations(tests: list[Any]) -> None:
    """Correct stestr's durations, by which it distributes the next run.

    It knows nothing of the set-up of classes, which is most of what some take.
    """
    with dbm.dumb.open(str(ROOT / '.stestr' / 'times.dbm'), 'c') as times:
        for test in tests:
            times[test['id']] = '0'
        for name, seconds in _durations(tests).items():
            times[name] = str(seconds)


def record_durations() -> None:
    """Record how long the last run's classes took, set-up included."""
    DURATIONS.write_text(json.dumps(
        {name: round(took) for name, took in _durations(_last_run()).items()
         if took >= WORTH_RECORDING_SECONDS}, indent=1) + '\n')


def _durations(tests: list[Any]) -> dict[str, float]:
    """How many seconds each class took, set-up included.

    A class has the name of one of its tests, because stestr does not know
    classes.
    """
    by_worker = collections.defaultdict(list)
    for test in tests:
        if None not in test['timestamps']:
            by_worker[frozenset(test['tags'])].append(
                (*test['timestamps'], test['id']))
    names: dict[str, str] = {}
    seconds: dict[str, float] = collections.defaultdict(float)
    for done in by_worker.values():
        before = None
        for started, ended, name in sorted(done):
            of_class = name.rpartition('.')[0]
            names.setdefault(of_class, name)
            seconds[of_class] += (
                ended - min(before or started, started)).total_seconds()
            before = ended
    return {names[each]: took for each, took in sorted(seconds.items())}


def _recorded_runs() -> str:
    try:
        return (ROOT / '.stestr' / 'next-stream').read_text()
    except FileNotFoundError:
        return ''


def _count(tests: list[Any]) -> Counts:
    counts = Counts()
    for test in tests:
        if test['status'] in ('success', 'xfail'):
            counts.passed += 1
        elif test['status'] == 'skip':
            counts.skipped += 1
        elif test['status'] != 'exists':
            # Also 'inprogress' (its worker died) and 'uxsuccess'.
            counts.failed += 1
    return counts


def _last_run() -> list[Any]:
    """The tests of the last run, from stestr's record."""
    import subunit
    import testtools

    stream = subprocess.run(
        [str(BIN / 'stestr'), 'last', '--subunit'], cwd=ROOT,
        capture_output=True).stdout
    found: list[Any] = []
    result = testtools.StreamToDict(found.append)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(
        io.BytesIO(stream), non_subunit_name='stdout').run(result)
    result.stopTestRun()
    return found


@contextlib.contextmanager
def temporary_files() -> Iterator[None]:
    """Put the tests' temporary files in memory, if enough is free.

    Simulated datastores and databases are many small files: on a disk they
    cost several times the processor time. If the caller has set TMPDIR, that
    is used.
    """
    if ('TMPDIR' in os.environ or not os.access(MEMORY, os.W_OK)
            or shutil.disk_usage(MEMORY).free < ENOUGH_MEMORY_BYTES):
        yield
        return
    with tempfile.TemporaryDirectory(prefix='test-', dir=MEMORY,
                                     ignore_cleanup_errors=True) as folder:
        os.environ['TMPDIR'] = folder
        try:
            yield
        finally:
            del os.environ['TMPDIR']


def checks(go: str | None) -> list[Step]:
    """The checks of the sources."""
    chosen = [
        Step('flake8 and hacking', lambda: check(BIN / 'flake8')),
        Step('mypy', lambda: check(BIN / 'mypy')),
        Step('sample configuration', sample_configuration),
        Step('release notes', lambda: check(BIN / 'reno', '-q', 'lint')),
        Step('documentation', documentation),
    ]
    if go is not None:
        chosen += [
            Step('gofmt', lambda: gofmt(go)),
            Step('go vet', lambda: check(go, 'vet', './...', cwd=SIMULATOR,
                                         **GO_COMPILER)),
        ]
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--go', help='the Go for the checks and tests of '
                        'simulator/; without it they are not run')
    parser.add_argument('--checks-only', action='store_true',
                        help='run only the checks of the sources, no tests')
    parser.add_argument('--record-durations', action='store_true',
                        help='run nothing; record the durations of the last '
                        'run, for machines that have no record')
    arguments = parser.parse_args()
    if arguments.record_durations:
        record_durations()
        return 0
    # On SIGTERM, end the processes that it has started as well.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    # The virtualenv's tools must find each other.
    os.environ['PATH'] = f'{BIN}{os.pathsep}{os.environ["PATH"]}'
    with temporary_files():
        return run(arguments.go, arguments.checks_only)


def run(go: str | None, checks_only: bool) -> int:
    """Run everything, and show the results.

    :returns: the exit status
    """
    steps = checks(go)
    if not checks_only and go is not None:
        steps.append(Step('go test', lambda: go_test(go)))
    # One after the other, while the Python tests use the other processors.
    beside = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    done = [beside.submit(step) for step in steps]
    if not checks_only:
        print('== stestr', flush=True)
        steps.append(Step('stestr', stestr)())
    for future in done:
        future.result().show()
    if not checks_only and steps[-1].counts.output:
        print(steps[-1].counts.output)

    total = Counts()
    print('== summary')
    for step in steps:
        total.add(step.counts)
        print(step.line())
    print(total)
    return 1 if total.failed else 0


if __name__ == '__main__':
    sys.exit(main())
