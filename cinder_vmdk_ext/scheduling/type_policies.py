# SPDX-License-Identifier: Apache-2.0
"""Finds the datastores that comply with the volume types' policies."""

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
    """Names of the storage policies of all volume types, sorted.

    Read from Cinder's database.
    """
    types = volume_types.get_all_types(cinder_context.get_admin_context())
    asked = (found['extra_specs'].get(extra_specs.POLICY)
             for found in types.values())
    return tuple(sorted({name for name in asked if name}))


class TypePolicies:
    """Which datastores comply with the storage policies of volume types.

    Only the report of statistics uses this. An operation asks for the policy
    of its own volume's type only.
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
        """Datastores (morefs) by policy, as read last; makes no call."""
        return self._known

    def refresh(self) -> bool:
        """Read the database and the vCenter, if the answers are too old.

        Never raises: a failure is logged, and the earlier answers are kept.

        :returns: whether any answer changed
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
            LOG.warning('The datastores that comply with storage policy '
                        '%(name)s, and with the policies after it, could not '
                        'be read; the earlier answers are kept: %(error)s',
                        {'name': name, 'error': error})
            found = {name: found.get(name, before.get(name, frozenset()))
                     for name in names if name in found or name in before}
        except Exception as error:  # whatever the database's driver raises
            LOG.warning('The storage policies of volume types could not be '
                        'read; the earlier ones are kept: %s', error)
            return False
        self._known = found
        return found != before
