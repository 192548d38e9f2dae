# SPDX-License-Identifier: Apache-2.0
"""The one type of references to the vCenter's managed objects."""

import operator
from typing import NamedTuple


class _Ref(NamedTuple):
    type: str
    value: str


class Ref(_Ref):
    """A reference to a managed object (ManagedObjectReference)."""

    __slots__ = ()
    # The type, under the name that oslo.vmware and upstream's driver use.
    _type = property(operator.itemgetter(0))
