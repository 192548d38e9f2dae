# SPDX-License-Identifier: Apache-2.0
"""The rules of the plugin's own code, as functions that list violations.

Each takes the modules of a plugin by name (tools/structure.py reads them) or
a class, and returns a line for each violation. docs/architecture.md describes
the rules, with the same numbers.
"""

import ast
import collections
import inspect
import pathlib
import re
import sys
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

from tools import structure

PLUGIN = structure.PACKAGE
UPSTREAM = 'cinder.volume.drivers.vmware'

#: Decisions on plain values.
PURE = frozenset({
    'audit.compare', 'backings.model', 'names', 'model',
    'scheduling.claims',
    'scheduling.eligibility', 'scheduling.placement', 'scheduling.pool_names',
    'scheduling.pool_stats', 'volumes.manageable'})
#: A decision that is to be repeated is handed its clock and its tie-break.
NOT_FOR_PURE = frozenset(
    {'time', 'random', 'datetime', 'socket', 'threading', 'logging'})
#: The only modules that know upstream's driver.
KNOW_UPSTREAM = frozenset({
    'backings.folders', 'backings.verified_ops', 'backings.volumeops',
    'driver', 'exceptions', 'scheduling.selector', 'upstream'})
#: What of the plugin vsphere/ may know.
BELOW_VSPHERE = frozenset({'exceptions'})
#: Hooks of Cinder without @hook, and why.
NO_HOOK: dict[str, str] = {
    'backup_use_temp_snapshot': 'answers without a call',
    'clean_volume_file_locks': 'the volume is gone',
    'create_group': 'changes nothing',
    'do_setup': 'comes before all operations',
    'get_driver_options': 'says what options there are',
    'get_pool': 'reads one datastore',
    'set_initialized': 'comes before all operations',
    'snapshot_revert_use_temp_snapshot': 'answers without a call',
    'update_group': 'changes nothing',
}
#: Names that say nothing of what is inside.
VAGUE = frozenset({'utils', 'helpers', 'manager', 'common', 'misc'})
#: Attributes with an underscore that are public all the same: of named
#: tuples, and of references to managed objects.
PUBLIC_UNDERSCORES = frozenset({
    '_replace', '_asdict', '_fields', '_type', '_value', '_moId', '_make'})

Modules = structure.Modules


def climbing(modules: Modules) -> list[str]:
    """1. Imports lead from a floor to a lower one, never up, never around."""
    floors = {room: number for number, layer in enumerate(structure.LAYERS)
              for room in layer}
    found = [f'{room} is in no layer' for room in structure.rooms(modules)
             if room not in floors]
    for module, names in sorted(structure.imported(modules).items()):
        here = structure.room(module)
        found += [f'{module} imports {name}' for name in sorted(names)
                  for there in [structure.room(name)]
                  if here != there and here in floors and there in floors
                  and floors[here] >= floors[there]]
    try:
        structure.floors(structure.imported(modules))
    except ValueError as circle:
        found.append(str(circle))
    return found


def vsphere_knows_cinder(modules: Modules) -> list[str]:
    """2. vsphere/ imports nothing of Cinder, and of ours only exceptions."""
    found = []
    for module, tree in modules.items():
        if structure.room(module) != 'vsphere':
            continue
        found += [f'{module} imports {name}'
                  for name in sorted(structure.imports(tree))
                  if structure.within(name, 'cinder')]
        found += [f'{module} imports {name}'
                  for name in sorted(structure.imported(modules)[module])
                  if structure.room(name) != 'vsphere'
                  and name not in BELOW_VSPHERE]
    return found


def impure(modules: Modules, pure: Collection[str] = PURE) -> list[str]:
    """3. Pure modules: the standard library and each other; no clock."""
    found = [f'{name} is no module' for name in pure if name not in modules]
    for module in sorted(set(pure) & set(modules)):
        for name in sorted(structure.imports(modules[module])):
            if structure.within(name, PLUGIN):
                ours = name.removeprefix(PLUGIN).removeprefix('.')
                if not (structure.is_package(ours, modules)
                        or ours in pure):
                    found.append(f'{module} imports {name}')
            elif (name.partition('.')[0] not in sys.stdlib_module_names
                  or name.partition('.')[0] in NOT_FOR_PURE):
                found.append(f'{module} imports {name}')
    return found


def knowing_upstream(modules: Modules,
                     known: Collection[str] = KNOW_UPSTREAM) -> list[str]:
    """4. Few modules import upstream's driver, and those that may do."""
    found = []
    for module, tree in sorted(modules.items()):
        names = [name for name in sorted(structure.imports(tree))
                 if structure.within(name, UPSTREAM)]
        if module not in known:
            found += [f'{module} imports {name}' for name in names]
        elif not names:
            found.append(f'{module} may import {UPSTREAM} in vain')
    return found + [f'{name} is no module' for name in sorted(known)
                    if name not in modules]


def classes_of_ours(driver: type) -> list[str]:
    """5. The driver's classes that are ours: itself."""
    ours = [cls.__name__ for cls in driver.__mro__
            if structure.within(cls.__module__, PLUGIN)]
    return ours if len(ours) != 1 else []


def hidden_state(modules: Modules) -> list[str]:
    """6. One context variable; no decorator that sets methods of a class."""
    variables = sorted(structure.context_variables(modules))
    return ([f'{module} makes a ContextVar' for module in variables]
            if len(variables) != 1 else []) + [
        f'{each} sets methods'
        for each in structure.replacing_decorators(modules)]


def undeclared_hooks(driver: type,
                     no_hook: Mapping[str, str] = NO_HOOK) -> list[str]:
    """7. A method of Cinder's that the driver overrides has @hook."""
    found = []
    for name, member in vars(driver).items():
        function = inspect.unwrap(getattr(member, '__func__', member))
        if name.startswith('_') or not inspect.isfunction(function):
            continue
        declared = hasattr(member, 'hook')
        overrides = any(name in vars(base) for base in driver.__mro__[1:])
        if overrides and not declared and not no_hook.get(name):
            found.append(f'{name} has neither @hook nor a reason')
        if declared and name in no_hook:
            found.append(f'{name} has @hook, and a reason for none')
    return found + [f'{name} has a reason and is no method'
                    for name in no_hook if name not in vars(driver)]


def private_names_used(modules: Modules) -> list[str]:
    """8. No module uses a name that begins with _ of another module."""
    found = []
    for module, tree in sorted(modules.items()):
        defined = set(_names_defined(tree))
        outside = _imported_from_outside(tree)
        for node in structure.nodes(tree):
            if isinstance(node, ast.ImportFrom):
                found += [f'{module} imports {alias.name}'
                          for alias in node.names
                          if _is_private(alias.name)
                          and structure.within(node.module or '', PLUGIN)]
            elif (isinstance(node, ast.Attribute) and _is_private(node.attr)
                  and node.attr not in defined | PUBLIC_UNDERSCORES
                  and _root(node.value) not in outside
                  and not _is_own(node.value)
                  and module not in KNOW_UPSTREAM):
                found.append(f'{module} uses {ast.unparse(node)}')
    return found


def _is_private(name: str) -> bool:
    return name.startswith('_') and not name.endswith('__')


def _is_own(node: ast.AST) -> bool:
    """Whether this is the object itself, by which it uses what it inherits."""
    return (isinstance(node, ast.Name) and node.id in ('self', 'cls')
            or isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name) and node.func.id == 'super')


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ''


def _names_defined(tree: ast.AST) -> Iterator[str]:
    """Names of functions, classes, variables and attributes set."""
    for node in structure.nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(
                node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id


def _imported_from_outside(tree: ast.AST) -> set[str]:
    names = set()
    for node in structure.nodes(tree):
        if isinstance(node, ast.Import):
            names |= {(alias.asname or alias.name).partition('.')[0]
                      for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not structure.within(
                node.module or '', PLUGIN):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def names_given_twice(modules: Modules) -> list[str]:
    """10. No two classes have one name."""
    homes = collections.defaultdict(list)
    for module, tree in sorted(modules.items()):
        for name, node in structure.definitions(tree):
            if isinstance(node, ast.ClassDef):
                homes[name].append(module)
    return [f'{name} is a class in {" and ".join(found)}'
            for name, found in sorted(homes.items()) if len(found) > 1]


def untested(modules: Modules, tests: Iterable[pathlib.PurePath]
             ) -> list[str]:
    """11. Each module has a test of its name, in a folder of its package's.

    A name that only one module has needs no such folder.
    """
    paths = {str(path.with_suffix('')) for path in tests}
    plain = [name for name in modules
             if not structure.is_package(name, modules)]
    alike = collections.Counter(name.rpartition('.')[2] for name in plain)
    found = []
    for module in sorted(plain):
        package, _, name = module.rpartition('.')
        wanted = [f'{package}/test_{name}'.lstrip('/'),
                  f'test_{package}_{name}'.replace('__', '_')]
        if alike[name] == 1:
            wanted.append(f'test_{name}')
        if not any(path == each or path.endswith(f'/{each}')
                   for path in paths for each in wanted):
            found.append(f'{module} has no {wanted[-1]}.py')
    return found


#: 12. Parts of the project, and what of the others each may import.
PARTS: dict[str, frozenset[str]] = {
    'simulator': frozenset(),
    'sandbox': frozenset({'simulator', PLUGIN}),
    'benchmarks': frozenset({'simulator', 'sandbox', PLUGIN}),
    'tools': frozenset(),
}


def wrong_ways(part: str, modules: Mapping[str, ast.AST]) -> list[str]:
    """12. Nothing outside the plugin imports its tests; the simulator stands
    alone.
    """
    found = []
    for module, tree in sorted(modules.items()):
        for name in sorted(structure.imports(tree)):
            top = name.partition('.')[0]
            others = ({PLUGIN} | set(PARTS)) - {part} - PARTS[part]
            if top in others or structure.within(name, f'{PLUGIN}.tests'):
                found.append(f'{module} imports {name}')
    return found


_IMPORTS_OURS = re.compile(rf'^(from|import) ({PLUGIN}|sandbox|simulator)\b',
                           re.MULTILINE)


def programs(tree: ast.AST) -> Iterator[ast.Module]:
    """Programs that a module holds as text and that import of ours."""
    for node in structure.nodes(tree):
        if (isinstance(node, ast.Constant) and isinstance(node.value, str)
                and _IMPORTS_OURS.search(node.value)):
            try:
                yield ast.parse(node.value)
            except SyntaxError:
                continue


def missing(program: ast.AST, root: pathlib.Path) -> set[str]:
    """Modules of ours that a program imports and that are not there."""
    found = set()
    for node in ast.walk(program):
        if isinstance(node, ast.ImportFrom) and _IMPORTS_OURS.match(
                f'from {node.module}'):
            folder = root / (node.module or '').replace('.', '/')
            found |= {f'{node.module}.{alias.name}' for alias in node.names
                      if folder.is_dir()
                      and not (folder / f'{alias.name}.py').exists()
                      and not (folder / alias.name).is_dir()}
            if not folder.is_dir() and not folder.with_suffix('.py').exists():
                found.add(node.module or '')
    return found
