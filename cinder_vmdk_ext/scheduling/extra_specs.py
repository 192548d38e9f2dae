# SPDX-License-Identifier: Apache-2.0
"""The ``vmware:`` extra specs of volume types, and which values they take."""

import difflib
from collections.abc import Callable
from collections.abc import Mapping

from cinder_vmdk_ext import exceptions

THICK = frozenset({'thick', 'eagerZeroedThick'})

_VALUES = {
    'vmware:vmdk_type': ('thin', 'thick', 'eagerZeroedThick'),
    'vmware:adapter_type': ('lsiLogic', 'busLogic', 'lsiLogicsas',
                            'paraVirtual', 'ide'),
    'vmware:clone_type': ('full', 'linked'),
}
POLICY = 'vmware:storage_profile'
_SCOPE = 'vmware:'
_KNOWN = (*_VALUES, POLICY)


def check(specs: Mapping[str, str],
          policy_names: Callable[[], list[str]]) -> None:
    """Check the extra specs of a volume type that are meant for this driver.

    :param policy_names: gives the vCenter's storage policies; only asked when
        the type names one
    :raises InvalidExtraSpec: for the first spec that means nothing, by its
        key or by its value
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


def described() -> dict[str, tuple[str, tuple[str, ...]]]:
    """What each spec decides, and the values it takes (none: free text)."""
    return {
        'vmware:vmdk_type': ('How the disk takes space on its datastore',
                             _VALUES['vmware:vmdk_type']),
        'vmware:adapter_type': ('The controller of the disk',
                                _VALUES['vmware:adapter_type']),
        'vmware:clone_type': ('Whether clones share the disk they come from',
                              _VALUES['vmware:clone_type']),
        POLICY: ('The name of a storage policy of the vCenter', ()),
    }


def _is_scoped(spec: str) -> bool:
    return ''.join(spec.split()).lower().startswith(_SCOPE)


def _meant(spec: str) -> str:
    near = difflib.get_close_matches(''.join(spec.split()), _KNOWN, 1)
    return ('no such key is known; '
            + (f'write {near[0]}, or ' if near else '')
            + f'remove it (known are {", ".join(_KNOWN)})')


def is_thin(specs: Mapping[str, str]) -> bool:
    """Whether volumes of a type with these specs take space as they grow."""
    return specs.get('vmware:vmdk_type', 'thin') not in THICK
