# SPDX-License-Identifier: Apache-2.0
"""Parallel operations share the datastores out among themselves."""

import functools
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import create

LOG = logging.getLogger(__name__)

# Cinder's hooks in which a datastore may be chosen for a disk.
CHOOSING = (
    'create_volume', 'create_volume_from_snapshot', 'create_cloned_volume',
    'clone_image', 'copy_image_to_volume', 'copy_volume_to_image',
    'create_snapshot', 'revert_to_snapshot', 'extend_volume', 'retype',
    'migrate_volume', 'initialize_connection', 'manage_existing')


def holding(*hooks: str) -> Callable[[type], type]:
    """Have the space that is claimed in a method held until the method ends.

    For a class with a :class:`reservations.Reservations` at
    ``_reservations``.
    """
    def decorate(cls: type) -> type:
        for name in hooks:
            setattr(cls, name, _held(getattr(cls, name)))
        return cls
    return decorate


def _held(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def held(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._reservations.operation():
            return method(self, *args, **kwargs)
    return held


class Spread(create.Creation):
    """Goes on to the next datastore when one turns out to be full."""

    def _create_backing(self, volume: Any, host: Any = None,
                        create_params: Any = None) -> Any:
        make = super()._create_backing
        return self._where_space_is(
            volume, lambda: make(volume, host, create_params))

    def _copy(self, volume: Any, source: Any, **kwargs: Any) -> None:
        copy = super()._copy
        self._where_space_is(volume, lambda: copy(volume, source, **kwargs))

    def _where_space_is(self, volume: Any, make: Callable[[], Any]) -> Any:
        """Make a disk; elsewhere, if the vCenter has no space after all.

        Only what :meth:`_select_datastore` may choose from is tried: a volume
        stays on the pool that the scheduler chose.
        """
        refused: frozenset[str] = frozenset()
        full: Exception | None = None
        while True:
            try:
                with self._reservations.operation(refused) as operation:
                    return make()
            except vmware_exceptions.NoDiskSpaceException as error:
                full = error
                if operation.datastores <= refused:
                    raise  # a datastore that was chosen before this
                LOG.warning('Volume %(volume)s found no space on '
                            '%(datastores)s: %(error)s',
                            {'volume': volume['id'], 'error': error,
                             'datastores': ', '.join(operation.datastores)})
                refused |= operation.datastores
            except vmware_exceptions.ManagedObjectNotFoundException as error:
                # A folder, perhaps, that somebody removed since it was made.
                if not self.volumeops.forget_folders():
                    raise
                LOG.info('Volume %(volume)s is tried again in folders that '
                         'are found anew: %(error)s',
                         {'volume': volume['id'], 'error': error})
            except exceptions.NoPlacement:
                if full is None:
                    raise
                raise full
