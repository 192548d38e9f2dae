# SPDX-License-Identifier: Apache-2.0
"""Checks the ``vmware:`` extra specs of volume types, and their values."""

import difflib
from collections.abc import Callable
from collections.abc import Mapping
from typing import NamedTuple

from cinder_vmdk_ext import exceptions

THICK = frozenset({'thick', 'eagerZeroedThick'})

_VALUES = {
    'vmware:vmdk_type': ('thin', 'thick', 'eagerZeroedThick'),
    'vmware:adapter_type': ('lsiLogic', 'busLogic', 'lsiLogicsas',
                            'paraVirtual', 'ide'),
    'vmware:clone_type': ('full', 'linked'),
}
POLICY = 'vmware:storage_profile'
ADAPTER = 'vmware:adapter_type'
_SCOPE = 'vmware:'
_KNOWN = (*_VALUES, POLICY)


def check(specs: Mapping[str, str],
          policy_names: Callable[[], list[str]]) -> None:
    """Check those extra specs of a volume type that are for this driver.

    :param policy_names: returns the names of the vCenter's storage policies;
        called only if the type names a policy
    :raises InvalidExtraSpec: for the first spec whose key or value is unknown
    """
    for spec in sorted(specs):
        if spec not in _KNOWN and _is_scoped(spec):
            raise exceptions.InvalidExtraSpec(spec, specs[spec], _meant(spec))
    for spec, values in _VALUES.items():
        value = specs.get(spec)
        if value is not None and value not in values:
            raise exceptions.InvalidExtraSpec(
                spec, value, f'set it to one of {", ".join(values)}')
    policy = specs.get(POLICY)
    if policy:
        known = policy_names()
        if policy not in known:
            raise exceptions.InvalidExtraSpec(
                POLICY, policy, 'name a storage policy of the vCenter: '
                f'{", ".join(known) or "it has none"}')


class Description(NamedTuple):
    """What an operator has to know of an extra spec."""

    meaning: str
    values: tuple[str, ...] = ()  # none: free text
    default: str | None = None  # None: it depends on the volume


def described() -> dict[str, Description]:
    """The meaning of each spec, its values, and its default."""
    return {
        'vmware:vmdk_type': Description(
            'How the disk takes space on its datastore',
            _VALUES['vmware:vmdk_type'], 'thin'),
        'vmware:adapter_type': Description(
            'The controller of the disk', _VALUES['vmware:adapter_type']),
        'vmware:clone_type': Description(
            'Whether clones share the disk they come from',
            _VALUES['vmware:clone_type'], 'full'),
        POLICY: Description('The name of a storage policy of the vCenter'),
    }


def _is_scoped(spec: str) -> bool:
    return ''.join(spec.split()).lower().startswith(_SCOPE)


def _meant(spec: str) -> str:
    near = difflib.get_close_matches(''.join(spec.split()), _KNOWN, 1)
    return ('no such key is known; '
            + (f'write {near[0]}, or ' if near else '')
            + f'remove it (the known keys are {", ".join(_KNOWN)})')


def is_thin(specs: Mapping[str, str]) -> bool:
    """Whether volumes of a type with these specs have thin disks."""
    return specs.get('vmware:vmdk_type', 'thin') not in THICK
