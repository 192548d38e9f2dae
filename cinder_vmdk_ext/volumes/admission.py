# SPDX-License-Identifier: Apache-2.0
"""Checks a new volume's encryption, size and type before it is made.

``@hook(makes=True)`` calls :meth:`Admission.check_new` before anything is
locked, read or made. What is refused here would be refused on every other
pool too, so the errors are of classes after which Cinder's scheduler does not
try another pool.
"""

import functools
from typing import Any

from oslo_log import log as logging

from cinder import context as cinder_context
from cinder.volume import volume_types

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import datastore_selection

LOG = logging.getLogger(__name__)

#: vSphere's limit for a virtual disk: 62 TiB ("Configuration Maximums").
MOST_GIB = 62 * 1024

_BACK_END = ('back-end', 'both')


class Admission:
    """Refuses requests for volumes that this driver cannot make."""

    def __init__(self, selection: datastore_selection.DatastoreSelection
                 ) -> None:
        self._selection = selection
        # Ids of the types whose QoS specs have been warned about.
        self._warned: set[str] = set()

    def check_new(self, volume: Any) -> None:
        """Check a volume that is to be made, or whose content is replaced.

        :raises VolumeRefused: its encryption or its size is not possible
        :raises InvalidExtraSpec: an extra spec of its type names something
            that does not exist
        """
        self.check_size(volume['size'])
        if volume.get('encryption_key_id'):
            raise exceptions.EncryptionRefused(
                f'volume {volume["id"]} is to be encrypted by Cinder or Nova, '
                'which this driver cannot do')
        self.check_type(volume.get('volume_type_id'))

    def check_type(self, type_id: str | None) -> None:
        """Check a volume type; warn once about QoS specs without effect.

        :raises EncryptionRefused: the type has encryption
        :raises InvalidExtraSpec: an extra spec names something that does not
            exist
        """
        if not type_id:
            return
        if volume_types.is_encrypted(cinder_context.get_admin_context(),
                                     type_id):
            raise exceptions.EncryptionRefused(
                f'volume type {type_id} has encryption by Cinder or Nova, '
                'which this driver cannot do')
        self._selection.check_specs(functools.partial(
            self._selection.specs_of, type_id))
        self._warn_of_qos(type_id)

    def _warn_of_qos(self, type_id: str) -> None:
        if type_id in self._warned:
            return
        specs = volume_types.get_volume_type_qos_specs(type_id)['qos_specs']
        if specs and specs['consumer'] in _BACK_END:
            self._warned.add(type_id)
            LOG.warning(
                'The QoS specs %(name)s of volume type %(type)s have no '
                'effect: this driver does not enforce QoS specs of any '
                'consumer (here: %(consumer)s); set vmware:storage_profile to '
                'a storage policy with I/O limits.',
                {'name': specs['name'], 'type': type_id,
                 'consumer': specs['consumer']})

    @staticmethod
    def check_size(size_gib: int) -> None:
        """Check a size in GiB before the vCenter gets it.

        :raises VolumeRefused: it exceeds vSphere's limit for a virtual disk
        """
        if size_gib > MOST_GIB:
            raise exceptions.VolumeRefused(
                f'{size_gib} GiB are requested; a virtual disk of vSphere has '
                f'at most {MOST_GIB} GiB (62 TiB): request a smaller size')

    @staticmethod
    def check_plain(volume: Any) -> None:
        """Refuse to hand out a disk that Cinder records as encrypted.

        Upstream's driver made such volumes and did not encrypt their content.

        :raises EncryptionRefused: with a way to keep the content
        """
        if volume.get('encryption_key_id'):
            raise exceptions.EncryptionRefused(
                f'volume {volume["id"]} is recorded as encrypted, but the '
                'content of its disk is not encrypted', 'clone it to a volume '
                'of a type without encryption, which keeps the content. ')
