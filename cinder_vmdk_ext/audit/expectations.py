# SPDX-License-Identifier: Apache-2.0
"""What volume types ask of the disks of their volumes."""

import functools
from typing import NamedTuple

from cinder.volume import volume_types

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import qos_specs


class Asked(NamedTuple):
    """What one type asks for."""

    adapter: str = ''  # '': it does not say
    #: Limit, reservation, level and number of shares; None: it does not say.
    io: tuple[object, ...] = ()
    policy: str = ''  # name of a storage policy; '': none


ANY = Asked()


class Expectations:
    """Reads each volume type once."""

    def __init__(self) -> None:
        #: What a type asks for, by its id.
        self.of = functools.cache(_asked)


def _asked(type_id: str | None) -> Asked:
    if not type_id:
        return ANY
    specs = volume_types.get_volume_type_extra_specs(type_id)
    return Asked(specs.get(extra_specs.ADAPTER) or '', _io(type_id),
                 specs.get(extra_specs.POLICY) or '')


def _io(type_id: str) -> tuple[object, ...]:
    try:
        asked = qos_specs.of_type(volume_types.get_volume_type_qos_specs(
            type_id)['qos_specs'])
    except exceptions.InvalidQosSpec:
        return ()  # every operation says so
    return tuple(asked) if asked else ()
