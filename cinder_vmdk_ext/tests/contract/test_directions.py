# SPDX-License-Identifier: Apache-2.0
"""The rules of imports, of the driver's classes, and of names.

The rules have the numbers of docs/architecture.md. Each is tested twice: with
our code, which keeps it, and with a few lines that violate it.
"""

import ast
import functools
import inspect
import pathlib
import re
import unittest

from cinder_vmdk_ext import driver
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.contract import rules
from cinder_vmdk_ext import volume_rows
from tools import structure

PLUGIN = structure.PACKAGE
# The only modules outside vsphere/ that use a library which speaks to the
# vCenter.
TALK_TO_VCENTER = frozenset({
    'audit.collect', 'backend', 'backings.cache', 'backings.disk_scan',
    'backings.members',
    'backings.verified_ops', 'backings.volumeops', 'driver',
    'inventory.cache', 'inventory.reader', 'inventory.refresher'})
# Speaks HTTP, on loopback, and not to the vCenter.
SERVES_THIS_MACHINE = 'monitoring.endpoint'
# Cinder has no object for the table of its image-volume cache: the module that
# uses its functions for this table, and which.
WITHOUT_OBJECTS = {'cmd.caching': {'image_volume_cache_get_all',
                                   'image_volume_cache_delete'}}
# The module that selects columns of Cinder's tables, the columns (decision
# 13), and what it uses of Cinder's database layer and of SQLAlchemy.
READS_COLUMNS = 'volume_rows'
VOLUME_COLUMNS = {
    'id', '_name_id', 'display_name', 'project_id', 'host', 'cluster_name',
    'size', 'status', 'migration_status', 'provider_id', 'provider_location',
    'volume_type_id', 'created_at', 'updated_at'}
ATTACHMENT_COLUMNS = {'volume_id', 'instance_uuid'}
CHOOSING_COLUMNS = {'deleted', 'attach_status'}
TO_READ_COLUMNS = {
    'db': {'main_context_manager'},
    'db.main_context_manager': {'reader'},
    'db.main_context_manager.reader': {'using'},
    'models': {'Volume', 'VolumeAttachment'},
    'session': {'execute'},
    'sqlalchemy': {'false', 'select'}}
VCENTER_LIBRARIES = (
    'oslo_vmware', 'suds', 'lxml', 'requests', 'urllib3', 'http',
    'urllib.request', f'{PLUGIN}.vsphere.soap',
    f'{PLUGIN}.vsphere.property_collector')
# Errors and references are values; a module that only imports these makes no
# call.
ONLY_VALUES = frozenset({
    'oslo_vmware', 'oslo_vmware.exceptions', 'oslo_vmware.vim_util'})


def parsed(**sources: str) -> dict[str, ast.Module]:
    """Modules by name; in a name, `__` stands for the dot."""
    return {name.replace('__', '.'): ast.parse(text)
            for name, text in sources.items()}


def importing(*names: str) -> str:
    """A module that imports modules of ours."""
    return ''.join(f'from {PLUGIN}{f".{package}" if package else ""} '
                   f'import {module}\n' for name in names
                   for package, _, module in [name.rpartition('.')])


@functools.cache
def files(folder: pathlib.Path) -> dict[str, ast.Module]:
    """The modules below a folder, by their paths."""
    return {str(path.relative_to(structure.ROOT)): structure.parsed(path)
            for path in sorted(folder.rglob('*.py'))}


class DirectionsTestCase(unittest.TestCase):
    """The rules, kept by our code."""

    modules: dict[str, ast.Module]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modules = structure.read(structure.ROOT)

    def test_1_imports_go_strictly_down(self):
        self.assertEqual([], rules.climbing(self.modules))

    def test_2_vsphere_knows_nothing_of_cinder(self):
        self.assertEqual([], rules.vsphere_knows_cinder(self.modules))

    def test_3_pure_modules_import_each_other_and_the_standard_library(self):
        self.assertEqual([], rules.impure(self.modules))

    def test_4_few_modules_know_upstreams_driver(self):
        self.assertEqual([], rules.knowing_upstream(self.modules))

    def test_5_the_driver_is_one_class_of_ours(self):
        self.assertEqual([], rules.classes_of_ours(driver.VmdkExtDriver))
        self.assertEqual([f'driver.{driver.VmdkExtDriver.__name__}'],
                         structure.classes_of_driver(self.modules))

    def test_6_one_context_variable_and_no_replaced_methods(self):
        self.assertEqual([], rules.hidden_state(self.modules))

    def test_7_every_hook_is_declared_where_it_stands(self):
        self.assertEqual([], rules.undeclared_hooks(driver.VmdkExtDriver))

    def test_8_no_module_uses_anothers_private_names(self):
        self.assertEqual([], rules.private_names_used(self.modules))

    def test_10_no_two_classes_have_one_name(self):
        self.assertEqual([], rules.names_given_twice(self.modules))

    def test_11_every_module_has_a_test_of_its_name(self):
        tests = structure.ROOT / PLUGIN / 'tests'
        self.assertEqual([], rules.untested(self.modules, [
            path.relative_to(tests) for part in ('unit', 'functional')
            for path in (tests / part).rglob('test_*.py')]))

    def test_12_nothing_outside_the_plugin_imports_its_tests(self):
        for part in rules.PARTS:
            found = files(structure.ROOT / part)
            self.assertTrue(found, part)
            self.assertEqual([], rules.wrong_ways(part, found))

    def test_few_modules_talk_to_the_vcenter(self):
        for module, tree in self.modules.items():
            found = [name for name in structure.imports(tree) - ONLY_VALUES
                     if any(structure.within(name, library)
                            for library in VCENTER_LIBRARIES)]
            if module in TALK_TO_VCENTER:
                self.assertTrue(found, f'{module} is in the table in vain')
            elif (structure.room(module) != 'vsphere'
                  and module != SERVES_THIS_MACHINE):
                self.assertEqual([], found, module)
        self.assertEqual(set(), TALK_TO_VCENTER - set(self.modules))

    def test_nothing_reads_cinders_database_behind_its_back(self):
        for module, tree in self.modules.items():
            self.assertEqual([], [
                name for name in structure.imports(tree)
                if structure.within(name, 'cinder.db')
                and module not in {*WITHOUT_OBJECTS, READS_COLUMNS}], module)
        for module, functions in WITHOUT_OBJECTS.items():
            self.assertEqual(functions, {
                node.attr for node in structure.nodes(self.modules[module])
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == 'db'})

    def test_one_module_reads_columns_and_only_reads(self):
        tree = self.modules[READS_COLUMNS]
        self.assertEqual([READS_COLUMNS], [
            name for name, module in self.modules.items()
            if any(structure.within(each, 'sqlalchemy')
                   for each in structure.imports(module))])
        for owner, names in TO_READ_COLUMNS.items():
            self.assertEqual(names, {
                node.attr for node in structure.nodes(tree)
                if isinstance(node, ast.Attribute)
                and ast.unparse(node.value) == owner}, owner)
        self.assertLessEqual(set(volume_rows.DISKLESS), VOLUME_COLUMNS)
        self.assertEqual(
            [VOLUME_COLUMNS, ATTACHMENT_COLUMNS, CHOOSING_COLUMNS],
            [set(volume_rows.VOLUME), set(volume_rows.ATTACHMENT),
             set(volume_rows.CHOOSING)])
        self.assertLessEqual(
            {node.attr for node in structure.nodes(tree)
             if isinstance(node, ast.Attribute)
             and ast.unparse(node.value) == 'table'},
            VOLUME_COLUMNS | ATTACHMENT_COLUMNS | CHOOSING_COLUMNS)

    def test_the_plugin_does_not_import_its_tests(self):
        for module, tree in self.modules.items():
            self.assertEqual([], [
                name for name in structure.imports(tree)
                if structure.within(name, f'{PLUGIN}.tests')], module)

    def test_names_of_modules_say_what_is_inside(self):
        self.assertEqual(set(), rules.VAGUE & {
            part for name in self.modules for part in name.split('.')})

    def test_programs_in_texts_import_what_there_is(self):
        """Tests hand programs to other processes; no tool follows a module
        that moves there.
        """
        seen = 0
        for part in (PLUGIN, *rules.PARTS):
            for path, tree in files(structure.ROOT / part).items():
                for program in rules.programs(tree):
                    seen += 1
                    self.assertEqual(set(), rules.missing(
                        program, structure.ROOT), path)
        self.assertGreaterEqual(seen, 3)


class BrokenTestCase(unittest.TestCase):
    """The rules, broken by a few lines: each breach is named."""

    def test_1_an_import_that_goes_up(self):
        self.assertEqual(
            ['vsphere.soap imports volumes.create'],
            rules.climbing(parsed(vsphere__soap=importing('volumes.create'),
                                  volumes__create='')))

    def test_1_an_import_that_stays_on_its_floor(self):
        self.assertEqual(
            ['hooks imports audit.compare'],
            rules.climbing(parsed(hooks=importing('audit.compare'),
                                  audit__compare='')))

    def test_1_an_import_inside_a_function(self):
        self.assertEqual(
            ['vsphere.soap imports driver'],
            rules.climbing(parsed(
                vsphere__soap=f'def f():\n    import {PLUGIN}.driver\n',
                driver='')))

    def test_1_a_circle_within_a_package(self):
        self.assertEqual(
            ['a circle of imports: volumes.a > volumes.b > volumes.a'],
            rules.climbing(parsed(volumes__a=importing('volumes.b'),
                                  volumes__b=importing('volumes.a'))))

    def test_1_a_package_without_a_floor(self):
        self.assertEqual(['cellar is in no layer'],
                         rules.climbing(parsed(cellar__wine='')))

    def test_2_vsphere_that_imports_cinder_or_more_of_ours(self):
        self.assertEqual(
            ['vsphere.soap imports cinder',
             'vsphere.soap imports cinder.utils',
             'vsphere.soap imports locks'],
            rules.vsphere_knows_cinder(parsed(
                vsphere__soap='from cinder import utils\n' + importing(
                    'locks', 'exceptions', 'vsphere.wsdl'),
                locks='', exceptions='', vsphere__wsdl='')))

    def test_3_a_pure_module_with_a_library_a_clock_or_an_impure_one(self):
        self.assertEqual(
            ['model imports cinder_vmdk_ext.locks', 'model imports lxml',
             'model imports time'],
            rules.impure(parsed(
                model='import time\nimport lxml\nimport json\n'
                + importing('locks', 'scheduling.placement'),
                scheduling__placement='', locks=''),
                {'model', 'scheduling.placement'}))

    def test_4_a_module_that_knows_upstream_unbidden_or_in_vain(self):
        self.assertEqual(
            ['driver may import cinder.volume.drivers.vmware in vain',
             'volumes.create imports cinder.volume.drivers.vmware',
             'volumes.create imports cinder.volume.drivers.vmware.vmdk',
             'upstream is no module'],
            rules.knowing_upstream(parsed(
                driver='', volumes__create='from cinder.volume.drivers.vmware '
                'import vmdk'), {'driver', 'upstream'}))

    def test_5_a_driver_of_two_classes(self):
        class Mixin:
            pass

        class Driver(Mixin):
            pass

        self.assertEqual(['Driver', 'Mixin'], rules.classes_of_ours(Driver))

    def test_6_a_second_context_variable_and_a_replacing_decorator(self):
        self.assertEqual(
            ['locks makes a ContextVar', 'operation makes a ContextVar',
             'driver.Driver: locks.holding sets methods'],
            rules.hidden_state(parsed(
                operation='import contextvars\nA = '
                'contextvars.ContextVar("a")\n',
                locks='from contextvars import ContextVar\nB = ContextVar('
                '"b")\ndef holding(table):\n    def decorate(cls):\n'
                '        setattr(cls, "a", 1)\n        return cls\n'
                '    return decorate\n',
                driver=importing('locks')
                + '@locks.holding({})\nclass Driver: pass\n')))

    def test_7_a_hook_that_is_not_declared(self):
        class Upstream:
            def extend_volume(self):
                pass

            def delete_volume(self):
                pass

        class Driver(Upstream):
            def extend_volume(self):
                pass

            def delete_volume(self):
                pass

            delete_volume.hook = ()

            def helper(self):
                pass

        self.assertEqual(['extend_volume has neither @hook nor a reason'],
                         rules.undeclared_hooks(Driver, {}))
        self.assertEqual(
            ['delete_volume has @hook, and a reason for none',
             'retype has a reason and is no method'],
            rules.undeclared_hooks(Driver, {
                'extend_volume': 'because', 'delete_volume': 'because',
                'retype': 'because'}))

    def test_8_private_names_of_another_module(self):
        self.assertEqual(
            ['volumes.a imports _d', 'volumes.a uses volumes_b._f',
             'volumes.a uses self.other._g'],
            rules.private_names_used(parsed(volumes__a=(
                f'from {PLUGIN}.volumes import b as volumes_b\n'
                f'from {PLUGIN}.volumes.b import _d\n'
                'volumes_b._f()\n'
                'class A:\n    def f(self):\n'
                '        self.other._g()\n        self._own()\n'
                '        other._h = 1\n        self.pair._replace(a=1)\n'))))

    def test_10_two_classes_of_one_name(self):
        self.assertEqual(
            ['Reader is a class in inventory.reader and volumes.manage'],
            rules.names_given_twice(parsed(
                inventory__reader='class Reader: pass',
                volumes__manage='class Reader: pass\nclass Other: pass')))

    def test_11_modules_without_a_test_of_their_name(self):
        modules = parsed(volumes__create='', volumes__clone='',
                         backings__cache='', inventory__cache='')
        self.assertEqual(
            ['inventory.cache has no test_inventory_cache.py',
             'volumes.clone has no test_clone.py'],
            rules.untested(modules, map(pathlib.PurePath, (
                'functional/test_create.py', 'unit/backings/test_cache.py'))))

    def test_12_a_part_that_imports_tests_or_a_part_above_it(self):
        tree = parsed(x=f'from {PLUGIN}.tests import section\n'
                      f'from {PLUGIN} import driver\n'
                      'from sandbox import vcenter\n')
        self.assertEqual(
            [f'x imports {PLUGIN}.tests', f'x imports {PLUGIN}.tests.section'],
            rules.wrong_ways('benchmarks', tree))
        self.assertEqual(
            {f'x imports {PLUGIN}', f'x imports {PLUGIN}.driver',
             f'x imports {PLUGIN}.tests', 'x imports sandbox',
             f'x imports {PLUGIN}.tests.section', 'x imports sandbox.vcenter'},
            set(rules.wrong_ways('simulator', tree)))

    def test_a_program_in_a_text_that_imports_what_is_gone(self):
        program, = rules.programs(ast.parse(
            'PROGRAM = "import sys\\nfrom cinder_vmdk_ext import gone, '
            'driver\\nfrom cinder_vmdk_ext.tests import section\\n"'))
        self.assertEqual(
            {f'{PLUGIN}.gone', f'{PLUGIN}.tests.section'},
            rules.missing(program, structure.ROOT))


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
