# SPDX-License-Identifier: Apache-2.0
"""What of Cinder our classes override or call, read from the sources of both,
and how each piece looked when it was recorded.

    python -m cinder_vmdk_ext.tests.contract.seams --record [WHEEL ...]

writes into seams.json how they look in the Cinder that is installed, or in
those of the wheels given (`make seams` gives one of each supported release). A
seam is named `module:Class.method`; of it are kept the signature and a digest
of the code, blind to comments, docstrings and layout. Nothing of Cinder is
imported, so that a release can be looked at without installing it.
"""

import argparse
import ast
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import pathlib
import re
import sys
import zipfile
from collections.abc import Iterator

PACKAGE = pathlib.Path(__file__).resolve().parents[2]
RECORD = pathlib.Path(__file__).with_name('seams.json')
DRIVER_PACKAGE = 'cinder.volume.drivers.vmware'

# Objects of upstream that our classes reach by an attribute, and their class.
COLLABORATORS = {
    'volumeops': f'{DRIVER_PACKAGE}.volumeops:VMwareVolumeOps',
    '_volumeops': f'{DRIVER_PACKAGE}.volumeops:VMwareVolumeOps',
    'ds_sel': f'{DRIVER_PACKAGE}.datastore:DatastoreSelector',
    '_ds_sel': f'{DRIVER_PACKAGE}.datastore:DatastoreSelector',
}

# Seams that our sources do not name, because it is upstream that calls through
# them into ours.
_DRIVER = f'{DRIVER_PACKAGE}.vmdk:VMwareVcVmdkDriver'
RELIED_ON = {
    f'{_DRIVER}._select_datastore':
        'every placement passes here to select_datastore',
    f'{_DRIVER}.get_volume_stats':
        'statistics pass here to _update_volume_stats',
    f'{_DRIVER}._create_backing':
        'asks _select_ds_for_volume, then volumeops',
    f'{_DRIVER}.session': 'rebuilt by _create_session',
    'cinder.volume.driver:BaseVD.__init__': 'takes what our __init__ forwards',
}

# A change of code matters where we subclass; elsewhere in Cinder we only call,
# and the signature is what counts.
CODE_MATTERS_IN = (DRIVER_PACKAGE, 'cinder.volume.driver')


@dataclasses.dataclass(frozen=True)
class Seam:
    signature: str
    digest: str


class Sources:
    """The sources of one release of Cinder: those installed, or a wheel's."""

    def __init__(
        self, version: str, root: pathlib.Path | zipfile.Path
    ) -> None:
        self.version = version
        self._root = root
        self._modules: dict[str, ast.Module | None] = {}

    @classmethod
    def installed(cls) -> 'Sources':
        spec = importlib.util.find_spec('cinder')
        assert spec is not None and spec.origin is not None
        return cls(
            importlib.metadata.version('cinder'),
            pathlib.Path(spec.origin).parents[1],
        )

    @classmethod
    def of_wheel(cls, path: str) -> 'Sources':
        match = re.match(r'cinder-([^-]+)-', pathlib.Path(path).name)
        if match is None:
            raise SystemExit(f'{path} is not named like a wheel of Cinder')
        return cls(match[1], zipfile.Path(path))

    @property
    def major(self) -> str:
        return self.version.partition('.')[0]

    def module(self, name: str) -> ast.Module | None:
        """A module of Cinder by its dotted name; None when there is none."""
        if name.partition('.')[0] != 'cinder':
            return None
        if name not in self._modules:
            self._modules[name] = None
            for relative in (
                name.replace('.', '/') + '.py',
                name.replace('.', '/') + '/__init__.py',
            ):
                path = self._root.joinpath(relative)
                if path.is_file():
                    self._modules[name] = ast.parse(
                        path.read_text(encoding='utf-8')
                    )
                    break
        return self._modules[name]

    def top_level(self, module: str, name: str) -> ast.stmt | None:
        tree = self.module(module)
        return _defined(tree.body, name) if tree is not None else None

    def locate(self, seam: str) -> tuple[str, ast.stmt] | None:
        """Where a seam is defined, following base classes: its full name
        there, and its code.
        """
        module, _, path = seam.partition(':')
        first, _, attribute = path.partition('.')
        node = self.top_level(module, first)
        if node is None or not attribute:
            return (seam, node) if node is not None else None
        if not isinstance(node, ast.ClassDef):
            return None
        for owner_module, owner in self._with_bases(module, node):
            member = _defined(owner.body, attribute)
            if member is not None:
                return f'{owner_module}:{owner.name}.{attribute}', member
        return None

    def exists(self, seam: str) -> bool:
        return self.describe(seam) is not None

    def _setter(self, seam: str) -> str | None:
        """The method of a class that sets an attribute of its objects."""
        module, _, path = seam.partition(':')
        first, _, attribute = path.partition('.')
        node = self.top_level(module, first)
        if not isinstance(node, ast.ClassDef) or not attribute:
            return None
        for _, owner in self._with_bases(module, node):
            for method in owner.body:
                for inner in ast.walk(method):
                    if (
                        isinstance(inner, ast.Attribute)
                        and isinstance(inner.ctx, ast.Store)
                        and inner.attr == attribute
                        and _is_self(inner.value)
                    ):
                        return f'{owner.name}.{getattr(method, "name", "?")}'
        return None

    def _with_bases(
        self, module: str, node: ast.ClassDef
    ) -> Iterator[tuple[str, ast.ClassDef]]:
        """The class and its bases within Cinder, depth first, as far as their
        sources say.
        """
        yield module, node
        tree = self.module(module)
        assert tree is not None
        imports = imported_names(tree)
        for base in node.bases:
            dotted = _dotted(base)
            if dotted is None:
                continue
            head, _, rest = dotted.partition('.')
            base_module, base_name = (
                (imports[head], rest)
                if head in imports and rest
                else (module, dotted)
            )
            found = self.top_level(base_module, base_name)
            if isinstance(found, ast.ClassDef):
                yield from self._with_bases(base_module, found)

    def describe(self, seam: str) -> Seam | None:
        """How a seam looks in this release, or None when it has no such thing.
        """
        located = self.locate(seam)
        if located is None:
            setter = self._setter(seam)
            return Seam(f'attribute set by {setter}', '') if setter else None
        name, node = located
        code_matters = name.partition(':')[0].startswith(CODE_MATTERS_IN)
        return Seam(_signature(node), _digest(node) if code_matters else '')


def _defined(body: list[ast.stmt], name: str) -> ast.stmt | None:
    """The last definition of a name in a body, since that is the one that
    stands.
    """
    found: ast.stmt | None = None
    for node in body:
        if (
            isinstance(
                node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            )
            and node.name == name
        ):
            found = node
        elif isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            found = node
        elif (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == name
        ):
            found = node
    return found


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f'{base}.{node.attr}' if base else None
    return None


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Local name -> dotted name of what an import statement binds it to."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition('.')[0]] = (
                    alias.name
                    if alias.asname
                    else alias.name.partition('.')[0]
                )
        elif (
            isinstance(node, ast.ImportFrom)
            and node.level == 0
            and node.module
        ):
            for alias in node.names:
                names[alias.asname or alias.name] = (
                    f'{node.module}.{alias.name}'
                )
    return names


def _signature(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        decorators = ''.join(
            f'@{ast.unparse(decorator)} ' for decorator in node.decorator_list
        )
        return f'{decorators}({ast.unparse(node.args)})'
    if isinstance(node, ast.ClassDef):
        return f'class({", ".join(ast.unparse(base) for base in node.bases)})'
    return 'value'


def _digest(node: ast.stmt) -> str:
    """A class stands for its bases only: of its members those that we use are
    seams of their own.
    """
    if isinstance(node, ast.ClassDef):
        return ''
    return hashlib.sha256(_plain(node).encode()).hexdigest()[:16]


def _plain(node: object) -> str:
    """The code as text: alike on every Python, and without docstrings."""
    if isinstance(node, ast.AST):
        parts = []
        for field, value in ast.iter_fields(node):
            if (
                field in ('kind', 'type_comment', 'type_params', 'ctx')
                or value is None
                or value == []
            ):
                continue
            if (
                field == 'body'
                and isinstance(value, list)
                and _is_docstring(value[0])
            ):
                value = value[1:]
            parts.append(f'{field}={_plain(value)}')
        return f'{type(node).__name__}({",".join(parts)})'
    if isinstance(node, list):
        return f'[{",".join(_plain(item) for item in node)}]'
    return repr(node)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def our_modules() -> dict[str, ast.Module]:
    """The plugin's modules by dotted name, without its tests."""
    modules = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        relative = path.relative_to(PACKAGE.parent).with_suffix('')
        if 'tests' not in relative.parts:
            modules['.'.join(relative.parts).removesuffix('.__init__')] = (
                ast.parse(path.read_text(encoding='utf-8'))
            )
    return modules


def used_seams(sources: Sources) -> set[str]:
    """Every seam that our modules use in this release, and those of RELIED_ON.
    """
    used = set(RELIED_ON)
    for tree in our_modules().values():
        imports = {
            alias: name
            for alias, name in imported_names(tree).items()
            if name.startswith('cinder.')
        }
        used |= _used_by_name(tree, imports, sources)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                used |= _used_by_class(node, imports, sources)
    return used


def _used_by_name(
    tree: ast.AST, imports: dict[str, str], sources: Sources
) -> set[str]:
    """`vmdk.NAME` and `vmdk.Class.NAME`, where `vmdk` is a module of Cinder;
    `x.volumeops.NAME` likewise.
    """
    used = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        dotted = _dotted(node)
        head, _, rest = (dotted or '').partition('.')
        if head in imports and rest:
            # The longest path that exists; what lies beyond is an attribute of
            # a value.
            seam = f'{imports[head]}:{".".join(rest.split(".")[:2])}'
            if not sources.exists(seam):
                seam = f'{imports[head]}:{rest.split(".")[0]}'
            if sources.exists(seam):
                used.add(seam)
        elif (
            isinstance(node.value, ast.Attribute)
            and node.value.attr in COLLABORATORS
        ):
            seam = f'{COLLABORATORS[node.value.attr]}.{node.attr}'
            if sources.exists(seam):
                used.add(seam)
    return used


def _used_by_class(
    node: ast.ClassDef, imports: dict[str, str], sources: Sources
) -> set[str]:
    """What a subclass of one of Cinder's classes overrides, and what it
    inherits and uses.
    """
    used = set()
    for base in node.bases:
        head, _, class_name = (_dotted(base) or '').partition('.')
        if head not in imports or not class_name:
            continue
        upstream = f'{imports[head]}:{class_name}'
        names = {
            member.name
            for member in node.body
            if isinstance(member, ast.FunctionDef)
        }
        names |= {
            inner.attr
            for inner in ast.walk(node)
            if isinstance(inner, ast.Attribute)
            and (_is_self(inner.value) or _is_super(inner.value))
        }
        used |= {
            f'{upstream}.{name}'
            for name in names
            if sources.exists(f'{upstream}.{name}')
        }
    return used


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ('self', 'cls')


def _is_super(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == 'super'
    )


def observe(sources: Sources) -> dict[str, Seam]:
    """Every seam that we use in this release, as it looks there."""
    observed = {}
    for name in used_seams(sources):
        seam = sources.describe(name)
        if seam is not None:
            observed[name] = seam
    return observed


def recorded() -> dict[str, dict[str, Seam]]:
    """Major version -> seam -> how it looked."""
    if not RECORD.exists():
        return {}
    versions: dict[str, dict[str, Seam]] = {}
    for group in json.loads(RECORD.read_text())['seams']:
        for major in group['cinder']:
            versions.setdefault(major, {})[group['name']] = Seam(
                group['signature'], group['digest']
            )
    return versions


def record(releases: dict[str, dict[str, Seam]]) -> None:
    """Write the releases given, and keep the rest of the record. Releases in
    which a seam looks alike share an entry.
    """
    versions = {**recorded(), **releases}
    groups: dict[tuple[str, Seam], list[str]] = {}
    for major in sorted(versions, key=int):
        for name, seam in versions[major].items():
            groups.setdefault((name, seam), []).append(major)
    entries = [
        {
            'name': name,
            'cinder': majors,
            'signature': seam.signature,
            'digest': seam.digest,
        }
        for (name, seam), majors in sorted(
            groups.items(), key=lambda item: (item[0][0], item[1])
        )
    ]
    RECORD.write_text(json.dumps({'seams': entries}, indent=1) + '\n')


def main() -> int:
    parser = argparse.ArgumentParser(
        description='Record how the seams look that our classes use in Cinder.'
    )
    parser.add_argument('--record', action='store_true', required=True)
    parser.add_argument(
        'wheels',
        nargs='*',
        help='wheels of Cinder; without any, the one installed',
    )
    arguments = parser.parse_args()
    releases = [Sources.of_wheel(path) for path in arguments.wheels] or [
        Sources.installed()
    ]
    record({sources.major: observe(sources) for sources in releases})
    for sources in releases:
        print(f'Cinder {sources.version}: {len(observe(sources))} seams')
    return 0


if __name__ == '__main__':
    sys.exit(main())
