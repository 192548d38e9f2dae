# SPDX-License-Identifier: Apache-2.0
"""Compares the results of a run with the targets."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from benchmarks import measuring

Result = dict[str, Any]
_TASK_MS = 500
# Of a create, by the driver: upstream's gives the disk its UUID in another.
_CREATE_TASKS = (2, 1)


class Row(NamedTuple):
    """One target."""

    metric: str
    target: str
    upstream: str
    ours: str
    measured: str
    reached: bool | None  # None: not measured in this run


class _Missing(Exception):
    """The run has no such result."""


class Run:
    """Finds results of one run."""

    def __init__(self, results: list[Result]) -> None:
        self._results = results

    def get(self, driver: str, operation: str, size: measuring.Size,
            delay_ms: int = 0, runtime: str = 'native') -> Result:
        """The first result with these properties.

        :raises _Missing: there is none, or it failed
        """
        for each in self._results:
            if (each['driver'] == driver and each['operation'] == operation
                    and each['size'] == str(size)
                    and each['delay_ms'] == delay_ms
                    and each['runtime'] == runtime
                    and not each.get('error')):
                return each
        raise _Missing

    def both(self, key: str, operation: str, size: measuring.Size,
             delay_ms: int = 0) -> tuple[float, float]:
        """Upstream's figure and ours."""
        upstream, ours = (self.get(driver, operation, size, delay_ms)[key]
                          for driver in measuring.DRIVERS)
        return upstream, ours

    def upstreams(self, operation: str) -> Result | None:
        """Upstream's result of a start; None: there is none."""
        try:
            return self.get('upstream', operation, _START,
                            runtime='eventlet')
        except _Missing:
            return None


def rows(results: list[Result]) -> list[Row]:
    """Every target, with the figures of the results."""
    run = Run(results)
    found = []
    for metric, target, look in _TARGETS:
        try:
            found.append(Row(metric, target, *look(run)))
        except _Missing:
            found.append(Row(metric, target, '', '', 'not measured', None))
    return found


_Found = tuple[str, str, str, bool]
_Look = Callable[[Run], _Found]


def _times(upstream: float, ours: float, wanted: float, unit: str,
           most: float | None = None) -> _Found:
    ratio = upstream / ours if ours > 0 else float('inf')
    return (f'{upstream:,.1f} {unit}', f'{ours:,.2f} {unit}',
            f'{ratio:,.0f} times', ratio >= wanted
            and (most is None or ours <= most))


def _no_calls(run: Run) -> _Found:
    calls = {name: [run.both('calls', name, size) for size in _SIZES]
             for name in ('stats', 'select')}
    most = [max(pair[which] for pairs in calls.values() for pair in pairs)
            for which in (0, 1)]
    return f'{most[0]:g}', f'{most[1]:g}', f'{most[1]:g}', most[1] == 0


def _cpu(operation: str, size: measuring.Size, wanted: float,
         most: float | None = None) -> _Look:
    return lambda run: _times(*run.both('cpu_ms', operation, size), wanted,
                              'ms', most)


def _bytes(run: Run) -> _Found:
    upstream, ours = run.both('bytes', 'create', measuring.LARGE)
    return _times(upstream / 1000, ours / 1000, 600, 'KB')


def _calls_of_create(run: Run) -> _Found:
    upstream, ours = zip(*(run.both('calls', 'create', size)
                           for size in _SIZES), strict=True)
    return (f'{max(upstream):g}', f'{max(ours):g}', f'{max(ours):g} + notices',
            max(ours) <= 5)


def _added(run: Run, driver: str) -> float:
    """Time of a delete without its one task and its two round trips."""
    return run.get(driver, 'delete', measuring.SMALL, 5)[
        'wall_ms'] - _TASK_MS - 2 * 5


def _latency(run: Run) -> _Found:
    upstream, ours = (_added(run, driver) for driver in measuring.DRIVERS)
    # The notice is a further call, which the vCenter delays by 5 ms as well.
    return _times(upstream, ours, 50, 'ms', 20 + 5)


def _overhead(run: Run) -> _Found:
    upstream, ours = (
        sum(run.get(driver, name, measuring.SMALL, 5)['wall_ms']
            - tasks * _TASK_MS for name, tasks in (('create', creates),
                                                   ('delete', 1)))
        for driver, creates in zip(
            measuring.DRIVERS, _CREATE_TASKS, strict=True))
    return _times(upstream, ours, 50, 'ms')


def _made(result: Result) -> int:
    return int(result['count']) - len(result['failures'])


def _rate(result: Result) -> float:
    return float(_made(result) / result['wall_ms'] * 1000)


def _rate_text(result: Result) -> str:
    """The rate as text; if some failed, also how many were made."""
    text = f'{_rate(result):.2f} a second'
    if result['failures']:
        text += f' ({_made(result)} of {result["count"]} were made)'
    return text


def _parallel(size: measuring.Size, wanted: float, runtime: str,
              upstreams: str = 'native') -> _Look:
    def look(run: Run) -> _Found:
        upstream = run.get('upstream', 'parallel creates', size, 5, upstreams)
        ours = run.get('ours', 'parallel creates', size, 5, runtime)
        ratio = _rate(ours) / _rate(upstream)
        return (_rate_text(upstream), _rate_text(ours), f'{ratio:,.1f} times',
                ratio >= wanted)
    return look


def _resumed(run: Run) -> _Found:
    upstream, ours = (
        (run.get(driver, 'create, session lost', measuring.SMALL)['wall_ms']
         - run.get(driver, 'create', measuring.SMALL)['wall_ms']) / 1000
        for driver in measuring.DRIVERS)
    return (f'{upstream:.1f} s', f'{ours:.2f} s', f'{ours:.2f} s',
            ours <= 1)


def _ours(operation: str, key: str, most: float, unit: str,
          scale: float = 1, runtime: str = 'native',
          size: measuring.Size = measuring.LARGE) -> _Look:
    def look(run: Run) -> _Found:
        found = run.get('ours', operation, size,
                        runtime=runtime)[key] / scale
        text = f'{found:,.{1 if most > 1 else 2}f} {unit}'
        return '', text, text, found <= most
    return look


def _first_view(size: measuring.Size) -> _Look:
    def look(run: Run) -> _Found:
        name = 'first view and all that is ours'
        ours, least = (run.get('ours', each, size)['cpu_ms'] for each in (
            name, f'{name}: TLS and lxml alone'))
        return ('', f'{ours:,.0f} ms, least {least:,.0f} ms',
                f'{ours / least:.1f} times', ours <= 2 * least)
    return look


def _after_a_change(run: Run) -> _Found:
    """The most of the kinds of changes, at two sizes."""
    most = [max(run.get('ours', f'memory: report, changed: {what}',
                        size)['cpu_ms'] for what in _CHANGES)
            for size in (measuring.LARGE, measuring.LARGEST)]
    text = ' and '.join(f'{each:.2f} ms' for each in most)
    return '', text, text, max(most) <= 1


def _crowd(run: Run) -> _Found:
    found = run.get('ours', 'crowd of creates', measuring.LARGEST)
    most = run.get('ours', 'crowd: most on one datastore',
                   measuring.LARGEST)['most']
    text = f'{_rate_text(found)}, at most {most} on one datastore'
    return '', text, text, _rate(found) >= 30 and not found['failures']


def _serving(run: Run) -> _Found:
    """Until a driver serves, without Cinder's load of its records."""
    ours = run.get('ours', _SERVES, _START, runtime='eventlet')
    text = _seconds(ours)
    return (_seconds(run.upstreams(_SERVES)), text, text,
            ours['wall_ms'] <= 10000 and ours['cpu_ms'] <= 3000)


def _seconds(result: Result | None) -> str:
    return '' if result is None else (
        f'{result["wall_ms"] / 1000:,.1f} s, '
        f'{result["cpu_ms"] / 1000:,.2f} s of CPU')


def _waits(run: Run) -> _Found:
    """The longest in a start, and in what it leaves to the background."""
    waits = [run.get('ours', step, _START, runtime='eventlet')['longest_ms']
             for step in (_SERVES, _CHECKED)]
    upstream = run.upstreams(_SERVES)
    text = ', then '.join(f'{each:.1f} ms' for each in waits)
    return (f'{upstream["longest_ms"]:,.1f} ms' if upstream else '',
            text, text, max(waits) <= 20)


_SERVES = 'start: until it serves'
_CHECKED = 'start: in the background, until all are checked'
_START = measuring.started_with(measuring.VOLUMES, measuring.ATTACHED)
_CHANGES = ('a VM of another user', 'a datastore', "a volume's VM, moved",
            'promised space')
_BUSY = 'busy, 20 machines a second'
_SIZES = (measuring.SMALL, measuring.MEDIUM, measuring.LARGE)
_TARGETS: tuple[tuple[str, str, _Look], ...] = (
    ('calls for statistics or selection on a warm view', '0', _no_calls),
    ('CPU of statistics at 100x32', '10,000 times less',
     _cpu('stats', measuring.MEDIUM, 10000)),
    ('CPU of statistics at 500x64', '50,000 times less',
     _cpu('stats', measuring.LARGE, 50000)),
    ('client CPU of a create at 500x64', '1,000 times less, at most 8 ms',
     _cpu('create', measuring.LARGE, 1000, 8)),
    ('bytes of a create at 500x64', '600 times less', _bytes),
    ('calls of a warm create, the most of all sizes', 'at most 5 + notices',
     _calls_of_create),
    ('latency added to a task', '50 times less, at most 20 ms + 1 round trip',
     _latency),
    ('overhead of create and delete above the task time, 5 ms a call',
     '50 times less', _overhead),
    ('50 parallel creates, small inventory, native threads', '8 times',
     _parallel(measuring.SMALL, 8, 'native')),
    ('50 parallel creates, small inventory, eventlet', '8 times',
     _parallel(measuring.SMALL, 8, 'eventlet', 'eventlet')),
    ('50 parallel creates at 500x64, native threads', '100 times',
     _parallel(measuring.LARGE, 100, 'native')),
    ('50 parallel creates at 500x64, eventlet', '100 times',
     _parallel(measuring.LARGE, 100, 'eventlet')),
    ('session lost, until an operation has resumed', 'at most 1 s', _resumed),
    ('CPU of the first view at 500x64', 'at most 100 ms',
     _ours('first view', 'cpu_ms', 100, 'ms')),
    *((f'CPU of the first view and all that is ours at {size}',
       'at most twice that of TLS and lxml on the same bytes',
       _first_view(size)) for size in (measuring.LARGE, measuring.LARGEST)),
    ('memory of the view at 500x64', 'at most 50 MB',
     _ours('memory of the view', 'bytes_held', 50, 'MB', 1e6)),
    ('memory that 10,000 operations add at 500x64', 'none (below 1 MB)',
     _ours('memory of 10,000 operations', 'bytes_held', 1, 'MB', 1e6)),
    ('CPU of a report at 500x64, while 20 VMs of others change a second',
     'at most 1 ms', _ours(f'{_BUSY}: report, median', 'cpu_ms', 1, 'ms')),
    ('CPU of such a change in the background at 500x64', 'at most 0.2 ms',
     _ours(f'{_BUSY}: a change in the background', 'cpu_ms', 0.2, 'ms')),
    ('wait of another greenthread for a report at 500x64', 'at most 20 ms',
     _ours('longest wait, first report', 'longest_ms', 20, 'ms',
           runtime='eventlet')),
    ('CPU of a report after one change, in memory, 500x64x5000 and '
     f'{measuring.LARGEST}', 'at most 1 ms', _after_a_change),
    ('CPU of a report with nothing changed, in memory, 1,500 pools',
     'at most 0.5 ms', _ours('memory: report, changed: nothing', 'cpu_ms',
                             0.5, 'ms', size=measuring.LARGEST)),
    (f'CPU of a create at {measuring.LARGEST}, busy', 'at most 8 ms',
     _ours(f'{_BUSY}: create', 'cpu_ms', 8, 'ms', size=measuring.LARGEST)),
    (f'CPU of a report at {measuring.LARGEST}, busy', 'at most 1 ms',
     _ours(f'{_BUSY}: report, median', 'cpu_ms', 1, 'ms',
           size=measuring.LARGEST)),
    *((f'wait of another greenthread for the first {what} at '
       f'{measuring.LARGEST}', 'at most 20 ms', _ours(
           f'longest wait, first {step}', 'longest_ms', 20, 'ms',
           runtime='eventlet', size=measuring.LARGEST))
      for what, step in (('view', 'view and all that is ours'),
                         ('report', 'report'))),
    (f'start with {measuring.VOLUMES} volumes, {measuring.ATTACHED} attached, '
     f"at {_START}, without Cinder's own load of them",
     'serving within 10 s, at most 3 s of CPU', _serving),
    ('longest wait of another greenthread in it, CPU', 'at most 20 ms',
     _waits),
    ('memory after it, of the process', 'at most 60 MB',
     _ours('memory after the start', 'bytes_held', 60, 'MB', 1e6,
           size=_START)),
    (f'memory of all that is kept of {measuring.LARGEST.datastores} '
     f'datastores, {measuring.LARGEST.hosts} hosts and 10,000 volumes',
     'at most 60 MB',
     _ours('memory: held with 10000 volumes', 'bytes_held', 60, 'MB', 1e6,
           size=measuring.LARGEST)),
    (f'{measuring.CROWD} parallel creates at {measuring.LARGEST}',
     'at least 30 a second, all made', _crowd),
)
