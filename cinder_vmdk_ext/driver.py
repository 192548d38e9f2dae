# SPDX-License-Identifier: Apache-2.0
"""The Cinder volume driver: upstream's, with one pool per datastore.

The class is put together from one class for each kind of operation, all on
:class:`cinder_vmdk_ext.wiring.WiredDriver`.
"""

from cinder import interface

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.volumes import ahead
from cinder_vmdk_ext.volumes import attach
from cinder_vmdk_ext.volumes import failclosed
from cinder_vmdk_ext.volumes import groups
from cinder_vmdk_ext.volumes import images
from cinder_vmdk_ext.volumes import keeping
from cinder_vmdk_ext.volumes import manage
from cinder_vmdk_ext.volumes import reconcile
from cinder_vmdk_ext.volumes import spread

# Cinder's hooks that change volumes' VMs, or copy what others must not change
# meanwhile, and their parameters that tell which. Attaching locks only where
# it changes something; what a group does, it does to each of its volumes.
_ALONE = {
    'create_cloned_volume': ('src_vref',),
    'create_volume_from_snapshot': ('snapshot',),
    'copy_image_to_volume': ('volume',),
    'copy_volume_to_image': ('volume',),
    'create_snapshot': ('snapshot',),
    'delete_snapshot': ('snapshot',),
    'revert_to_snapshot': ('volume',),
    'extend_volume': ('volume',),
    'retype': ('volume',),
    'migrate_volume': ('volume',),
    'update_migrated_volume': ('volume', 'new_volume'),
    'accept_transfer': ('volume',),
    'unmanage': ('volume',),
    'delete_volume': ('volume',),
}

# And what they want to know of the VMs that they look up, read as they do.
_HARDWARE = 'config.hardware.device'
_AHEAD = {
    'create_cloned_volume': (_HARDWARE, 'datastore'),
    'create_volume_from_snapshot': (_HARDWARE, 'snapshot', 'datastore'),
    'create_snapshot': ('snapshot', 'datastore'),
    'delete_snapshot': ('snapshot',),
    'revert_to_snapshot': ('snapshot',),
    'extend_volume': (_HARDWARE, 'snapshot'),
    'retype': (_HARDWARE, 'snapshot', 'datastore'),
    'migrate_volume': (_HARDWARE, 'datastore'),
    'initialize_connection': ('datastore', 'runtime.host'),
}


@interface.volumedriver
@state.noting(*state.HOOKS)
@locks.holding(_ALONE)
@ahead.reading(_AHEAD)
@spread.holding(*spread.CHOOSING)
class VmdkExtDriver(keeping.Keeping, reconcile.Healing, manage.Adoption,
                    failclosed.FailClosed, spread.Spread, images.Images,
                    attach.Connections, groups.Groups):
    """VMDK volumes in vCenter, one scheduler pool per datastore.

    Several cinder-volume services of one cluster may serve one backend: what
    they share is in Cinder's database and the vCenter, under its locks.

    .. code-block:: default

      0.1.0 - one pool per datastore, placement on the scheduler's pool
    """

    VERSION = '0.1.0'
    SUPPORTS_ACTIVE_ACTIVE = True

    @classmethod
    def clean_volume_file_locks(cls, volume_id: str) -> None:
        """Remove a deleted volume's lock from disk (Cinder hook)."""
        locks.forget_volume(volume_id)
