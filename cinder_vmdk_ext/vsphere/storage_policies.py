# SPDX-License-Identifier: Apache-2.0
"""Storage policies (SPBM): their names, ids and compliant datastores."""

import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_vmware import exceptions
from oslo_vmware import pbm

LOG = logging.getLogger(__name__)

_DISKS_A_CALL = 1000


class PolicyDirectory:
    """Finds storage policies by name, with a short-lived cache.

    Compliance depends on tags and capabilities, which rarely change, and
    asking for it takes one PBM call for each policy.
    """

    def __init__(self, session: Any, lifetime_seconds: float,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._ids: dict[str, Any] = {}
        self._ids_at: float | None = None
        self._compliant: dict[str, tuple[float, frozenset[str]]] = {}

    def forget(self) -> None:
        """Empty the cache, so that the vCenter is asked again."""
        with self._lock:
            self._ids = {}
            self._ids_at = None
            self._compliant = {}

    def names(self, wanted: str | None = None) -> list[str]:
        """All storage policies of the vCenter, sorted.

        They are kept for the cache's lifetime. If ``wanted`` is not among
        them, the vCenter is asked again (PbmQueryProfile, PbmRetrieveContent).

        :raises VMwareDriverException: the vCenter does not answer
        """
        return sorted(self._known_ids(wanted))

    def policy_id(self, name: str) -> Any | None:
        """The PbmProfileId of a policy; None: no policy has that name.

        :raises VMwareDriverException: the vCenter does not answer
        """
        return self._known_ids(name).get(name)

    def _known_ids(self, wanted: str | None) -> dict[str, Any]:
        now = self._clock()
        with self._lock:
            ids, since = self._ids, self._ids_at
        if since is None or (wanted is not None and wanted not in ids):
            return self._refresh_ids()
        if now - since < self._lifetime_seconds:
            return ids
        try:
            return self._refresh_ids()
        except exceptions.VMwareDriverException as error:
            LOG.warning('The storage policies cannot be read; those known '
                        'stand: %s', error)
            with self._lock:
                self._ids_at = now
            return ids

    def compliant_datastores(self, name: str) -> frozenset[str]:
        """Datastores that comply with the policy (PbmQueryMatchingHub).

        Datastore clusters in the answer are skipped, since their members are
        in it too. A deleted policy has no compliant datastores. If the
        vCenter does not answer, its last answer is returned.

        :raises VMwareDriverException: the vCenter has never answered
        """
        now = self._clock()
        with self._lock:
            since, known = self._compliant.get(name, (None, frozenset()))
        if since is not None and now - since < self._lifetime_seconds:
            return known
        try:
            known = self._read_compliant(name)
        except exceptions.VMwareDriverException as error:
            if since is None:
                raise
            LOG.warning('The datastores of storage policy %(name)s cannot be '
                        'read; those known stand: %(error)s',
                        {'name': name, 'error': error})
        with self._lock:
            self._compliant[name] = now, known
        return known

    def _read_compliant(self, name: str) -> frozenset[str]:
        profile_id = self.policy_id(name)
        # None asks about all datastores of the vCenter in one call.
        hubs = pbm.filter_hubs_by_profile(
            self._session, None, profile_id) if profile_id else None
        return frozenset(hub.hubId for hub in hubs or ()
                         if hub.hubType == 'Datastore')

    def of_disks(self, disks: list[tuple[str, int]]
                 ) -> dict[tuple[str, int], frozenset[str]]:
        """Ids of the policies that disks have (PbmQueryAssociatedProfiles).

        :param disks: VM (moref) and device key of each
        :returns: a disk of which the vCenter knows nothing is left out
        :raises VMwareDriverException: the vCenter does not answer
        """
        pbm_service = self._session.pbm
        found = {}
        for start in range(0, len(disks), _DISKS_A_CALL):
            entities = []
            for vm, key in disks[start:start + _DISKS_A_CALL]:
                entity = pbm_service.client.factory.create(
                    'ns0:PbmServerObjectRef')
                entity.objectType, entity.key = 'virtualDiskId', f'{vm}:{key}'
                entities.append(entity)
            for each in self._session.invoke_api(
                    pbm_service, 'PbmQueryAssociatedProfiles',
                    pbm_service.service_content.profileManager,
                    entities=entities) or ():
                if getattr(each, 'fault', None) is None:
                    vm, _, number = each.object.key.partition(':')
                    found[vm, int(number)] = frozenset(
                        str(profile.uniqueId) for profile
                        in getattr(each, 'profileId', None) or ())
        return found

    def _refresh_ids(self) -> dict[str, Any]:
        now = self._clock()
        ids = {profile.name: profile.profileId
               for profile in pbm.get_all_profiles(self._session) or ()}
        with self._lock:
            self._ids, self._ids_at = ids, now
        return ids
