# SPDX-License-Identifier: Apache-2.0
"""Creates volumes, each on the pool that its host field names."""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import operation
from cinder_vmdk_ext.scheduling import reservations as space
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import compliance as compliances
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import qos
from cinder_vmdk_ext.volumes import replace

LOG = logging.getLogger(__name__)


class Create:
    """Creates empty volumes, and the shadow VM of any volume."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 replacement: replace.Replacement,
                 reservations: space.Reservations,
                 compliance: compliances.Compliance,
                 limits: qos.DiskLimits) -> None:
        self._upstream = cinder
        self._selection = selection
        self._replacement = replacement
        self._reservations = reservations
        self._compliance = compliance
        self._limits = limits

    def create(self, volume: Any) -> dict[str, Any]:
        """Create a volume on a datastore of the pool in its host field.

        With ``vmware_lazy_create`` the pool promises the space, and the disk
        is created at first use.

        :raises NoPlacement: with the reason for each datastore considered
        """
        if self._upstream.configuration.vmware_lazy_create:
            self._upstream.verify_volume_creation(volume)
            return self.promise(volume)
        self._upstream.create_backing(volume)
        return {'provider_id': state.BACKED}

    def promise(self, volume: Any) -> dict[str, Any]:
        """The update of a volume whose disk is created at first use."""
        return {'provider_id': state.PROMISED,
                **self._selection.promised_place(volume)}

    def settle(self, volume: Any) -> None:
        """Call :meth:`compliance.Compliance.settle` for a copy."""
        self._compliance.settle(volume)

    def bars(self, volume: Any, datastore: Callable[[], str]) -> bool:
        """Call :meth:`compliance.Compliance.bars` for a linked clone."""
        needs = self._selection.needs(volume.get('volume_type_id'))
        return needs is not None and self._compliance.bars(
            needs, self._selection.pool_of(volume), datastore)

    def create_backing(self, volume: Any, host: Any = None,
                       create_params: Any = None) -> Any:
        """Create a volume's shadow VM, or a temporary one (upstream's seam).

        A volume that was promised on a pool that cannot hold it moves to
        another pool.

        :returns: the VM's reference
        """
        temporary = (create_params or {}).get(
            upstream.CREATE_PARAM_TEMP_BACKING)
        if temporary:
            # Upstream's name, an UUID, does not show an audit the owner.
            create_params = create_params | {
                upstream.CREATE_PARAM_BACKING_NAME: replace.temporary_name(
                    volume, 'image')}

        def make() -> Any:
            try:
                return self._upstream.original.create_backing(
                    volume, host, create_params)
            except exceptions.VMWARE_ERRORS:
                if not temporary:
                    self._discard_unfinished(volume)
                raise
        claims = operation.current().claims
        if not temporary and not (
                host is None and claims is not None and claims.settled
                and claims.volume_id == volume['id']):
            self._compliance.settle(volume, host)
        backing = self.where_space_is(volume, make)
        if state.is_promised(volume) and not temporary:
            state.remember(volume, state.BACKED)
            self._limits.note(volume)
        return backing

    def _discard_unfinished(self, volume: Any) -> None:
        """Delete a VM that was created but did not become the volume's."""
        ops = self._upstream.volumeops
        try:
            backing = ops.get_backing_by_uuid(volume['id'])
            # If the VM is complete, its disk too has the volume's id; one of
            # an earlier operation may hold data.
            if backing and (ops.is_unchecked(backing) or ops.disk_of(
                    backing).uuid.lower() != volume['id']):
                self._replacement.discard(backing)
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('A VM of volume %(volume)s may remain in the vCenter '
                        'until the volume is deleted: %(error)s',
                        {'volume': volume['id'], 'error': error})

    def where_space_is(self, volume: Any, make: Callable[[], Any]) -> Any:
        """Make a disk; try another datastore if the vCenter has no space.

        Only the datastores of the volume's pool are tried: a volume stays on
        the pool that the scheduler chose.
        """
        refused: frozenset[str] = frozenset()
        full: Exception | None = None
        while True:
            try:
                with self._reservations.operation(refused) as claims:
                    return make()
            except vmware_exceptions.NoDiskSpaceException as error:
                full = error
                if claims.datastores <= refused:
                    raise  # of a datastore that was selected earlier
                LOG.warning('Volume %(volume)s found no space on '
                            '%(datastores)s: %(error)s',
                            {'volume': volume['id'], 'error': error,
                             'datastores': ', '.join(claims.datastores)})
                refused |= claims.datastores
            except vmware_exceptions.ManagedObjectNotFoundException as error:
                # A folder may have been removed after it was looked up.
                if not self._upstream.volumeops.forget_folders():
                    raise
                LOG.info('Volume %(volume)s: its creation is repeated, and '
                         'its folders are looked up again: %(error)s',
                         {'volume': volume['id'], 'error': error})
            except exceptions.NoPlacement:
                if full is None:
                    raise
                raise full
