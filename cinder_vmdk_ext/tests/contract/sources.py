# SPDX-License-Identifier: Apache-2.0
"""Reads the sources of a package that we use, without an import.

A part of them is named `module:name` or `module:Class.name`. It is described
by its signature and a digest of its code, which does not depend on comments,
docstrings, layout or the version of Python.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import pathlib
import re
import zipfile
from collections.abc import Iterator

# Name of the import -> name of the distribution.
DISTRIBUTIONS = {'cinder': 'cinder', 'oslo_vmware': 'oslo.vmware'}
# How many numbers of a version make a release of it.
_SIGNIFICANT = {'cinder': 1, 'oslo_vmware': 2}

# A change of code matters where we subclass; where we only call it is the
# signature that counts.
CODE_MATTERS_IN = (
    'cinder.volume.drivers.vmware', 'cinder.volume.driver', 'oslo_vmware')


@dataclasses.dataclass(frozen=True)
class Piece:
    """How a function, class, attribute or constant looks in a release."""

    signature: str
    digest: str


class Sources:
    """The sources of one release, installed or in a wheel."""

    def __init__(self, package: str, version: str,
                 root: pathlib.Path | zipfile.Path) -> None:
        self.package = package
        self.version = version
        self._root = root
        self._modules: dict[str, ast.Module | None] = {}
        self._pieces: dict[str, Piece | None] = {}
        self._described: set[tuple[str, str]] = set()

    @classmethod
    def installed(cls, package: str) -> 'Sources':
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        return cls(package, importlib.metadata.version(DISTRIBUTIONS[package]),
                   pathlib.Path(spec.origin).parents[1])

    @classmethod
    def of_wheel(cls, path: str) -> 'Sources':
        match = re.match(r'([^-]+)-([^-]+)-', pathlib.Path(path).name)
        package = match[1].replace('.', '_') if match else ''
        if match is None or package not in DISTRIBUTIONS:
            raise SystemExit(f'{path} is no wheel of any of '
                             f'{", ".join(DISTRIBUTIONS.values())}')
        return cls(package, match[2], zipfile.Path(path))

    @property
    def release(self) -> str:
        """Distribution and release: `cinder 29`, `oslo.vmware 4.10`."""
        numbers = self.version.split('.')[:_SIGNIFICANT[self.package]]
        return f'{DISTRIBUTIONS[self.package]} {".".join(numbers)}'

    def describe(self, name: str) -> Piece | None:
        """How the piece looks; None when there is no such thing."""
        if name not in self._pieces:
            module, _, path = name.partition(':')
            first, _, attribute = path.partition('.')
            if attribute:
                self._describe_members(module, first)
            else:
                self._pieces[name] = _piece(
                    module, self._top_level(module, first))
        return self._pieces.setdefault(name, None)

    def members(self, name: str) -> dict[str, Piece]:
        """All members of a class, inherited ones as well, by their names."""
        module, _, class_name = name.partition(':')
        self._describe_members(module, class_name)
        return {each.removeprefix(f'{name}.'): piece
                for each, piece in self._pieces.items()
                if each.startswith(f'{name}.') and piece is not None}

    def _describe_members(self, module: str, class_name: str) -> None:
        """All members of a class, and the attributes that it sets, once."""
        if (module, class_name) in self._described:
            return
        self._described.add((module, class_name))
        set_by: dict[str, str] = {}
        for owner_module, owner in self._with_bases(
                module, self._top_level(module, class_name)):
            for name in _names_defined(owner.body):
                self._pieces.setdefault(
                    f'{module}:{class_name}.{name}',
                    _piece(owner_module, _defined(owner.body, name)))
            for method in owner.body:
                if isinstance(method, ast.FunctionDef):
                    for name in _attributes_set(method):
                        set_by.setdefault(name, f'{owner.name}.{method.name}')
        for name, setter in set_by.items():
            self._pieces.setdefault(f'{module}:{class_name}.{name}',
                                    Piece(f'attribute set by {setter}', ''))

    def _module(self, name: str) -> ast.Module | None:
        if name.partition('.')[0] != self.package:
            return None
        if name not in self._modules:
            self._modules[name] = None
            path = name.replace('.', '/')
            for relative in (f'{path}.py', f'{path}/__init__.py'):
                file = self._root.joinpath(relative)
                if file.is_file():
                    self._modules[name] = ast.parse(
                        file.read_text(encoding='utf-8'))
                    break
        return self._modules[name]

    def _top_level(self, module: str, name: str) -> ast.stmt | None:
        tree = self._module(module)
        return _defined(tree.body, name) if tree is not None else None

    def _with_bases(self, module: str, node: ast.stmt | None
                    ) -> Iterator[tuple[str, ast.ClassDef]]:
        """A class and those of its bases that are in the package."""
        tree = self._module(module)
        if not isinstance(node, ast.ClassDef) or tree is None:
            return
        yield module, node
        for base_module, base_name in bases(module, tree, node):
            yield from self._with_bases(
                base_module, self._top_level(base_module, base_name))


def bases(module: str, tree: ast.Module, node: ast.ClassDef
          ) -> Iterator[tuple[str, str]]:
    """Module and name of each base class, as the imports have it."""
    imported = imported_names(tree)
    for base in node.bases:
        head, _, rest = (dotted(base) or '').partition('.')
        if head in imported and rest:
            yield imported[head], rest
        elif head in imported:
            owner, _, name = imported[head].rpartition('.')
            yield owner, name
        elif head:
            yield module, head


@functools.cache
def imported_names(tree: ast.AST) -> dict[str, str]:
    """Local name -> dotted name of what an import statement binds it to."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition('.')[0]
                names[alias.asname or top] = (
                    alias.name if alias.asname else top)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = (
                    f'{node.module}.{alias.name}')
    return names


def dotted(node: ast.AST) -> str | None:
    """`a.b.c` where the code says so; None for anything but names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f'{owner}.{node.attr}' if owner else None
    return None


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ('self', 'cls')


def _piece(module: str, node: ast.stmt | None) -> Piece | None:
    if node is None:
        return None
    matters = module.startswith(CODE_MATTERS_IN)
    return Piece(_signature(node), _digest(node) if matters else '')


def _names_defined(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets
                        if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign):
            if isinstance(node.target, ast.Name):
                yield node.target.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def _defined(body: list[ast.stmt], name: str) -> ast.stmt | None:
    """The last definition of a name, since that is the one that stands."""
    found = None
    for node in body:
        if name in _names_defined([node]):
            found = node
    return found


def _attributes_set(method: ast.FunctionDef) -> set[str]:
    return {node.attr for node in ast.walk(method)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store) and is_self(node.value)}


def _signature(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        decorators = ''.join(
            f'@{ast.unparse(decorator)} ' for decorator in node.decorator_list)
        return f'{decorators}({ast.unparse(node.args)})'
    if isinstance(node, ast.ClassDef):
        return f'class({", ".join(ast.unparse(base) for base in node.bases)})'
    return 'value'


def _digest(node: ast.stmt) -> str:
    """Of a class nothing: those of its members that we use are pieces."""
    if isinstance(node, ast.ClassDef):
        return ''
    return hashlib.sha256(_plain(node).encode()).hexdigest()[:16]


def _plain(node: object) -> str:
    """The code as text, without docstrings and what Pythons differ in."""
    if isinstance(node, ast.AST):
        parts = []
        for field, value in ast.iter_fields(node):
            if (field in ('kind', 'type_comment', 'type_params', 'ctx')
                    or value is None or value == []):
                continue
            if field == 'body' and isinstance(value, list):
                value = value[_is_docstring(value[0]):]
            parts.append(f'{field}={_plain(value)}')
        return f'{type(node).__name__}({",".join(parts)})'
    if isinstance(node, list):
        return f'[{",".join(_plain(item) for item in node)}]'
    return repr(node)


def _is_docstring(node: ast.AST) -> bool:
    return (isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str))
