# SPDX-License-Identifier: Apache-2.0
"""Checks a new volume's encryption, size and type before it is made.

``@hook(makes=True)`` calls :meth:`Admission.check_new` before anything is
locked, read or made. What is refused here would be refused on every other
pool too, so the errors are of classes after which Cinder's scheduler does not
try another pool.
"""

from typing import Any

from oslo_log import log as logging

from cinder import context as cinder_context
from cinder.volume import volume_types

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import qos_specs
from cinder_vmdk_ext.volumes import datastore_selection

LOG = logging.getLogger(__name__)

#: vSphere's limit for a virtual disk: 62 TiB ("Configuration Maximums").
MOST_GIB = 62 * 1024


class Admission:
    """Refuses requests for volumes that this driver cannot make."""

    def __init__(self, selection: datastore_selection.DatastoreSelection
                 ) -> None:
        self._selection = selection
        # Ids of the types whose QoS specs have been warned about.
        self._warned: set[str] = set()

    def check_new(self, volume: Any) -> bool:
        """Check a volume that is to be made, or whose content is replaced.

        :returns: whether its type has QoS specs for this driver
        :raises VolumeRefused: its encryption or its size is not possible
        :raises InvalidExtraSpec: an extra spec of its type names something
            that does not exist
        :raises InvalidQosSpec: so does a QoS spec
        """
        self.check_size(volume['size'])
        if volume.get('encryption_key_id'):
            raise exceptions.EncryptionRefused(
                f'volume {volume["id"]} is to be encrypted by Cinder or Nova, '
                'which this driver cannot do')
        return self.check_type(volume.get('volume_type_id'))

    def check_type(self, type_id: str | None) -> bool:
        """Check a volume type; warn once about QoS specs without effect.

        :returns: whether it has QoS specs for this driver
        :raises EncryptionRefused: the type has encryption
        :raises InvalidExtraSpec: an extra spec names something that does not
            exist
        :raises InvalidQosSpec: so does a QoS spec
        """
        if not type_id:
            return False
        if volume_types.is_encrypted(cinder_context.get_admin_context(),
                                     type_id):
            raise exceptions.EncryptionRefused(
                f'volume type {type_id} has encryption by Cinder or Nova, '
                'which this driver cannot do')
        known = self._selection.check_specs(type_id)
        return bool(known['qos_specs_id']) and self._check_qos(
            type_id, datastore_selection.qos_specs_of(known))

    def _check_qos(self, type_id: str, found: dict[str, Any] | None) -> bool:
        if not found:
            return False
        name, consumer = found['name'], found['consumer']
        ignored = qos_specs.ignored(consumer, found['specs'])
        if ignored and type_id not in self._warned:
            self._warned.add(type_id)
            LOG.warning(
                'Of the QoS specs %(name)s of volume type %(type)s, %(keys)s '
                "have no effect: Nova's VMware driver ignores what is for "
                'the front end (consumer: %(consumer)s). Set the consumer to '
                'back-end, and keys of docs/qos.md.',
                {'name': name, 'type': type_id, 'keys': ', '.join(ignored),
                 'consumer': consumer})
        return qos_specs.parse(name, consumer, found['specs']) is not None

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
        Cinder's API neither clones them to another type nor unmanages them.

        :raises EncryptionRefused: with a way to keep the content
        """
        if volume.get('encryption_key_id'):
            raise exceptions.EncryptionRefused(
                f'volume {volume["id"]} is recorded as encrypted, but the '
                'content of its disk is not encrypted', 'an administrator can '
                'copy the disk (cinder-vmdk-ext vc disk copy), and manage the '
                'copy with a type without encryption (cinder manage). ')
