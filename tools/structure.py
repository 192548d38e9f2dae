# SPDX-License-Identifier: Apache-2.0
"""Counts the plugin's modules, imports, layers and walks.

    python -m tools.structure [--root DIR]           figures of the sources
    python -m tools.structure --walks [--root DIR]   and of traced operations
    python -m tools.structure --pairs 10             and their returns, by pair
    python -m tools.structure --record NAME ...      into docs/structure.json

It works on any commit of the project, so that two commits can be compared:
``--root`` names the folder of its tree. The walks run each operation once
with the simulated vCenter of that tree. The other figures are from the source
text, without an import.
"""

import argparse
import ast
import collections
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = 'cinder_vmdk_ext'
RECORD = ROOT / 'docs' / 'structure.json'
PAGE = ROOT / 'docs' / 'architecture.md'
WALKS = ROOT / PACKAGE / 'tests' / 'functional' / 'walks.py'
DRIVER = ('driver', 'VmdkExtDriver')

#: Rooms by floor, the highest floor first. A room is a package, or a module
#: at the top. It may import only rooms of lower floors, and itself. A module
#: at the top that is not named here belongs to the ground.
LAYERS = (
    ('cmd',),
    ('driver',),
    ('backend',),
    ('volumes',),
    ('hooks', 'audit', 'monitoring'),
    ('backings',),
    ('scheduling',),
    ('inventory',),
    ('vsphere',),
    ('ground',),
)
#: Modules of the ground, below all packages. They import each other.
GROUND = ('concurrency', 'config', 'exceptions', 'locks', 'model',
          'names', 'operation', 'option_check', 'refusals', 'upstream',
          'volume_rows')

Modules = Mapping[str, ast.Module]


@functools.cache
def parsed(path: pathlib.Path) -> ast.Module:
    """A module's tree. A process parses a file once: tests of many rules read
    the same files, and one pass over all of them takes seconds.
    """
    return ast.parse(path.read_text(encoding='utf-8'))


@functools.cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """What ``ast.walk`` yields, which takes longer to find than to look at."""
    return tuple(ast.walk(tree))


def read(root: pathlib.Path) -> dict[str, ast.Module]:
    """The plugin's modules without its tests, by name within the package.

    For example ``volumes.create``. A package has its own name, and the plugin
    itself ``''``.
    """
    folder = root / PACKAGE
    modules = {}
    for path in sorted(folder.rglob('*.py')):
        parts = path.relative_to(folder).with_suffix('').parts
        if 'tests' not in parts:
            name = '.'.join(parts).removesuffix('__init__').removesuffix('.')
            modules[name] = parsed(path)
    return modules


@functools.cache
def imports(tree: ast.AST) -> frozenset[str]:
    """Dotted names of all imports anywhere in a module; of `from a import b`
    both `a` and `a.b`.
    """
    names: set[str] = set()
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ''} | {
                f'{node.module}.{alias.name}' for alias in node.names}
    return frozenset(names)


def within(name: str, package: str) -> bool:
    """Whether a dotted name is a package, or is in that package."""
    return name == package or name.startswith(package + '.')


def imported(modules: Modules) -> dict[str, set[str]]:
    """Each module, and the modules of the plugin that it imports."""
    found = {}
    for module, tree in modules.items():
        names = {name.removeprefix(PACKAGE).removeprefix('.')
                 for name in imports(tree) if within(name, PACKAGE)}
        found[module] = {name for name in names
                         if name in modules and not is_package(name, modules)
                         and name != module}
    return found


def is_package(name: str, modules: Modules) -> bool:
    return not name or any(other.startswith(f'{name}.') for other in modules)


def room(module: str) -> str:
    """The room of a module: its package, or the module itself at the top."""
    top = module.partition('.')[0]
    return 'ground' if top in GROUND else top


def rooms(modules: Modules) -> dict[str, list[str]]:
    """Each room, and its modules."""
    found: dict[str, list[str]] = {}
    for module in sorted(modules):
        if not is_package(module, modules):
            found.setdefault(room(module), []).append(module)
    return found


def arrows(modules: Modules) -> dict[tuple[str, str], int]:
    """Pairs of rooms where one imports the other, and how often."""
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for module, names in imported(modules).items():
        found.update((room(module), room(name)) for name in names
                     if room(module) != room(name))
    return dict(found)


def floors(graph: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """How many floors lie below each node of a graph of imports.

    :raises ValueError: with a circle in the graph, for which there are none
    """
    height: dict[str, int] = {}

    def climb(node: str, above: tuple[str, ...]) -> int:
        if node in above:
            raise ValueError('a circle of imports: ' + ' > '.join(
                above[above.index(node):] + (node,)))
        if node not in height:
            height[node] = 1 + max((climb(other, (*above, node))
                                    for other in graph.get(node, ())),
                                   default=-1)
        return height[node]

    for node in graph:
        climb(node, ())
    return height


# -- Figures of the sources ------------------------------------------------

def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Classes and functions at the top of a module, by name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node


def find(modules: Modules, module: str, name: str
         ) -> tuple[str, ast.AST] | None:
    """The module and definition, in the plugin, of a name in a module."""
    tree = modules[module]
    head, _, rest = name.partition('.')
    for node in nodes(tree):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        for alias in node.names:
            if (alias.asname or alias.name) != head:
                continue
            whole = f'{node.module}.{alias.name}'
            target = whole.removeprefix(PACKAGE).removeprefix('.')
            if rest and within(whole, PACKAGE) and target in modules:
                return find(modules, target, rest)
    for defined, definition in definitions(tree):
        if defined == head and not rest:
            return module, definition
    return None


def classes_of_driver(modules: Modules) -> list[str]:
    """The plugin's classes in its driver's method resolution order."""
    found: dict[str, None] = {}

    def add(module: str, name: str) -> None:
        place = find(modules, module, name)
        if place is None or not isinstance(place[1], ast.ClassDef):
            return
        found.setdefault(f'{place[0]}.{place[1].name}')
        for base in place[1].bases:
            add(place[0], ast.unparse(base))

    add(*DRIVER)
    return list(found)


def context_variables(modules: Modules) -> list[str]:
    """The modules that create a ContextVar, once for each."""
    return [module for module, tree in modules.items()
            for node in nodes(tree)
            if isinstance(node, ast.Call)
            and ast.unparse(node.func).split('.')[-1] == 'ContextVar']


def replacing_decorators(modules: Modules) -> list[str]:
    """Decorators of the plugin's own that set methods of a class."""
    found = []
    for module, tree in modules.items():
        for node in nodes(tree):
            if isinstance(node, ast.ClassDef):
                for decorator in node.decorator_list:
                    name = ast.unparse(
                        decorator.func if isinstance(decorator, ast.Call)
                        else decorator)
                    place = find(modules, module, name)
                    if place is not None and _sets_attributes(place[1]):
                        found.append(f'{module}.{node.name}: {name}')
    return found


def _sets_attributes(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Call)
               and ast.unparse(inner.func) in ('setattr', 'type.__setattr__')
               for inner in ast.walk(node))


def of_sources(root: pathlib.Path) -> dict[str, object]:
    """The figures of a tree's sources."""
    modules = read(root)
    plain = [name for name in modules if not is_package(name, modules)]
    folders = collections.Counter(
        name.rpartition('.')[0] or '(top)' for name in plain)
    graph = imported(modules)
    return {
        'modules': len(plain),
        'modules by folder': dict(sorted(folders.items())),
        'floors of modules': 1 + max(floors(graph).values()),
        'imports between modules': sum(map(len, graph.values())),
        "classes in the driver's MRO": len(classes_of_driver(modules)),
        'context variables': len(context_variables(modules)),
        'class decorators that set methods': len(
            replacing_decorators(modules)),
    }


# -- Figures of the walks --------------------------------------------------

def of_walks(root: pathlib.Path, simulator: str | None, pairs: int = 0
             ) -> dict[str, dict[str, int]]:
    """The figures of one walk of each operation, in a separate process.

    :param pairs: print this number of pairs of modules with the most returns
    """
    environment = os.environ | {'PYTHONPATH': str(root)}
    if simulator:
        environment['VCENTER_SIM'] = simulator
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', str(WALKS), '--pairs', str(pairs)],
        cwd=root, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit('the walks failed')
    *shown, last = done.stdout.splitlines()
    print(*shown, sep='\n', end='\n' if shown else '', file=sys.stderr)
    figures: dict[str, dict[str, int]] = json.loads(last)
    return figures


# -- The record, and its table ---------------------------------------------

BEGIN, END = ('<!-- figures: make structure -->',
              '<!-- end of figures -->')


def record(name: str, figures: dict[str, object]) -> None:
    """Store figures by a name, and write the table of all figures."""
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    known[name] = figures
    RECORD.write_text(json.dumps(known, indent=1) + '\n')
    page = PAGE.read_text(encoding='utf-8')
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f'{before}{BEGIN}\n{table(known)}{END}{after}',
                    encoding='utf-8')


def table(known: dict[str, dict[str, object]]) -> str:
    """The figures side by side, as Markdown."""
    names = list(known)
    lines = [f'| | {" | ".join(names)} |', '|---|' + '---|' * len(names)]
    flat = {name: dict(_flat(figures)) for name, figures in known.items()}
    for row in dict.fromkeys(row for each in flat.values() for row in each):
        cells = [str(flat[name].get(row, '')) for name in names]
        lines.append(f'| {row} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _flat(figures: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in figures.items():
        if name == 'modules by folder':
            assert isinstance(value, dict)
            yield name, ', '.join(f'{folder} {count}'
                                  for folder, count in value.items())
        elif name == 'walks':
            assert isinstance(value, dict)
            for operation, walk in value.items():
                yield f'{operation}: modules entered', walk['entered']
                yield (f'{operation}: returns to a module left',
                       walk['returns'])
                yield (f'{operation}: such returns, vsphere/ as one module',
                       walk['above'])
                if walk.get('frames'):
                    yield (f'{operation}: frames to `placement.place`, in '
                           'bands', f'{walk["frames"]} in {walk["bands"]}')
        else:
            yield name, value


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--root', type=pathlib.Path, default=ROOT,
                        help='the tree to count; default: this one')
    parser.add_argument('--walks', action='store_true',
                        help='also trace operations with the simulator')
    parser.add_argument('--pairs', metavar='N', type=int, default=0,
                        help='with walks: the N most frequent returns from '
                        'one module to another, to stderr')
    parser.add_argument('--simulator', help='the vcenter-sim for the walks; '
                        'default: build/vcenter-sim of the tree')
    parser.add_argument('--record', metavar='NAME', help='write the figures '
                        'into docs/structure.json and docs/architecture.md')
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    figures = of_sources(root)
    if arguments.walks or arguments.pairs:
        figures['walks'] = of_walks(root, arguments.simulator,
                                    arguments.pairs)
    print(json.dumps(figures, indent=1))
    if arguments.record:
        record(arguments.record, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
