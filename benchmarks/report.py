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
    """Write ``NAME.md``, ``NAME.json`` and, of a full run, ``NAME.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    data, table = folder / f'{name}.json', folder / f'{name}.md'
    data.write_text(json.dumps(results, indent=1) + '\n')
    table.write_text(markdown(results, whole=name == 'full'))
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


def markdown(results: list[measuring.Result], whole: bool = False) -> str:
    """One table for each inventory and condition.

    :param whole: whether it was a full run; its page begins with the targets
    """
    parts = ['# Upstream\'s driver and ours, in the same run\n', _LEGEND]
    if whole:
        parts += ['\n## Targets\n', _of_targets(targets.rows(results))]
    for condition in _distinct(_condition(each) for each in results):
        here = [each for each in results if _condition(each) == condition]
        parts.append(f'\n## {_title(condition)}\n')
        parts.append(_table(here))
    return '\n'.join(parts)


_LEGEND = '''
An inventory is *datastores* x *hosts* x *virtual machines*; every host mounts
every datastore. The simulated vCenter counts calls and bytes; `+n` is the
number of replies to the long poll in that time, which need no round trip of
their own. CPU is that of the driver's process, without Cinder's database:
volume types are read from memory, and Cinder's writes are not included. Counts
can be compared between machines, times only within one table. Some figures of
ours are medians of several repetitions; upstream's are single measurements,
because each takes seconds.
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
    if 'cpu_ms' in result:
        return f'{result["cpu_ms"]:.2f} ms CPU'
    if 'bytes_held' in result:
        return f'{result["bytes_held"] / 1e6:.1f} MB'
    return f'{result["longest_ms"]:.1f} ms'


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def plot(results: list[measuring.Result], path: pathlib.Path) -> None:
    """Plot CPU, bytes and time of frequent operations by inventory size."""
    # Only `make bench` needs it (benchmarks/requirements.txt).
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    shown = ('stats', 'select', 'create', 'delete')
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.5))
    for axis, key, label in zip(
            axes, ('cpu_ms', 'bytes', 'wall_ms'),
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
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
