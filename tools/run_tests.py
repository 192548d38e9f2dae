# SPDX-License-Identifier: Apache-2.0
"""Run every check and every test, show each as it goes, and end with what
passed and what did not.

The last line counts the checks, the Go tests and the Python tests alike; the
exit status is that of the whole.
"""

import argparse
import dataclasses
import difflib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(sys.executable).parent
SAMPLE = ROOT / 'etc' / 'cinder_vmdk_ext.conf.sample'
STESTR_WORKERS = 2
# A test that hangs shall not hang all that waits for it.
STESTR_LIMIT_SECONDS = 30 * 60


@dataclasses.dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: 'Counts') -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return (
            f'{self.passed} passed, {self.failed} failed, '
            f'{self.skipped} skipped'
        )


def check(*command: str | pathlib.Path, cwd: pathlib.Path = ROOT) -> Counts:
    """One command that is right when it exits with 0."""
    status = subprocess.run(
        [str(word) for word in command], cwd=cwd
    ).returncode
    return Counts(passed=1) if status == 0 else Counts(failed=1)


def gofmt(go: str) -> Counts:
    """gofmt names the files it would change, and exits with 0 all the same."""
    beside = pathlib.Path(go).resolve().parent / 'gofmt'
    root = subprocess.run(
        [go, 'env', 'GOROOT'], capture_output=True, text=True, check=True
    ).stdout.strip()
    command = (
        beside if beside.exists() else pathlib.Path(root) / 'bin' / 'gofmt'
    )
    result = subprocess.run(
        [str(command), '-l', '.'],
        cwd=ROOT / 'simulator',
        capture_output=True,
        text=True,
    )
    if result.returncode == 0 and not result.stdout:
        return Counts(passed=1)
    print(f'gofmt would change:\n{result.stdout}{result.stderr}')
    return Counts(failed=1)


def go_test(go: str) -> Counts:
    """Go's own tests; a package that does not compile counts as one failure.
    """
    counts = Counts()
    process = subprocess.Popen(
        [go, 'test', '-json', './...'],
        cwd=ROOT / 'simulator',
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            print(line, end='')
            continue
        action, named = event.get('Action'), 'Test' in event
        if action == 'output' and _worth_showing(event['Output'], named):
            print(event['Output'], end='')
        elif action == 'build-output':
            print(event['Output'], end='')
        elif named and action == 'pass':
            counts.passed += 1
        elif named and action == 'fail':
            counts.failed += 1
        elif named and action == 'skip':
            counts.skipped += 1
    if process.wait() != 0 and not counts.failed:
        counts.failed += 1
    return counts


def _worth_showing(line: str, of_a_test: bool) -> bool:
    if of_a_test:
        return '--- FAIL' in line or '_test.go:' in line
    return '[no test files]' not in line


def stestr() -> Counts:
    """The Python tests; the figures are read from stestr's own record of this
    run.
    """
    before = _recorded_runs()
    process = subprocess.Popen(
        [str(BIN / 'stestr'), 'run', '--concurrency', str(STESTR_WORKERS)],
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        status = process.wait(STESTR_LIMIT_SECONDS)
    except BaseException as error:
        # The workers too: they are in the session that it leads.
        os.killpg(process.pid, signal.SIGKILL)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        print(
            f'The tests did not end within {STESTR_LIMIT_SECONDS} s, '
            'and were killed. One that started and did not end hangs.'
        )
        return Counts(failed=1)
    if _recorded_runs() == before:
        print('stestr recorded no run: see above')
        return Counts(failed=1)
    counts = _count(
        subprocess.run(
            [str(BIN / 'stestr'), 'last', '--subunit'],
            cwd=ROOT,
            capture_output=True,
        ).stdout
    )
    if status != 0 and not counts.failed:
        counts.failed += 1
    if not counts.passed:
        print('stestr ran no test that passed')
        counts.failed += 1
    return counts


def _recorded_runs() -> str:
    try:
        return (ROOT / '.stestr' / 'next-stream').read_text()
    except FileNotFoundError:
        return ''


def _count(subunit_stream: bytes) -> Counts:
    import subunit
    import testtools

    counts = Counts()

    def one(test: Any) -> None:
        if test['status'] in ('success', 'xfail'):
            counts.passed += 1
        elif test['status'] == 'skip':
            counts.skipped += 1
        elif test['status'] != 'exists':
            # Also 'inprogress' (its worker died) and 'uxsuccess'.
            counts.failed += 1

    result = testtools.StreamToDict(one)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(
        io.BytesIO(subunit_stream), non_subunit_name='stdout'
    ).run(result)
    result.stopTestRun()
    return counts


def sample_configuration() -> Counts:
    """The sample in etc/ says what the options say."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = pathlib.Path(folder) / SAMPLE.name
        generated = check(
            BIN / 'oslo-config-generator',
            '--config-file',
            ROOT / 'etc' / 'config-generator.conf',
            '--output-file',
            fresh,
        )
        if generated.failed:
            return generated
        difference = list(
            difflib.unified_diff(
                SAMPLE.read_text().splitlines() if SAMPLE.exists() else [],
                fresh.read_text().splitlines(),
                str(SAMPLE.relative_to(ROOT)),
                'the options',
                lineterm='',
            )
        )
    if not difference:
        return Counts(passed=1)
    print('\n'.join(difference))
    print('The sample is stale: run `make genconfig` and commit it.')
    return Counts(failed=1)


def steps(
    go: str | None, checks_only: bool
) -> list[tuple[str, Callable[[], Counts]]]:
    chosen: list[tuple[str, Callable[[], Counts]]] = [
        ('flake8 and hacking', lambda: check(BIN / 'flake8')),
        ('mypy', lambda: check(BIN / 'mypy')),
        ('sample configuration', sample_configuration),
        ('release notes', lambda: check(BIN / 'reno', '-q', 'lint')),
    ]
    if go is not None:
        simulator = ROOT / 'simulator'
        chosen += [
            ('gofmt', lambda: gofmt(go)),
            ('go vet', lambda: check(go, 'vet', './...', cwd=simulator)),
        ]
    if not checks_only:
        if go is not None:
            chosen.append(('go test', lambda: go_test(go)))
        chosen.append(('stestr', stestr))
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--go',
        help='the Go to check and test simulator/ with; else that is left out',
    )
    parser.add_argument(
        '--checks-only',
        action='store_true',
        help='no tests, only what reads the sources',
    )
    arguments = parser.parse_args()

    # When it is told to end, what it started ends too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))

    # Every tool of the virtualenv is to be found by those that call each other
    # by name.
    os.environ['PATH'] = f'{BIN}{os.pathsep}{os.environ["PATH"]}'
    total, lines = Counts(), []
    for name, run in steps(arguments.go, arguments.checks_only):
        print(f'== {name}', flush=True)
        started = time.monotonic()
        counts = run()
        sys.stdout.flush()
        total.add(counts)
        lines.append(
            f'  {name:<22} {"FAILED" if counts.failed else "ok":<7} '
            f'{counts}, {time.monotonic() - started:.0f} s'
        )
    print('== summary')
    print('\n'.join(lines))
    print(total)
    return 1 if total.failed else 0


if __name__ == '__main__':
    sys.exit(main())
