# SPDX-License-Identifier: Apache-2.0
"""Traces the path that the calls of each operation take.

    python cinder_vmdk_ext/tests/functional/walks.py [--show create]

prints figures as JSON, with --show a walk, call by call, and with --pairs
from which module it returns to which, the most frequent first. It is run by
its path, with the folder of a tree as the working folder and on PYTHONPATH:
the driver, the test database and the simulator are those of that tree, which
may be another than this file's (tools/structure.py). Only the thread that
calls the driver is traced. A walk is the sequence of calls of the plugin's
functions, of upstream's driver and of oslo.vmware.
"""

import argparse
import collections
import json
import os
import sys
import types
import unittest
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

TREE = os.path.realpath(os.getcwd())
# In the place of this file's folder, which Python puts there.
sys.path[0] = TREE

from cinder_vmdk_ext.tests.functional import backend_case  # noqa: E402

OURS = f'{TREE}/cinder_vmdk_ext/'
UPSTREAM = 'cinder/volume/drivers/vmware/'
LIBRARY = 'oslo_vmware/'
# The modules of today's vsphere/ by the names that they had before packages.
VSPHERE = frozenset({
    'closing', 'collector', 'devices', 'lean', 'policies', 'preflight',
    'repetition', 'schema', 'services', 'session', 'soap', 'tags', 'tasks',
    'transfers', 'updates'})
# The pure function at the bottom of every selection of a datastore.
PLACE = ('placement', 'place')


class Call(NamedTuple):
    """A call of a function."""

    depth: int
    side: str  # 'ours', 'upstream' or 'library'
    module: str
    function: str


def side_and_module(path: str) -> tuple[str, str] | None:
    """Whose code is in a file, and in which module; None: not followed."""
    if path.startswith(OURS):
        name = path.removeprefix(OURS)
        return None if name.startswith('tests/') else (
            'ours', name.removesuffix('.py').replace('/', '.'))
    for side, folder in (('upstream', UPSTREAM), ('library', LIBRARY)):
        _, found, name = path.rpartition(folder)
        if found:
            return side, f'{side}:{name.removesuffix(".py")}'
    return None


class Walk:
    """What one thread calls while a block runs, as a profile function."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.to_place: list[Call] = []
        self._stack: list[Call | None] = []
        self._known: dict[str, tuple[str, str] | None] = {}

    def __enter__(self) -> 'Walk':
        sys.setprofile(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.setprofile(None)

    def __call__(self, frame: types.FrameType, event: str,
                 argument: Any) -> None:
        if event == 'return':
            # The first returns are those of frames from before the block.
            if self._stack:
                self._stack.pop()
        elif event == 'call':
            self._stack.append(self._entered(frame.f_code))

    def _entered(self, code: types.CodeType) -> Call | None:
        path = code.co_filename
        if path not in self._known:
            self._known[path] = side_and_module(os.path.realpath(path))
        known = self._known[path]
        if known is None:
            return None
        open_calls = [each for each in self._stack if each is not None]
        call = Call(len(open_calls), *known, code.co_qualname)
        self.calls.append(call)
        module = call.module.rpartition('.')[2]
        if (module, code.co_name) == PLACE and not self.to_place:
            self.to_place = [*open_calls, call]
        return call

    def pairs(self) -> list[tuple[tuple[str, str], int]]:
        """The returns, by the modules left and entered."""
        return collections.Counter(_returns(
            call.module for call in self.calls)).most_common()

    def figures(self) -> dict[str, int]:
        """What is counted of a walk.

        - entered: modules of ours
        - returns: how often a module is entered once more after another
        - above: the same, with vsphere/ and libraries as one module
        - frames, bands: to `placement.place`, the first time; a band is a
          run of frames of ours, or of upstream's
        """
        sides = [call.side for call in self.to_place
                 if call.side != 'library']
        return {
            'entered': len({call.module for call in self.calls
                            if call.side == 'ours'}),
            'returns': len(list(_returns(
                call.module for call in self.calls))),
            'above': len(list(_returns(map(_above_vsphere, self.calls)))),
            'frames': len(self.to_place),
            'bands': sum(side != before for before, side
                         in zip(['', *sides], sides)),
        }


def _above_vsphere(call: Call) -> str:
    within = (call.side == 'library' or call.module in VSPHERE
              or call.module.startswith('vsphere.'))
    return 'vsphere' if within else call.module


def _returns(modules: Iterable[str]) -> Iterator[tuple[str, str]]:
    """From which module the walk comes to which, where it was there before."""
    seen: set[str] = set()
    last = ''
    for module in modules:
        if module != last:
            if module in seen:
                yield last, module
            seen.add(module)
            last = module


def look_up_types() -> None:
    """Look up all types of the API: once in a process, in no operation."""
    try:
        from cinder_vmdk_ext.vsphere import api_types
    except ImportError:
        return  # a tree of before this module
    known = api_types.known()
    for table in (known.methods, known.objects):
        # A tree of before reads all at once.
        for name in getattr(table, '_lines', ()):
            assert table[name]


class Walks(backend_case.BackendCase):
    """Every operation once, as Cinder's manager asks for it."""

    walks: dict[str, Walk] = {}

    def walk(self, name: str, operation: Callable[..., Any],
             *arguments: Any) -> Any:
        """Trace an operation that starts with an up-to-date memory."""
        self.catch_up()
        walk = self.walks[name] = Walk()
        with walk:
            return operation(*arguments)

    def test_operations(self) -> None:
        driver = self.driver
        look_up_types()
        self.report()
        volume = self.new_volume()
        self.made(volume, self.walk('create', driver.create_volume, volume))
        snapshot = self.new_snapshot(volume)
        snapshot.update(self.walk('snapshot', driver.create_snapshot,
                                  snapshot) or {})
        snapshot.status = 'available'
        snapshot.save()
        self.walk('report', lambda: driver.get_volume_stats(refresh=True))
        other = self.create()
        self.walk('extend', driver.extend_volume, other, 2)
        self.walk('retype', driver.retype, self.context, other,
                  self.volume_type('other'), {}, self.there('LocalDS_2'))
        other = self.fresh(other)
        clone = self.new_volume()
        self.made(clone, self.walk('clone', driver.create_cloned_volume,
                                   clone, other))
        self.walk('delete', driver.delete_volume, clone)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--show', metavar='OPERATION', action='append',
                        default=[], help='print the calls of its walk')
    parser.add_argument('--pairs', metavar='N', type=int, default=0,
                        help='print the N most frequent returns of each walk')
    arguments = parser.parse_args()
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(
        unittest.defaultTestLoader.loadTestsFromTestCase(Walks))
    if not result.wasSuccessful():
        return 1
    for name in arguments.show:
        for call in Walks.walks[name].calls:
            print(f'{"  " * call.depth}{call.module}: {call.function}')
    for name, walk in Walks.walks.items() if arguments.pairs else ():
        print(f'{name}:')
        for (left, entered), count in walk.pairs()[:arguments.pairs]:
            print(f'{count:6d} {left} > {entered}')
    print(json.dumps({name: walk.figures()
                      for name, walk in Walks.walks.items()}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
