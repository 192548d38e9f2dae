# SPDX-License-Identifier: Apache-2.0
"""The storage policies that volume types ask for."""

import time
from collections.abc import Callable
from collections.abc import Mapping

from oslo_log import log as logging
from oslo_vmware import exceptions

from cinder import context as cinder_context
from cinder.volume import volume_types

from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext.scheduling import extra_specs

LOG = logging.getLogger(__name__)


def read() -> tuple[str, ...]:
    """Names of the policies of all volume types, sorted, from the database."""
    types = volume_types.get_all_types(cinder_context.get_admin_context())
    asked = (found['extra_specs'].get(extra_specs.POLICY)
             for found in types.values())
    return tuple(sorted({name for name in asked if name}))


class TypePolicies:
    """Which datastores comply with the policies of volume types.

    Only reports of statistics ask; operations pay for no type but their own.
    """

    def __init__(self, policies: inventory_reader.Policies,
                 lifetime_seconds: float,
                 read: Callable[[], tuple[str, ...]] = read,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._policies = policies
        self._lifetime_seconds = lifetime_seconds
        self._read = read
        self._clock = clock
        self._known: Mapping[str, frozenset[str]] = {}
        self._read_at: float | None = None

    def known(self) -> Mapping[str, frozenset[str]]:
        """Datastores (morefs) by policy, without a call."""
        return self._known

    def refresh(self) -> bool:
        """Ask the database and the vCenter anew, once their life is over.

        Never fails: what is not answered is logged, and what was known
        stands.

        :returns: whether anything is known otherwise now
        """
        now = self._clock()
        if self._read_at is not None and (
                now - self._read_at < self._lifetime_seconds):
            return False
        self._read_at = now
        before, found = self._known, {}
        try:
            names = self._read()
            for name in names:
                found[name] = self._policies.compliant_datastores(name)
        except exceptions.VMwareDriverException as error:
            LOG.warning('Which datastores comply with storage policy '
                        '%(name)s is not known, nor of the policies after '
                        'it; what was known stands: %(error)s',
                        {'name': name, 'error': error})
            found = {name: found.get(name, before.get(name, frozenset()))
                     for name in names if name in found or name in before}
        except Exception as error:  # whatever the database's driver raises
            LOG.warning('The storage policies of volume types cannot be '
                        'read; those known stand: %s', error)
            return False
        self._known = found
        return found != before
