# SPDX-License-Identifier: Apache-2.0
"""Finds the code of Cinder and oslo.vmware that ours overrides or calls.

    python -m cinder_vmdk_ext.tests.contract.seams --record [WHEEL ...]

writes a description of each of these seams to seams.json: as it is in the
installed packages, or, for a complete new record, in the given wheels (`make
seams` gives one of each supported release). The seams, inherited ones too, are
found in our own sources, so a new override cannot be missing in the list.
"""

import argparse
import ast
import functools
import json
import pathlib
import sys
from collections.abc import Iterator
from collections.abc import Mapping

from cinder_vmdk_ext.tests.contract import sources
from tools import structure

PACKAGE = pathlib.Path(__file__).resolve().parents[2]
RECORD = pathlib.Path(__file__).with_name('seams.json')
DRIVER_PACKAGE = 'cinder.volume.drivers.vmware'

# Classes of upstream whose objects our code uses.
_DRIVER = f'{DRIVER_PACKAGE}.vmdk:VMwareVcVmdkDriver'
_VOLUMEOPS = f'{DRIVER_PACKAGE}.volumeops:VMwareVolumeOps'
_SELECTOR = f'{DRIVER_PACKAGE}.datastore:DatastoreSelector'
_SESSION = 'oslo_vmware.api:VMwareAPISession'
UPSTREAM_CLASSES = (_DRIVER, _VOLUMEOPS, _SELECTOR, _SESSION)

# Names by which upstream's own classes know each other. By what other names
# we reach their objects is found out: see reached().
COLLABORATORS = {
    'volumeops': _VOLUMEOPS, '_volumeops': _VOLUMEOPS,
    'ds_sel': _SELECTOR, '_ds_sel': _SELECTOR,
    'session': _SESSION, '_session': _SESSION,
    '_driver': f'{DRIVER_PACKAGE}.vmdk:VMwareVcVmdkDriver',
}

# Seams that our sources do not name, because it is upstream that calls
# through them into ours.
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

Record = dict[str, dict[str, sources.Piece]]
Modules = Mapping[str, ast.Module]

# What objects of Python's own types can do says nothing of an object's class.
_ORDINARY = frozenset(name for kind in (
    str, bytes, int, float, list, tuple, dict, set, frozenset, Exception)
    for name in dir(kind))


@functools.cache
def our_modules() -> dict[str, ast.Module]:
    """The plugin's modules by dotted name, without its tests."""
    modules = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        relative = path.relative_to(PACKAGE.parent).with_suffix('')
        if 'tests' not in relative.parts:
            name = '.'.join(relative.parts).removesuffix('.__init__')
            modules[name] = structure.parsed(path)
    return modules


def observe(release: sources.Sources,
            modules: Modules | None = None) -> dict[str, sources.Piece]:
    """Every seam that we use in this release, as it looks there."""
    modules = our_modules() if modules is None else modules
    names = {name for name in RELIED_ON if _is_in(name, release.package)}
    by_name = reached(release, modules)
    for module, tree in modules.items():
        names |= set(_used_by_name(tree, release, by_name))
        for node in structure.nodes(tree):
            if isinstance(node, ast.ClassDef):
                names |= set(_used_by_class(module, node, modules))
    described = {name: release.describe(name) for name in names
                 if _is_in(name, release.package)}
    return {name: piece for name, piece in described.items()
            if piece is not None}


def reached(release: sources.Sources, modules: Modules) -> dict[str, str]:
    """Names by which our code reaches objects of upstream's classes.

    `ops` is such a name where `ops.create_datastore_folder` is called, or
    `self.ops` or `ops()`, since only one class has a method of that name:
    upstream's, or ours that derives from it. So no list has to be kept.
    """
    telling = _telling(release, modules)
    found = dict(COLLABORATORS)
    for tree in modules.values():
        for node, owner in _uses(tree):
            if node.attr in telling:
                found.setdefault(owner, telling[node.attr])
    return found


def _telling(release: sources.Sources, modules: Modules) -> dict[str, str]:
    """Methods that only one class of upstream's has, and none of ours."""
    ours = set(_ORDINARY)
    for module, tree in modules.items():
        for node in structure.nodes(tree):
            if isinstance(node, ast.ClassDef) and not set(
                    UPSTREAM_CLASSES) & set(
                    _upstream_bases(module, node, modules)):
                ours |= {member.name for member in node.body
                         if isinstance(member, ast.FunctionDef)}
    methods = {
        each: {name for name, piece in release.members(each).items()
               if piece.signature.startswith(('(', '@'))}
        for each in UPSTREAM_CLASSES if _is_in(each, release.package)}
    return {name: each for each, names in methods.items()
            for name in names - ours
            if sum(name in others for others in methods.values()) == 1}


def _uses(tree: ast.AST) -> Iterator[tuple[ast.Attribute, str]]:
    """Attributes used of an object, and the last name that leads to it."""
    imported = sources.imported_names(tree)
    for node in structure.nodes(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value.func if isinstance(
            node.value, ast.Call) else node.value
        if isinstance(owner, ast.Attribute):
            yield node, owner.attr
        elif (isinstance(owner, ast.Name) and owner.id not in imported
              and not sources.is_self(owner) and owner.id != 'super'):
            yield node, owner.id


def _is_in(name: str, package: str) -> bool:
    return name.startswith(f'{package}.')


def _used_by_name(tree: ast.AST, release: sources.Sources,
                  by_name: Mapping[str, str]) -> Iterator[str]:
    """`vmdk.NAME`, `vmdk.Class.NAME`, and `x.volumeops.NAME` and its like."""
    imported = sources.imported_names(tree)
    for node in structure.nodes(tree):
        head, _, rest = (sources.dotted(node) or '').partition('.')
        if head in imported and rest:
            # The longest path that exists; beyond lie attributes of a value.
            longest = f'{imported[head]}:{".".join(rest.split(".")[:2])}'
            yield (longest if release.describe(longest)
                   else f'{imported[head]}:{rest.split(".")[0]}')
    for use, owner in _uses(tree):
        if owner in by_name:
            yield f'{by_name[owner]}.{use.attr}'


def _used_by_class(module: str, node: ast.ClassDef,
                   modules: Modules) -> Iterator[str]:
    """What a class of ours may override or use of those it derives from."""
    names = {member.name for member in node.body
             if isinstance(member, ast.FunctionDef)}
    names |= {inner.attr for inner in ast.walk(node)
              if isinstance(inner, ast.Attribute)
              and (sources.is_self(inner.value) or _is_super(inner.value))}
    for upstream in _upstream_bases(module, node, modules):
        yield from (f'{upstream}.{name}' for name in names)


def _upstream_bases(module: str, node: ast.ClassDef,
                    modules: Modules) -> Iterator[str]:
    """The classes that are not ours from which a class of ours derives."""
    for base_module, base_name in sources.bases(
            module, modules[module], node):
        ours = modules.get(base_module)
        if ours is None:
            yield f'{base_module}:{base_name}'
            continue
        for other in ours.body:
            if isinstance(other, ast.ClassDef) and other.name == base_name:
                yield from _upstream_bases(base_module, other, modules)


def _is_super(node: ast.AST) -> bool:
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == 'super')


def recorded() -> Record:
    """Release -> seam -> how it looked."""
    record: Record = {}
    for entry in json.loads(RECORD.read_text())['seams']:
        for release in entry['releases']:
            record.setdefault(release, {})[entry['name']] = sources.Piece(
                entry['signature'], entry['digest'])
    return record


def write(record: Record) -> None:
    """Releases in which a seam looks alike share an entry."""
    alike: dict[tuple[str, sources.Piece], list[str]] = {}
    for release in sorted(record):
        for name, piece in record[release].items():
            alike.setdefault((name, piece), []).append(release)
    entries = [
        {'name': name, 'releases': releases, 'signature': piece.signature,
         'digest': piece.digest}
        for (name, piece), releases in sorted(
            alike.items(), key=lambda item: (item[0][0], item[1]))]
    # One to a line, so that a change is easy to review.
    lines = ',\n'.join(json.dumps(entry) for entry in entries)
    RECORD.write_text(f'{{"seams": [\n{lines}\n]}}\n')


def main() -> int:
    parser = argparse.ArgumentParser(
        description='Record how the seams look that our classes use.')
    parser.add_argument('--record', action='store_true', required=True)
    parser.add_argument('wheels', nargs='*', help='wheels of Cinder and '
                        'oslo.vmware; without any, what is installed')
    wheels = parser.parse_args().wheels
    releases = ([sources.Sources.of_wheel(path) for path in wheels]
                or [sources.Sources.installed(package)
                    for package in sources.DISTRIBUTIONS])
    record = {} if wheels or not RECORD.exists() else recorded()
    for release in releases:
        record[release.release] = observe(release)
        print(f'{release.release} ({release.version}): '
              f'{len(record[release.release])} seams')
    write(record)
    return 0


if __name__ == '__main__':
    sys.exit(main())
