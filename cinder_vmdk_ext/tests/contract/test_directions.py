# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, and that the error tree is as it is drawn."""

import ast
import inspect
import re
import sys
import unittest

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.contract import seams

PLUGIN = 'cinder_vmdk_ext'
UPSTREAM = 'cinder.volume.drivers.vmware'

# Decisions on plain values: they import each other and the standard library.
PURE = frozenset({
    'audit.compare', 'backings.model', 'model', 'scheduling.claims',
    'scheduling.eligibility',
    'scheduling.placement', 'scheduling.pool_names', 'scheduling.pool_stats',
    'volumes.manageable'})
# A decision that is to be repeated is handed its clock and its tie-break.
NOT_FOR_PURE = frozenset(
    {'time', 'random', 'datetime', 'socket', 'threading', 'logging'}
)
# The only modules that know upstream's driver.
KNOW_UPSTREAM = frozenset({
    'backings.folders', 'backings.verified_ops', 'backings.volumeops',
    'driver', 'exceptions', 'scheduling.selector', 'upstream'})
# The only modules that speak to the vCenter, and what that takes.
TALK_TO_VCENTER = frozenset({
    'audit.collect', 'backings.cache', 'backings.disk_scan',
    'backings.verified_ops', 'backings.volumeops', 'inventory.cache',
    'inventory.reader', 'inventory.refresher', 'vsphere.logout',
    'vsphere.datastore_browser', 'vsphere.preflight',
    'vsphere.privilege_check', 'vsphere.property_collector',
    'vsphere.retry', 'vsphere.services',
    'vsphere.session', 'vsphere.snapshot_tree', 'vsphere.soap',
    'vsphere.storage_policies', 'vsphere.suds_client', 'vsphere.tagging',
    'vsphere.tasks', 'vsphere.transfers', 'vsphere.updates',
    'vsphere.virtual_devices', 'vsphere.wsdl', 'backend', 'driver'})
VCENTER_LIBRARIES = (
    'oslo_vmware', 'suds', 'lxml', 'requests', 'urllib3', 'http',
    'urllib.request', f'{PLUGIN}.vsphere.soap',
    f'{PLUGIN}.vsphere.property_collector')
# Errors and references are values; who only knows these calls nobody.
ONLY_VALUES = frozenset({
    'oslo_vmware', 'oslo_vmware.exceptions', 'oslo_vmware.vim_util'})
# Packages, of which `from a import b` names both.
PACKAGES = frozenset({'', 'audit', 'backings', 'scheduling', 'volumes'})
# Names that say nothing of what is inside.
VAGUE = frozenset({'utils', 'helpers', 'manager', 'common', 'misc'})


def imports(tree: ast.AST) -> set[str]:
    """Dotted names of all that a module imports, wherever in it; of `from a
    import b` both `a` and `a.b`.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ''} | {
                f'{node.module}.{alias.name}' for alias in node.names
            }
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + '.')


class DirectionsTestCase(unittest.TestCase):
    """The arrows between modules, read from their import statements."""

    modules: dict[str, ast.Module]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modules = {
            name.removeprefix(PLUGIN).lstrip('.'): tree
            for name, tree in seams.our_modules().items()
            if name != PLUGIN
        }

    def test_pure_modules_import_each_other_and_the_standard_library(self):
        for module in sorted(PURE):
            for name in sorted(imports(self.modules[module])):
                if within(name, PLUGIN):
                    self.assertIn(
                        name.removeprefix(PLUGIN).lstrip('.'),
                        PURE | PACKAGES, f'{module} imports {name}'
                    )
                else:
                    self.assertIn(
                        name.partition('.')[0],
                        sys.stdlib_module_names,
                        f'{module} imports {name}',
                    )

    def test_pure_modules_have_no_clock_no_dice_and_no_outside(self):
        for module in sorted(PURE):
            self.assertEqual(
                set(), imports(self.modules[module]) & NOT_FOR_PURE, module
            )

    def test_few_modules_know_upstreams_driver(self):
        for module, tree in self.modules.items():
            if module not in KNOW_UPSTREAM:
                self.assertEqual(
                    [],
                    [name for name in imports(tree) if within(name, UPSTREAM)],
                    module,
                )

    def test_few_modules_talk_to_the_vcenter(self):
        for module, tree in self.modules.items():
            if module not in TALK_TO_VCENTER:
                found = [name for name in imports(tree) - ONLY_VALUES
                         if any(within(name, library)
                                for library in VCENTER_LIBRARIES)]
                self.assertEqual([], found, module)

    def test_no_module_is_in_these_tables_in_vain(self):
        for table, libraries in ((KNOW_UPSTREAM, (UPSTREAM,)),
                                 (TALK_TO_VCENTER, VCENTER_LIBRARIES)):
            for module in table:
                self.assertTrue(
                    any(within(name, library)
                        for name in imports(self.modules[module])
                        - ONLY_VALUES for library in libraries), module)

    def test_nothing_reads_cinders_database_behind_its_back(self):
        for module, tree in self.modules.items():
            self.assertEqual(
                [],
                [name for name in imports(tree) if within(name, 'cinder.db')],
                module,
            )

    def test_the_plugin_does_not_import_its_tests(self):
        for module, tree in self.modules.items():
            self.assertEqual(
                [],
                [
                    name
                    for name in imports(tree)
                    if within(name, f'{PLUGIN}.tests')
                ],
                module,
            )

    def test_names_of_modules_say_what_is_inside(self):
        self.assertEqual(set(), VAGUE & {
            part for name in self.modules for part in name.split('.')})

    def test_the_tables_above_name_modules_that_exist(self):
        self.assertEqual(
            set(), (PURE | KNOW_UPSTREAM | TALK_TO_VCENTER) - set(self.modules)
        )


class ErrorTreeTestCase(unittest.TestCase):
    """The tree drawn in the docstring of exceptions.py is the tree of its
    classes.
    """

    # `    Name(Base)   meaning`, a child two columns further in and without
    # its base.
    LINE = re.compile(
        r'^(?P<indent> +)(?P<name>\w+)(\((?P<base>\w+)\))? {2,}\S'
    )

    def drawn(self) -> dict[str, str]:
        tree, parents = {}, {}
        for line in (exceptions.__doc__ or '').splitlines():
            match = self.LINE.match(line)
            if match is not None:
                indent = len(match['indent'])
                parents[indent] = match['name']
                tree[match['name']] = match['base'] or parents[indent - 2]
        return tree

    def test_the_drawing_is_true(self):
        classes = {
            name: cls.__bases__[0].__name__
            for name, cls in vars(exceptions).items()
            if inspect.isclass(cls)
            and cls.__module__ == exceptions.__name__
            and issubclass(cls, Exception)
        }
        self.assertEqual(classes, self.drawn())

    def test_every_error_says_what_it_means(self):
        for name in self.drawn():
            self.assertTrue(getattr(exceptions, name).__doc__, name)


if __name__ == '__main__':
    unittest.main()
