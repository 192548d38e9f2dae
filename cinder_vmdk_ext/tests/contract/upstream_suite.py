# SPDX-License-Identifier: Apache-2.0
"""Runs upstream's own tests of its driver, with our classes in its place.

    python -m ...contract.upstream_suite UPSTREAM.json OURS.json

Each run is a process of its own, because it permanently rebinds names in
Cinder's modules; both are forked from one that has imported Cinder. The first
run rebinds nothing: tests that fail there do not fail because of our code.
The reports name each test and its result.
"""

import importlib
import json
import logging
import os
import sys
import traceback
import types
import unittest
from typing import Any
from unittest import mock

PACKAGE = 'cinder.volume.drivers.vmware'
TESTS = 'cinder.tests.unit.volume.drivers.vmware'
TEST_MODULES = (
    'test_vmware_vmdk',
    'test_vmware_volumeops',
    'test_vmware_datastore',
    'test_fcd',
)

# Upstream's class -> ours, which has to be a subclass of it, and what ours is
# handed beyond upstream's arguments; a mock stands for each of these.
OURS: dict[str, tuple[str, tuple[str, ...]]] = {
    'vmdk.VMwareVcVmdkDriver': ('cinder_vmdk_ext.driver.VmdkExtDriver', ()),
    'volumeops.VMwareVolumeOps': (
        'cinder_vmdk_ext.backings.verified_ops.VerifiedOps', ('client',)),
    'datastore.DatastoreSelector': (
        'cinder_vmdk_ext.scheduling.selector.DatastoreSelector',
        ('reader', 'directory', 'settings', 'books')),
}


_SENTINEL = type(mock.sentinel.anything)


class _DriverInTheirTests:
    """What Cinder gives a driver, where upstream's tests give less."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # The type of their volumes is in no database.
        self.backend.selection.specs_of = lambda type_id: {}
        # Nor are its encryption and QoS; some volumes are sentinels.
        self.backend.admission.check_new = lambda volume: False
        self.backend.limits.expect = self.backend.limits.apply = (
            lambda volume: None)
        self.backend.compliance.settle = lambda volume, host=None: None
        # Nor is what distinguishes this Cinder from others.
        self.backend.deployment = lambda: ''

    def retype(self, ctxt, volume, new_type, diff, host):
        # They hand in sentinels where Cinder hands in dictionaries.
        if isinstance(new_type, _SENTINEL):
            new_type = {'id': None}
        if isinstance(host, _SENTINEL):
            host = {'host': None}
        if not isinstance(diff, dict):
            diff = {}
        return super().retype(
            ctxt, volume, new_type, diff, host)


class _SelectorInTheirTests:
    """They mock the way to the policy service that upstream goes."""

    def __init__(self, *args, directory, **kwargs):
        directory.policy_id.return_value = None
        super().__init__(*args, directory=directory, **kwargs)


FIXTURES: dict[str, type] = {
    'vmdk.VMwareVcVmdkDriver': _DriverInTheirTests,
    'datastore.DatastoreSelector': _SelectorInTheirTests}


def substitute(upstream_name: str, uses: dict[str, int]) -> None:
    """Put our class under upstream's name, and count the objects made."""
    module_name, class_name = upstream_name.split('.')
    module = importlib.import_module(f'{PACKAGE}.{module_name}')
    base = getattr(module, class_name)
    our_name, handed_in = OURS[upstream_name]
    ours = load(our_name)
    if not issubclass(ours, base):
        raise SystemExit(f'{our_name} is not a subclass of {upstream_name}')

    # Upstream's __init__ names its own class in super(): left alone, it would
    # find ours there and call itself for ever.
    init = base.__init__
    base.__init__ = types.FunctionType(
        init.__code__,
        {**init.__globals__, class_name: base},
        init.__name__,
        init.__defaults__,
        init.__closure__,
    )
    base.__init__.__kwdefaults__ = init.__kwdefaults__

    uses[upstream_name] = 0

    def __init__(self, *args, **kwargs):
        uses[upstream_name] += 1
        mocks = {name: mock.MagicMock(name=name) for name in handed_in}
        super(counted, self).__init__(*args, **kwargs, **mocks)

    counted = type(
        class_name,
        (FIXTURES[upstream_name], ours)
        if upstream_name in FIXTURES
        else (ours,),
        {
            '__init__': __init__,
            '__module__': ours.__module__,
            '__doc__': ours.__doc__,
        },
    )
    setattr(module, class_name, counted)


def load(name: str) -> Any:
    module, _, attribute = name.rpartition('.')
    return getattr(importlib.import_module(module), attribute)


class Report(unittest.TestResult):
    """How each test ended: 'ok', 'skipped', or the last lines of what went
    wrong.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}

    def addSuccess(self, test):
        self.outcomes.setdefault(test.id(), 'ok')

    def addSkip(self, test, reason):
        self.outcomes[test.id()] = 'skipped'

    def addFailure(self, test, err):
        self.outcomes[test.id()] = ''.join(
            traceback.format_exception(*err)
        )[-1500:]

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.addFailure(test, err)


def prepare() -> None:
    """Import, and let it do once, what all of Cinder's tests need.

    Upstream's driver is not in it: its tests take hold of the classes that
    are there when it is imported.
    """
    test = importlib.import_module('cinder.tests.unit.volume').test

    class Empty(test.TestCase):  # type: ignore[name-defined]
        def test_nothing(self) -> None:
            """Its set-up makes Cinder's tables, and keeps how."""

    Empty('test_nothing').run(unittest.TestResult())
    if present := [name for name in sys.modules if name.startswith(PACKAGE)]:
        raise SystemExit(f'imported too early: {present}')


def run(ours: bool, report_path: str) -> None:
    """Run the suite, with our classes or upstream's."""
    uses: dict[str, int] = {}
    if ours:
        from cinder_vmdk_ext import hooks

        # Ours are imported, and with them upstream's, before any name is
        # rebound.
        for our_name, _ in OURS.values():
            load(our_name)
        for upstream_name in OURS:
            substitute(upstream_name, uses)
        # Their volumes are in no database.
        hooks.read_again = lambda volumes: None
    # Only now: upstream's tests take hold of the classes when they are
    # imported.
    suite = unittest.defaultTestLoader.loadTestsFromNames(
        [f'{TESTS}.{module}' for module in TEST_MODULES]
    )
    report = Report()
    suite.run(report)
    with open(report_path, 'w') as file:
        json.dump({'outcomes': report.outcomes, 'uses': uses}, file)


def main() -> None:
    logging.disable(logging.CRITICAL)
    prepare()
    for ours, report_path in enumerate(sys.argv[1:]):
        child = os.fork()
        if child == 0:
            exit_code = 1
            try:
                run(bool(ours), report_path)
                exit_code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(exit_code)
        os.waitpid(child, 0)


if __name__ == '__main__':
    main()
