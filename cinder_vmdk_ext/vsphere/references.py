# SPDX-License-Identifier: Apache-2.0
"""References to the vCenter's managed objects: the one type that there is."""

import operator
from typing import NamedTuple


class _Ref(NamedTuple):
    type: str
    value: str


class Ref(_Ref):
    """A reference to a managed object (ManagedObjectReference)."""

    __slots__ = ()
    # The type, as oslo.vmware and upstream's driver ask for it.
    _type = property(operator.itemgetter(0))
