# SPDX-License-Identifier: Apache-2.0
"""The QoS specs of volume types, and what they ask of a virtual disk.

The keys are those of Nova's flavors for vSphere without ``quota:``, and
``total_iops_sec``, by which front ends name the limit. docs/qos.md lists them.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import virtual_devices as devices

#: Consumers of QoS specs for which this driver acts.
BACK_END = ('back-end', 'both')
LEAST_LIMIT = devices.LEAST_LIMIT
MOST = (1 << 31) - 1
LEVELS = devices.LEVELS
LEAST_SHARES, MOST_SHARES = devices.LEAST_SHARES, devices.MOST_SHARES

LIMIT, SAME_LIMIT = 'disk_io_limit', 'total_iops_sec'
RESERVATION = 'disk_io_reservation'
LEVEL, SHARES = 'disk_io_shares_level', 'disk_io_shares_share'
KEYS = (SAME_LIMIT, LIMIT, RESERVATION, LEVEL, SHARES)
# What front ends know beside total_iops_sec (Nova's libvirt driver).
_FRONT_END = tuple(
    f'{what}_{unit}_sec{suffix}' for what in ('total', 'read', 'write')
    for unit in ('iops', 'bytes')
    for suffix in ('', '_max', '_max_length', '_per_gb', '_per_gb_min')
) + ('size_iops_sec',)


def ignored(consumer: str, specs: Mapping[str, str]) -> list[str]:
    """The keys that Nova's VMware driver ignores, as it ignores all.

    :returns: keys that only a front end could act on
    """
    if consumer not in BACK_END:
        return sorted(specs)
    return sorted(key for key in specs if consumer == 'both'
                  and key in _FRONT_END and key not in KEYS)


def of_type(found: Mapping[str, Any] | None) -> devices.Allocation | None:
    """What the QoS specs of a volume type ask of a disk.

    :param found: as cinder.volume.volume_types.get_volume_type_qos_specs has
        them; None: the type has none
    :returns: as :func:`parse`
    :raises InvalidQosSpec: as :func:`parse`
    """
    return parse(found['name'], found['consumer'],
                 found['specs']) if found else None


def parse(name: str, consumer: str,
          specs: Mapping[str, str]) -> devices.Allocation | None:
    """What QoS specs ask of a disk.

    :param name: that of the QoS specs, for errors
    :returns: with None for what they do not say; None: they are for the
        front end alone, or say nothing
    :raises InvalidQosSpec: naming all unknown keys, or the value that is
        out of range
    """
    if consumer not in BACK_END:
        return None
    passed = ignored(consumer, specs)
    unknown = sorted(set(specs) - set(KEYS) - set(passed))
    if unknown:
        raise exceptions.InvalidQosSpec(
            name, f'vSphere has no {", ".join(unknown)} for a disk',
            _remedy(unknown))
    asked = {key: specs[key].strip() for key in KEYS if key in specs}
    found = devices.Allocation(
        _limit(name, asked), _number(name, asked, RESERVATION, 0, MOST),
        *_shares(name, asked))
    if (found.reservation and found.limit not in (None, -1)
            and found.reservation > (found.limit or 0)):
        raise exceptions.InvalidQosSpec(
            name, f'{RESERVATION} {found.reservation} is above the limit '
            f'{found.limit}', 'set it to the limit or less')
    return found if any(each is not None for each in found) else None


def _limit(name: str, asked: Mapping[str, str]) -> int | None:
    if (LIMIT in asked and SAME_LIMIT in asked
            and asked[LIMIT] != asked[SAME_LIMIT]):
        raise exceptions.InvalidQosSpec(
            name, f'{LIMIT} and {SAME_LIMIT} are the same limit, with two '
            'values', 'remove one')
    key = LIMIT if LIMIT in asked else SAME_LIMIT
    if asked.get(key) == '-1':
        return -1
    return _number(name, asked, key, LEAST_LIMIT, MOST, ', or -1 for none')


def _shares(name: str, asked: Mapping[str, str]
            ) -> tuple[str | None, int | None]:
    level = asked.get(LEVEL)
    if level is None:
        if SHARES not in asked:
            return None, None
        level = 'custom'
    if level in LEVELS:
        if SHARES in asked:
            raise exceptions.InvalidQosSpec(
                name, f'{SHARES} has no effect with {LEVEL} {level}',
                f'set {LEVEL} to custom, or remove {SHARES}')
        return level, LEVELS[level]
    if level != 'custom' or SHARES not in asked:
        raise exceptions.InvalidQosSpec(
            name, f'{LEVEL} has the value {level!r}',
            f'set it to one of {", ".join(LEVELS)}, or to custom with '
            f'{SHARES}')
    return level, _number(name, asked, SHARES, LEAST_SHARES, MOST_SHARES)


def _number(name: str, asked: Mapping[str, str], key: str, least: int,
            most: int, more: str = '') -> int | None:
    if key not in asked:
        return None
    text = asked[key]
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise exceptions.InvalidQosSpec(
            name, f'{key} has the value {asked[key]!r}',
            f'set it to a whole number from {least} to {most}{more}')
    return int(text)


def _remedy(unknown: list[str]) -> str:
    near = [found[0] for key in unknown if (
        found := difflib.get_close_matches(key.removeprefix('quota:'), KEYS,
                                           1))]
    return ((f'perhaps {", ".join(near)} is meant; ' if near else '')
            + f'known are {", ".join(KEYS)}')
