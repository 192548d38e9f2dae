# SPDX-License-Identifier: Apache-2.0
"""Snapshots, in both of upstream's formats.

``COW`` snapshots are vSphere's own, a tree inside the shadow VM. A
``template`` is a full copy that stands by itself; it is what an attached
volume gets in either format, since the instance keeps the disk locked.
"""

import re
from typing import Any

from oslo_log import log as logging
from oslo_utils import uuidutils

from cinder import exception
from cinder import objects
from cinder.volume.drivers.vmware import vmdk
from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions

LOG = logging.getLogger(__name__)

SNAPSHOT_ID = 'cinder.snapshot.id'
_NOT_IN_XML = re.compile('[^\t\n\r\u0020-\ud7ff\ue000-\ufffd'
                         '\U00010000-\U0010ffff]')


def sendable(text: str | None) -> str | None:
    """A tenant's text, without characters that no message can hold."""
    return text and _NOT_IN_XML.sub('\ufffd', text)


class Snapshots(finder.Exchange):
    """Create, delete and revert snapshots."""

    def create_snapshot(self, snapshot: Any) -> dict[str, Any]:
        """Take a snapshot (Cinder hook).

        :returns: ``provider_id`` tells whether there was a disk to take it
            of; ``provider_location`` is a template's inventory path
        :raises BackingLost: the volume's disk is gone
        :raises InvalidVolume: the tree of COW snapshots is as deep as allowed
        """
        volume = snapshot['volume']
        backing = self._existing_backing(volume)
        if not backing:
            # Of an empty disk that was never made.
            return {'provider_id': state.PROMISED}
        in_use = self._in_use(volume)
        if self.configuration.vmware_snapshot_format == 'COW' and not in_use:
            self._check_depth(volume, backing)
            self.volumeops.create_snapshot(
                backing, snapshot['name'],
                sendable(snapshot['display_description']))
            return {'provider_id': state.BACKED}
        return {'provider_location': self._create_template(
                    snapshot, volume, backing, in_use),
                'provider_id': state.BACKED}

    def _check_depth(self, volume: Any, backing: Any) -> None:
        deepest = self.configuration.vmdk_ext_max_snapshot_depth
        depth = self.volumeops.snapshot_depth(backing)
        if depth >= deepest:
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} has a chain of {depth} '
                'snapshots, as many as vmdk_ext_max_snapshot_depth allows; '
                'delete some of them first')

    def _create_template(self, snapshot: Any, volume: Any, backing: Any,
                         in_use: bool, moment: Any = None) -> str:
        """:param moment: a snapshot of the instance, to be copied from"""
        source, only_disk = backing, None
        if in_use:
            source, disk = self._attached_disk(volume)
            only_disk = disk.uuid
            datastore = self._datastore_ref(disk.datastore)
        else:
            datastore = self.volumeops.get_datastore(backing)
        template = self.volumeops.clone(
            snapshot['name'], source,
            folder=self._get_volume_group_folder(
                self.volumeops.get_dc(datastore), volume['project_id'],
                snapshot=True),
            datastore=datastore,
            extra_config={upstream.BACKING_UUID_KEY: snapshot['id'],
                          SNAPSHOT_ID: snapshot['id'],
                          disk_scan.SOURCE_VOLUME: volume['id'],
                          # Else it would pass for the volume's own VM.
                          vmdk.EXTRA_CONFIG_VOLUME_ID_KEY: ''},
            snapshot=moment, only_disk=only_disk, template=True)
        try:
            return self.volumeops.get_inventory_path(template)
        except Exception:
            self._discard(template)
            raise

    def _template(self, snapshot: Any) -> Any:
        """The template of a snapshot; None when it is certainly gone."""
        found = self.volumeops.get_backing_by_uuid(snapshot['id'])
        if found:
            return found
        # Templates of upstream's driver carry no UUID of theirs. Their path
        # ends in the snapshot's name, which holds its id: whatever is found
        # there can be no other.
        path = snapshot['provider_location']
        if path.rpartition('/')[2] != snapshot['name']:
            return None
        return self.volumeops.get_entity_by_inventory_path(path)

    def _existing_template(self, snapshot: Any) -> Any:
        template = self._template(snapshot)
        if not template:
            raise exceptions.BackingLost(
                'snapshot', snapshot['id'], snapshot['provider_location'])
        return template

    def _existing_snapshot(self, backing: Any, snapshot: Any) -> Any:
        found = self.volumeops.get_snapshot(backing, snapshot['name'])
        if not found:
            raise exceptions.BackingLost('snapshot', snapshot['id'],
                                         snapshot['volume'].host)
        return found

    def delete_snapshot(self, snapshot: Any) -> None:
        """Delete a snapshot; one that is gone already is deleted (Cinder).

        :raises BackingLost: the volume that holds it is gone
        :raises InvalidSnapshot: it lies below an attached disk
        """
        if snapshot['provider_location']:
            template = self._template(snapshot)
            if template:
                self.volumeops.delete_backing(template)
            return
        volume = snapshot['volume']
        backing = self._existing_backing(volume)
        if not backing:
            deleted = False
        elif not self._in_use(volume):
            deleted = self.volumeops.delete_snapshot(backing,
                                                     snapshot['name'])
        elif self.volumeops.get_snapshot(backing, snapshot['name']):
            raise exception.InvalidSnapshot(
                reason=f'snapshot {snapshot["id"]} lies below the disk of '
                f'volume {volume["id"]}, which is attached; detach the '
                'volume first')
        else:
            deleted = False
        if not deleted:
            self._delete_unfinished(snapshot)

    def _delete_unfinished(self, snapshot: Any) -> None:
        """Delete a template of which Cinder was never told."""
        if getattr(snapshot, 'provider_id', state.BACKED) is None:
            template = self.volumeops.get_backing_by_uuid(snapshot['id'])
            if template:
                self.volumeops.delete_backing(template)

    def snapshot_revert_use_temp_snapshot(self) -> bool:
        """Whether Cinder must save the volume before a revert: it need not.

        The volume stays as it is until the revert is complete.
        """
        return False

    def revert_to_snapshot(self, context: Any, volume: Any,
                           snapshot: Any) -> None:
        """Bring back a snapshot's content (Cinder hook).

        :raises BackingLost: the volume's disk or the snapshot is gone
        :raises InvalidSnapshot: a template cannot replace a disk on which
            COW snapshots depend
        :raises InvalidVolume: the volume is attached
        """
        backing = self._existing_backing(volume)
        if not backing:
            return
        if self._in_use(volume):
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} is attached, and its instance '
                'would go on with the old disk; detach it first')
        if not snapshot['provider_location']:
            self._existing_snapshot(backing, snapshot)
            self.volumeops.revert_to_snapshot(backing, snapshot['name'])
            return
        template = self._existing_template(snapshot)
        if self.volumeops.snapshots(backing):
            raise exception.InvalidSnapshot(
                reason=f'volume {volume["id"]} also has COW snapshots, which '
                'would be lost; delete them first')
        (host, pool, folder, summary) = self._select_ds_for_volume(volume)
        new = self.volumeops.clone(
            f'{volume["name"]}-revert-{uuidutils.generate_uuid()}', template,
            folder=folder, datastore=summary.datastore, host=host,
            resource_pool=pool, provisioning=self._get_disk_type(volume),
            profile_id=self._profile_id(volume),
            extra_config={SNAPSHOT_ID: ''})
        self._finish(volume, new)
        self._replace(volume, backing, new)

    def accept_transfer(self, context: Any, volume: Any, new_user: str,
                        new_project: str) -> None:
        """Put a volume, and its templates, in its new project's folder."""
        backing = self._existing_backing(volume)
        if not backing:
            return
        super().accept_transfer(context, volume, new_user, new_project)
        templated = [
            snapshot for snapshot in
            objects.SnapshotList.get_all_for_volume(context, volume['id'])
            if snapshot.provider_location]
        if not templated:
            return
        folder = self._get_volume_group_folder(
            self.volumeops.get_dc(backing), new_project, snapshot=True)
        for snapshot in templated:
            template = self._existing_template(snapshot)
            self.volumeops.move_backing_to_folder(template, folder)
            snapshot.provider_location = self.volumeops.get_inventory_path(
                template)
            snapshot.save()
