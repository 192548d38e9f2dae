# SPDX-License-Identifier: Apache-2.0
"""Writes results as a table (Markdown), data (JSON) and a plot (PNG)."""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

from benchmarks import measuring
from benchmarks import targets

_HEADER = ('operation', 'upstream: calls', 'KB', 'CPU ms', 'ms',
           'ours: calls', 'KB', 'CPU ms', 'ms')


def write(results: list[measuring.Result], folder: pathlib.Path,
          name: str) -> list[pathlib.Path]:
    """Write ``NAME.md``, ``NAME.json`` and, of a full run, ``NAME.png``.

    Of a run at the largest size, the page has the targets that it measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, table = folder / f'{name}.json', folder / f'{name}.md'
    data.write_text(json.dumps(results, indent=1) + '\n')
    table.write_text(markdown(results, whole=name == 'full',
                              targeted=name != 'quick'))
    written = [data, table]
    if name == 'full':
        picture = folder / f'{name}.png'
        plot(results, picture)
        written.append(picture)
    return written


def line(result: measuring.Result) -> str:
    """A result as one line of the terminal."""
    figures = ', '.join(_figures(result))
    return (f'{result["driver"]:9}{_title(_condition(result)):50}'
            f'{result["operation"]:32}{figures}')


def markdown(results: list[measuring.Result], whole: bool = False,
             targeted: bool = False) -> str:
    """One table for each inventory and condition.

    :param whole: whether it was a full run; its page begins with all targets
    :param targeted: whether to begin with the targets that were measured
    """
    parts = ['# Upstream\'s driver and ours, in the same run\n', _LEGEND]
    rows = [row for row in targets.rows(results)
            if whole or targeted and row.reached is not None]
    if rows or whole:
        parts += ['\n## Targets\n', _of_targets(rows)]
    load = _load(results)
    if load:
        parts += ['\n## The load on the vCenter\n', _LOAD_LEGEND, load]
    if any(each['operation'].startswith('start: ') for each in results):
        parts.append(_START_LEGEND)
    for condition in _distinct(_condition(each) for each in results):
        here = [each for each in results if _condition(each) == condition]
        parts.append(f'\n## {_title(condition)}\n')
        parts.append(_table(here))
    return '\n'.join(parts)


_LEGEND = '''
An inventory is *datastores* x *hosts* x *virtual machines*; every host mounts
every datastore, except at 1500x2496x45000, where one cluster mounts each.
Operations whose names begin with "memory" are measured without a vCenter. The
simulated vCenter counts calls and bytes; `+n` is the number of replies to the
long poll in that time, which need no round trip of their own. CPU is that of
the driver's process, without Cinder's database: volume types are read from
memory, and Cinder's writes are not included. Counts can be compared between
machines, times only within one table. Some figures of ours are medians of
several repetitions; upstream's are single measurements, because each takes
seconds.
'''


_START_LEGEND = '''
A start calls what Cinder's manager calls in `init_host`, over a database that
has all volumes, and then makes the first report. CPU is that of the driver's
process, with its queries. What Cinder does for any driver, to load the
records, is not in the sum and has a row of its own. The longest wait is that
of another thread, native or green, for its turn: in CPU of the process, which
other programs do not lengthen, and in time. Python's garbage collection is
part of it and is also given alone, its longest run. Memory is that of the
process since before the start, without that of Cinder's records.
'''


def _of_targets(rows: list[targets.Row]) -> str:
    words = {True: 'yes', False: '**no**', None: '-'}
    lines = [targets.Row._fields, ('---',) * len(targets.Row._fields)]
    lines += [(*row[:-1], words[row.reached]) for row in rows]
    return _markdown_of(lines) + _NOT_MEASURED


_NOT_MEASURED = '''
[Profiles](profiles.md) explains the targets that were not reached. A test
checks that no thread gets another's reply: with `VMDK_EXT_TEST_CALLS=10000`,
`test_sessions` makes 10,000 calls from 50 native threads.
'''


_LOAD_LEGEND = '''
An hour is that of a service which only reports, once a minute: what the driver
asks by itself, and 60 reports. Changes are those of VMs and datastores by
others. The driver's calls of an operation are in the tables below.

'''


def _load(results: list[measuring.Result]) -> str:
    """A row for each driver and size that was measured idle."""
    lines: list[tuple[str, ...]] = [
        ('size', 'driver', 'sessions', 'watched', 'calls an hour',
         'KB an hour', '1,000 changes: calls', 'KB'), ('---',) * 8]
    for idle in results:
        if idle['operation'] != 'load: idle' or idle.get('error'):
            continue
        here = [each for each in results if all(
            each[key] == idle[key] for key in ('size', 'driver', 'delay_ms',
                                               'runtime'))]
        stats = next((each for each in here if each['operation'] == 'stats'
                      and not each.get('error')), {})
        watched = ', '.join(f'{count} {name}' for name, count
                            in idle['watching'].items() if count)
        kilobytes = (idle['bytes_an_hour'] + 60 * stats.get('bytes', 0)) / 1e3
        lines.append((
            idle['size'], idle['driver'], str(idle['sessions']),
            watched or 'nothing',
            f'{idle["calls_an_hour"] + 60 * stats.get("calls", 0):,.0f}',
            f'{kilobytes:,.0f}',
            *_of_changes(idle['driver'], here)))
    return _markdown_of(lines) if len(lines) > 2 else ''


def _of_changes(driver: str,
                results: list[measuring.Result]) -> tuple[str, str]:
    if driver == 'upstream':
        return '0', '0'  # it does not watch the vCenter
    found = [(each['calls_of_1000'], each['bytes_of_1000'])
             for each in results if 'calls_of_1000' in each]
    return (f'{found[0][0]:,.0f}', f'{found[0][1] / 1e3:,.0f}'
            ) if found else ('-', '-')


def _condition(result: measuring.Result) -> tuple[Any, ...]:
    return tuple(result[key] for key in ('size', 'delay_ms', 'task_ms',
                                         'runtime'))


def _title(condition: tuple[Any, ...]) -> str:
    size, delay_ms, task_ms, runtime = condition
    title = f'{size}, {delay_ms} ms a call'
    if task_ms:
        title += f', tasks of {task_ms} ms'
    return title + (f', {runtime}' if runtime != 'native' else '')


def _table(results: list[measuring.Result]) -> str:
    by_name: dict[str, dict[str, measuring.Result]] = {}
    for each in results:
        by_name.setdefault(each['operation'], {}).setdefault(each['driver'],
                                                             each)
    rows = [_HEADER, ('---',) * len(_HEADER)]
    rows += [(name, *_figures(found.get('upstream')),
              *_figures(found.get('ours')))
             for name, found in by_name.items()]
    return _markdown_of(rows)


def _markdown_of(rows: Iterable[tuple[str, ...]]) -> str:
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows) + '\n'


def _figures(result: measuring.Result | None) -> tuple[str, ...]:
    if result is None:
        return ('-',) * 4
    if result.get('error'):
        return (f'failed: {result["error"].partition(":")[0]}', *('-',) * 3)
    if 'calls' not in result:
        return ('', '', '', _single_figure(result))
    calls = f'{result["calls"]:g}'
    if result['notices']:
        calls += f'+{result["notices"]}'
    wall = f'{result["wall_ms"]:.0f}'
    if 'count' in result:
        done = result['count'] - len(result['failures'])
        rate = done / result['wall_ms'] * 1000
        wall += f' ({done} of {result["count"]}: {rate:.2f}/s)'
    return (calls, f'{result["bytes"] / 1000:.1f}',
            f'{result["cpu_ms"]:.2f}', wall)


def _single_figure(result: measuring.Result) -> str:
    if 'cpu_ms' in result and 'longest_ms' in result:
        return (f'{result["cpu_ms"]:.0f} ms CPU, {result["wall_ms"]:.0f} ms; '
                f'longest wait {result["longest_ms"]:.1f} ms CPU, '
                f'{result["longest_wall_ms"]:.1f} ms; '
                f'garbage collection {result["collector_ms"]:.1f}')
    if 'cpu_ms' in result:
        return f'{result["cpu_ms"]:.2f} ms CPU'
    if 'bytes_held' in result:
        return f'{result["bytes_held"] / 1e6:.1f} MB'
    if 'sessions' in result:
        return f'{result["sessions"]} sessions'
    if 'most' in result:
        return f'{result["most"]} on one of {result["datastores"]}'
    return f'{result["longest_ms"]:.1f} ms'


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _plot_churn(results: list[measuring.Result], axis: Any) -> None:
    """CPU of a report, a create and a change, by changes per second."""
    for number, what in enumerate(('report, median', 'create',
                                   'a change in the background')):
        points = sorted(
            (int(each['operation'].split()[1]), each['cpu_ms'])
            for each in results if each['size'] == str(measuring.LARGE)
            and each['operation'].startswith('busy, ')
            and ' machines ' in each['operation']
            and each['operation'].endswith(f': {what}'))
        if points:
            axis.plot(*zip(*points, strict=True), marker='o',
                      color=f'C{number}', label=f'{what}, ours')
    axis.set(yscale='log', ylabel='CPU of the driver, ms',
             xlabel=f'changes of VMs a second, {measuring.LARGE}')
    axis.grid(True, alpha=0.3)


def plot(results: list[measuring.Result], path: pathlib.Path) -> None:
    """Plot CPU, bytes and time of frequent operations by inventory size."""
    # Only `make bench` needs it (benchmarks/requirements.txt).
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    shown = ('stats', 'select', 'create', 'delete')
    figure, axes = pyplot.subplots(1, 4, figsize=(20, 4.5))
    _plot_churn(results, axes[3])
    for axis, key, label in zip(
            axes[:3], ('cpu_ms', 'bytes', 'wall_ms'),
            ('CPU of the driver, ms', 'bytes', 'time, ms'), strict=True):
        for driver, style in (('upstream', '--'), ('ours', '-')):
            for number, operation in enumerate(shown):
                points = [
                    (int(each['size'].partition('x')[0]), each[key])
                    for each in results if each['driver'] == driver
                    and each['operation'] == operation
                    and not each['delay_ms'] and not each.get('error')]
                axis.plot(*zip(*points, strict=True), style, marker='o',
                          color=f'C{number}', label=f'{operation}, {driver}')
        axis.set(xscale='log', yscale='symlog', xlabel='datastores',
                 ylabel=label)
        axis.grid(True, alpha=0.3)
    axes[0].legend(fontsize='small')
    axes[3].legend(fontsize='small')
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
