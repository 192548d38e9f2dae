# SPDX-License-Identifier: Apache-2.0
"""Runs operations under churn, and checks the books (``make churn-run``)."""

import argparse
import contextlib
import datetime
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from pyVmomi import vim
from pyVmomi import vmodl

from benchmarks import measuring
from simulator import client
from simulator import control

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'churn-run.md'
SIZES = {str(each): each for each in (
    measuring.SMALL, measuring.MEDIUM, measuring.LARGE, measuring.HUGE,
    measuring.LARGEST)}
# Changes a second by others.
RATES = {'machines': 20, 'datastores': 2}
# What memory may grow by after the first fifth of the run.
MOST_GROWTH_BYTES = 20e6


def main() -> int:
    parser = argparse.ArgumentParser(prog='make churn-run')
    parser.add_argument('--minutes', type=int, default=60)
    parser.add_argument('--size', choices=SIZES, default=str(measuring.LARGE))
    parser.add_argument('--into', type=pathlib.Path, default=PAGE)
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    with measuring.vcenter(size) as started:
        results = measuring.Site(size, started).compare(
            ('endure',), drivers=('ours',), runtime='eventlet',
            minutes=arguments.minutes, churn=[RATES],
            timeout_seconds=arguments.minutes * 60 + 1200)
        for each in results:
            print(each, flush=True)
        checks = list(_checks(results, started, arguments.minutes))
    arguments.into.write_text(page(arguments.size, arguments.minutes,
                                   results, checks))
    print(f'wrote {os.path.relpath(arguments.into)}')
    return 0 if all(good for _check, _found, good in checks) else 1


Check = tuple[str, str, bool]


def _checks(results: list[dict[str, Any]], vcenter: client.Simulator,
            minutes: int) -> Iterator[Check]:
    """Yield what has to hold at the end, what was found, and whether."""
    rows = _minutes(results)
    yield 'minutes', f'{len(rows)} of {minutes}', len(rows) == minutes
    books = next((each for each in results if each['operation'] == 'books'),
                 None)
    if books is None:
        yield 'the books', 'the run ended early', False
        return
    yield ('operations that failed', str(rows[-1]['failures'])
           + ''.join(f'; {each}' for each in books['failures'][:3]),
           not rows[-1]['failures'])
    found, wanted = _shadow_vms(vcenter), set(books['volumes'])
    yield ("volumes' VMs", f'{len(found)} in the vCenter, {len(wanted)} '
           f'volumes, {len(found ^ wanted)} differ', found == wanted)
    yield ('claims of space after all figures were refreshed',
           f'{sum(books["claims"].values())} bytes', not books['claims'])
    yield _space(vcenter)
    yield _growth(rows)


def _minutes(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in results if each['operation'] == 'minute']


def _shadow_vms(vcenter: client.Simulator) -> set[str]:
    """Instance UUIDs of the VMs that have names of volumes."""
    content = vcenter.connect().content
    view = content.viewManager.CreateContainerView(
        content.rootFolder, [vim.VirtualMachine], True)
    collector = vmodl.query.PropertyCollector
    found = content.propertyCollector.RetrieveContents([collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=view, skip=True, selectSet=[
            collector.TraversalSpec(type=vim.view.ContainerView, path='view',
                                    skip=False)])],
        propSet=[collector.PropertySpec(
            type=vim.VirtualMachine,
            pathSet=['name', 'config.instanceUuid'])])])
    seen = [{each.name: each.val for each in one.propSet} for one in found]
    return {each['config.instanceUuid'] for each in seen
            if each['name'].startswith('volume-')}


def _space(vcenter: client.Simulator) -> Check:
    what = "the simulated vCenter's figures and its files"
    try:
        control.Control(vcenter.control_url).call('GET', '/space')
    except control.ControlError as error:
        return what, str(error)[:300], False
    return what, 'agree', True


def _growth(rows: list[dict[str, Any]]) -> Check:
    """Compare memory after the first fifth with that at the end."""
    if not rows:
        return 'memory', 'not measured', False
    early = rows[len(rows) // 5]['resident_bytes']
    late = rows[-1]['resident_bytes']
    return ('memory after a fifth of the run, and at the end',
            f'{early / 1e6:.1f} MB, {late / 1e6:.1f} MB',
            late - early <= MOST_GROWTH_BYTES)


def page(size: str, minutes: int, results: list[dict[str, Any]],
         checks: list[Check]) -> str:
    """The page about a run."""
    rates = ' and '.join(f'{rate} {kind}' for kind, rate in RATES.items())
    lines = [
        '# Operations under churn\n',
        f'`make churn-run`, {minutes} minutes on '
        f'{datetime.date.today():%Y-%m-%d}, at {size}: four greenthreads '
        'create, extend, clone, snapshot and delete volumes, one reports '
        f'every five seconds, and another process changes {rates} a second. '
        'CPU times are those of the thread that all greenthreads share.\n',
        '## At the end\n', '| check | found | good |', '| --- | --- | --- |']
    lines += [f'| {check} | {found} | {"yes" if good else "**no**"} |'
              for check, found, good in checks]
    lines += ['\n## Minute by minute\n',
              '| minute | operations | volumes | memory, MB | longest wait of '
              'a greenthread, ms | longest report, with what ran '
              'meanwhile, ms |',
              '| --- | --- | --- | --- | --- | --- |']
    rows = _minutes(results)
    step = max(1, len(rows) // 20)
    for first in range(0, len(rows), step):
        part = rows[first:first + step]
        last = part[-1]
        lines.append(
            f'| {last["minute"]} | {sum(last["done"].values())} '
            f'| {last["volumes"]} | {last["resident_bytes"] / 1e6:.1f} '
            f'| {max(each["longest_wait_ms"] for each in part):.1f} '
            f'| {max(each["longest_report_ms"] for each in part):.1f} |')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
