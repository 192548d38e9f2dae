# SPDX-License-Identifier: Apache-2.0
"""Runs operations on three cinder-volume services that are killed in turn.

    python -m sandbox.tests.cluster_run [--operations 300]

It uses a sandbox's real Cinder, on RabbitMQ, MariaDB and Redis. Several
clients create, snapshot, clone, extend, retype, migrate, attach and delete
volumes through the API. Meanwhile the volume services are killed and started
in turn, and the vCenter restarts twice. Afterwards the run handles stuck
objects as an operator would. Then the audit must find nothing, and pyVmomi
must find each disk at its place in Cinder's database, with the bytes that were
written to it. The run prints its results, and fails if this is not so. A full
run is written to docs/cluster-run.md.
"""

import argparse
import collections
import dataclasses
from importlib import metadata
import sys
import time
from typing import Any

from sandbox import cluster
from sandbox import configuration
from sandbox.tests.cluster import aftermath
from sandbox.tests.cluster import chaos
from sandbox.tests.cluster import commands
from sandbox.tests.cluster import ledger
from sandbox.tests.cluster import load
from sandbox.tests.cluster import truth
from simulator import control as control_endpoint

SIMULATOR = ('-supervise', '-ds', '4', '-ds-capacity', '200GiB',
             '-ds-mount-all', '-vm', '2', '-standalone-host', '0')
# A lock in Redis outlives its holder by half a minute (tooz).
LOCK_SECONDS = 40

PAGE = configuration.REPOSITORY / 'docs' / 'cluster-run.md'
_HEADING = '## The last run'


@dataclasses.dataclass
class Settings:
    """The amount of load, and the waits."""

    operations: int = 300
    clients: int = 8
    kills: int = 20
    restarts: int = 2
    patience_seconds: float = 75.0
    #: duration of each task of the vCenter, so that kills interrupt some
    task_milliseconds: int = 700
    #: Sessions of killed services end within this time; those of living ones
    #: have a call in progress all the time.
    session_seconds: int = 60
    #: the operator begins after nothing has changed for this time
    quiet_seconds: float = 35.0
    #: whether to delete all at the end, and to check once more
    delete: bool = True
    seed: int = 1
    runtime: str = 'threads'
    size: int = 3


@dataclasses.dataclass
class Report:
    """The results of a run, and what is wrong after it."""

    settings: Settings
    outcomes: collections.Counter[tuple[str, str]] = dataclasses.field(
        default_factory=collections.Counter)
    words: list[str] = dataclasses.field(default_factory=list)
    actions: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter)
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    wrong: list[str] = dataclasses.field(default_factory=list)

    def lines(self):
        """The report, as Markdown."""
        outcomes = (ledger.DONE, ledger.FAILED, ledger.STUCK)
        names = sorted({name for name, _ in self.outcomes})
        yield '| operation | ' + ' | '.join(outcomes) + ' |'
        yield '|---|' + '---:|' * len(outcomes)
        for name in names:
            yield '| {} | {} |'.format(name.replace('_', ' '), ' | '.join(
                str(self.outcomes[name, one]) for one in outcomes))
        yield '| **all** | {} |'.format(' | '.join(
            str(sum(self.outcomes[name, one] for name in names))
            for one in outcomes))
        yield ''
        yield from _table('what the operator did', self.actions)
        yield ''
        yield from _table('figure', self.figures)


def record(report, page=PAGE):
    """Write the results of a run at the end of a page."""
    settings = report.settings
    before = page.read_text().partition(_HEADING)[0]
    page.write_text('\n'.join([
        before + _HEADING, '',
        '%d cinder-volume services on Cinder %s (%s), %d clients:' % (
            settings.size, metadata.version('cinder'), settings.runtime,
            settings.clients), '', *report.lines(), '',
        'An operation has "failed" if Cinder set such a status, or left the '
        'volume as it was;', 'it is "stuck" if it had neither succeeded nor '
        'failed after %d seconds.' % settings.patience_seconds, '']))


def _table(heading, values):
    yield f'| {heading} | |'
    yield '|---|---:|'
    for name, value in sorted(values.items()):
        yield f'| {name} | {value} |'


def started(settings, folder, progress):
    """The cluster for a run, as a context manager."""
    return cluster.Cluster(
        folder, size=settings.size, runtime=settings.runtime,
        # The default; an interactive sandbox repeats fewer times.
        options={'vmware_api_retry_count': 10},
        simulator_arguments=[
            *SIMULATOR, '-task-delay', str(settings.task_milliseconds),
            '-session-timeout', '%ds' % settings.session_seconds],
        progress=progress)


class Run:
    """One run on a cluster that is up and has no volumes."""

    def __init__(self, settings, cloud, progress):
        self._cloud = cloud
        self._settings = settings
        self._progress = progress
        self._control = control_endpoint.Control(cloud.vcenter.control_url)
        self._book = ledger.Ledger(settings.operations)
        self._report = Report(settings)

    def whole(self):
        """Run the load and the kills, then the operator, then the checks.

        :returns: a `Report`; nothing is wrong if its `wrong` is empty
        """
        sessions = len(self._control.sessions())
        began = time.monotonic()
        self._load()
        self._report.figures['seconds under load'] = round(
            time.monotonic() - began)
        self._report.outcomes = self._book.outcomes
        self._report.words = self._book.words
        self._progress('operations: %d done, %d failed, %d stuck' % tuple(
            map(self._book.count,
                (ledger.DONE, ledger.FAILED, ledger.STUCK))))
        operator = aftermath.Operator(self._cloud, self._book,
                                      self._settings.quiet_seconds)
        operator.tidy()
        self._report.actions = operator.actions
        self._progress('the operator did: %s' % dict(operator.actions))
        self._question('after the operator')
        if self._settings.delete:
            self._delete_all()
            self._question('after all was deleted')
        self._ask_for_leaks(sessions)
        return self._report

    def _load(self):
        settings = self._settings
        threads = [load.Client(number, self._cloud, self._control,
                               self._book, settings.patience_seconds,
                               settings.seed)
                   for number in range(settings.clients)]
        trouble = chaos.Chaos(self._cloud, self._control, self._book,
                              settings.kills, settings.restarts,
                              settings.seed)
        for thread in (*threads, trouble):
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(15)
                self._progress('%d operations begun, %d killed, %d restarts'
                               % (self._book.started, trouble.kills,
                                  trouble.restarts))
        trouble.end()
        for thread in threads:
            if thread.error:
                raise thread.error
        self._report.figures.update({
            'cinder-volume killed': trouble.kills,
            'vCenter restarted': trouble.restarts,
            'volumes moved by retype or migrate': self._book.moved})

    def _question(self, when):
        """Check with pyVmomi and the audit."""
        wrong = truth.differences(self._cloud, self._control,
                                  self._book.content)
        found = commands.audit(self._cloud)
        api = self._cloud.cinder
        self._report.figures.update({
            f'volumes {when}': len(api.volumes.list()),
            f'snapshots {when}': len(api.volume_snapshots.list()),
            f'findings of the audit {when}': len(found),
            f'differences by pyVmomi {when}': len(wrong)})
        self._report.wrong += [f'{when}: {each}' for each in wrong + found]
        self._progress('%s: %d volumes, %d findings, %d differences' % (
            when, len(api.volumes.list()), len(found), len(wrong)))

    def _delete_all(self):
        """Delete everything as a user does, and check that nothing is left."""
        api = self._cloud.cinder
        for collection in (api.volume_snapshots, api.volumes):
            there = collection.list()
            for thing in there:
                thing.delete()
            for thing in there:
                status = load.settled(collection, thing.id, 120)
                if status != 'gone':
                    self._report.wrong.append(f'{thing.id} was deleted, and '
                                              f'is {status}')

    def _ask_for_leaks(self, sessions):
        left = truth.sessions(self._control, sessions,
                              self._settings.session_seconds * 2)
        held = truth.locks(self._cloud, LOCK_SECONDS)
        self._report.figures.update({
            'sessions before': sessions, 'sessions at the end': left,
            'locks at the end': len(held)})
        if left > sessions:
            self._report.wrong.append(f'{left} sessions, and not {sessions}')
        if held:
            self._report.wrong.append(f'locks that are held: {held}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in dataclasses.fields(Settings):
        if field.name == 'delete':
            continue
        parser.add_argument('--' + field.name.replace('_', '-'),
                            type=type(field.default), default=field.default)
    settings = Settings(**vars(parser.parse_args()))
    began = time.monotonic()

    def progress(line):
        print('[%6.1f s] %s' % (time.monotonic() - began, line), flush=True)

    # Its logs stay there, until the next run.
    with started(settings, configuration.BUILD / 'cluster-run',
                 progress) as cloud:
        report = Run(settings, cloud, progress).whole()
    if report.settings.operations >= Settings.operations:
        record(report)
    print('\n'.join(report.lines()))
    print('\nNot done at once:\n' + '\n'.join(report.words))
    print('\nWrong:\n' + '\n'.join(report.wrong or ['nothing']))
    sys.exit(1 if report.wrong else 0)


if __name__ == '__main__':
    main()
