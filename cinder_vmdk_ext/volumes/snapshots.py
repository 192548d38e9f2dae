# SPDX-License-Identifier: Apache-2.0
"""Creates, deletes and reverts to snapshots, in upstream's two formats.

A ``COW`` snapshot is a vSphere snapshot of the shadow VM. A ``template`` is an
independent full copy. An attached volume always gets a template, whatever the
format, because the instance locks its disk.
"""

import re
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_utils import units

from cinder import exception

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import instance_copy
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import references

LOG = logging.getLogger(__name__)

_NOT_IN_XML = re.compile('[^\t\n\r\u0020-\ud7ff\ue000-\ufffd'
                         '\U00010000-\U0010ffff]')


def sendable(text: str | None) -> str | None:
    """A tenant's text; U+FFFD replaces characters that XML cannot hold."""
    return text and _NOT_IN_XML.sub('\ufffd', text)


class Snapshots:
    """Creates, deletes and reverts to snapshots."""

    def __init__(self, cinder: upstream.Upstream,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement,
                 attached: instance_copy.InstanceCopy,
                 specs: Callable[[Any], dict[str, str]]) -> None:
        """:param specs: returns the extra specs of a volume's type"""
        self._upstream = cinder
        self._finder = finder
        self._replacement = replacement
        self._instance_copy = attached
        self._specs = specs

    @property
    def _ops(self) -> Any:
        return self._upstream.volumeops

    def create(self, snapshot: Any) -> dict[str, Any]:
        """Take a snapshot (Cinder's hook).

        :returns: the update; ``provider_id`` records whether the volume had a
            disk, ``provider_location`` is a template's inventory path
        :raises BackingLost: the volume's disk is gone
        :raises InvalidVolume: the chain of COW snapshots has reached
            ``vmdk_ext_max_snapshot_depth``
        """
        volume = snapshot['volume']
        backing = self._finder.existing(volume)
        if not backing:
            # The volume is empty: its disk was never made.
            return {'provider_id': state.PROMISED}
        in_use = self._upstream.in_use(volume)
        cow = self._upstream.configuration.vmware_snapshot_format == 'COW'
        if cow and not in_use:
            self._check_depth(volume, backing)
            self._make_dependent(backing)
            self._ops.create_snapshot(
                backing, snapshot['name'],
                sendable(snapshot['display_description']))
            return {'provider_id': state.BACKED}
        return {'provider_location': self.create_template(
                    snapshot, volume, backing, in_use),
                'provider_id': state.BACKED}

    def _make_dependent(self, backing: Any) -> None:
        """Make an independent disk dependent, so that snapshots include it.

        vSphere takes a snapshot of its VM in any case, but without the disk.
        """
        disk = self._ops.disk_of(backing)
        if disk.is_independent:
            self._ops.set_disk_mode(backing, disk, 'persistent')

    def _check_dependent(self, volume: Any, backing: Any) -> None:
        disk = self._ops.disk_of(backing)
        if disk.is_independent:
            raise exception.InvalidSnapshot(
                reason=f'the disk of volume {volume["id"]} is {disk.mode}, '
                'and snapshots of its VM do not include it; set the disk to '
                'persistent (dependent) in the vCenter')

    def _check_depth(self, volume: Any, backing: Any) -> None:
        deepest = self._upstream.configuration.vmdk_ext_max_snapshot_depth
        depth = self._ops.snapshot_depth(backing)
        if depth >= deepest:
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} has a chain of {depth} '
                'snapshots, as many as vmdk_ext_max_snapshot_depth allows; '
                'delete some of them first')

    def create_template(self, snapshot: Any, volume: Any, backing: Any,
                        in_use: bool, moment: Any = None) -> str:
        """Copy a volume's disk as a template.

        :param moment: the instance's snapshot whose content is copied; None:
            the present content
        :returns: the template's inventory path
        """
        marks = {upstream.BACKING_UUID_KEY: snapshot['id'],
                 shadow.SNAPSHOT_ID: snapshot['id'],
                 shadow.SOURCE_VOLUME: volume['id'],
                 # Otherwise it would count as the volume's own VM.
                 upstream.VOLUME_ID_KEY: ''}
        ops = self._ops
        template = (
            self._copy_attached(ops, snapshot, volume, backing, marks, moment)
            if in_use else self._copy_detached(ops, snapshot, volume, backing,
                                               marks))
        try:
            path: str = ops.get_inventory_path(template)
            return path
        except Exception:
            self._replacement.discard(template)
            raise

    def _copy_detached(self, ops: Any, snapshot: Any, volume: Any,
                       backing: Any, marks: dict[str, str]) -> Any:
        datastore = ops.get_datastore(backing)
        folder = self._upstream.volume_folder(
            ops.get_dc(datastore), volume['project_id'], snapshot=True)
        # Reading the disk would take a call more. A volume that others made
        # thin, though its type is thick, is counted too high until the
        # datastore is refreshed.
        thin = extra_specs.is_thin(self._specs(volume))
        with self._upstream.ds_sel.growing(
                datastore.value, volume['size'] * units.Gi, thin):
            return ops.clone(
                snapshot['name'], backing, folder=folder, datastore=datastore,
                extra_config=marks, template=True)

    def _copy_attached(self, ops: Any, snapshot: Any, volume: Any,
                       backing: Any, marks: dict[str, str],
                       moment: Any) -> Any:
        instance, disk = self._finder.attached_disk(volume)
        datastore = references.Ref('Datastore', disk.datastore)
        folder = self._upstream.volume_folder(
            ops.get_dc(datastore), volume['project_id'], snapshot=True)
        deployment = ops.deployment()
        with self._upstream.ds_sel.growing(
                datastore.value, volume['size'] * units.Gi, disk.thin):
            made = self._instance_copy.make(
                instance_copy.AttachedDisk(
                    instance, disk.uuid, ops.adapter_of(backing), moment),
                instance_copy.Target(
                    snapshot['name'], folder, datastore, marks | (
                        {shadow.DEPLOYMENT: deployment} if deployment
                        else {})))
        try:
            ops.mark_backing_as_template(made)
        except Exception:
            self._replacement.discard(made)
            raise
        return made

    def template(self, snapshot: Any) -> Any:
        """The template of a snapshot; None only if it is certainly gone."""
        found = self._ops.get_backing_by_uuid(snapshot['id'])
        if found:
            return found
        # A template of upstream's driver does not have the snapshot's id as
        # its UUID. Its path ends in the snapshot's name, which contains the
        # id, so that an object at this path is the right one.
        path = snapshot['provider_location']
        if path.rpartition('/')[2] != snapshot['name']:
            return None
        return (self._ops.get_entity_by_inventory_path(path)
                # Its folder may have been renamed or moved.
                or self._ops.template_named(snapshot['name']))

    def existing_template(self, snapshot: Any) -> Any:
        """The template of a snapshot.

        :raises BackingLost: it is gone
        """
        template = self.template(snapshot)
        if not template:
            raise exceptions.BackingLost(
                'snapshot', snapshot['id'], snapshot['provider_location'])
        return template

    def template_with_file(self, snapshot: Any) -> Any:
        """The template of a snapshot, after a check that its disk exists.

        For operations that would succeed without touching the disk.

        :raises BackingLost: the template, its disk, or a file of it is gone
        """
        template = self.existing_template(snapshot)
        self._check_files(snapshot, template)
        return template

    def explain_missing_file(self, snapshot: Any) -> None:
        """After a FileNotFound: check whether a snapshot's disk is missing.

        :raises BackingLost: the disk, or a file that it needs, is gone
        """
        if snapshot['provider_location']:
            holder = self.template(snapshot)
        else:
            backing = self._finder.find(snapshot['volume'])
            holder = backing and self._ops.get_snapshot(backing,
                                                        snapshot['name'])
        if holder:
            self._check_files(snapshot, holder)

    def _check_files(self, snapshot: Any, holder: Any) -> None:
        """:param holder: a template, or a snapshot in a VM's tree"""
        where = snapshot['provider_location'] or snapshot['volume']['host']
        try:
            path = self._ops.missing_file(holder)
        except exceptions.DISK_NOT_FOUND:
            raise exceptions.BackingLost(
                f'the disk of {holder.value}, of snapshot', snapshot['id'],
                where) from None
        if path is not None:
            raise exceptions.BackingLost(f'the file {path} of snapshot',
                                         snapshot['id'], where)

    def existing_in_tree(self, backing: Any, snapshot: Any) -> Any:
        """The COW snapshot in a shadow VM.

        :raises BackingLost: it is gone
        """
        found = self._ops.get_snapshot(backing, snapshot['name'])
        if not found:
            raise exceptions.BackingLost('snapshot', snapshot['id'],
                                         snapshot['volume'].host)
        return found

    def delete(self, snapshot: Any) -> None:
        """Delete a snapshot; it is no error if it is gone already.

        :raises BackingLost: the disk of its volume is gone
        :raises SnapshotIsBusy: an attached disk depends on it; Cinder then
            keeps the snapshot as it was
        """
        if snapshot['provider_location']:
            template = self.template(snapshot)
            if template:
                self._ops.delete_backing(template)
            return
        volume = snapshot['volume']
        backing = self._finder.existing(volume)
        if not backing:
            deleted = False
        elif not self._upstream.in_use(volume):
            deleted = self._ops.delete_snapshot(backing,
                                                snapshot['name'])
        elif self._ops.get_snapshot(backing, snapshot['name']):
            LOG.warning(
                'Snapshot %(snapshot)s is not deleted: the disk of volume '
                '%(volume)s, which is attached, depends on it; detach the '
                'volume first.', {'snapshot': snapshot['id'],
                                  'volume': volume['id']})
            raise exception.SnapshotIsBusy(snapshot_name=snapshot['name'])
        else:
            deleted = False
        if not deleted:
            self._delete_unfinished(snapshot)

    def _delete_unfinished(self, snapshot: Any) -> None:
        """Delete a template that Cinder has not recorded."""
        if getattr(snapshot, 'provider_id', state.BACKED) is None:
            template = self._ops.get_backing_by_uuid(snapshot['id'])
            if template:
                self._ops.delete_backing(template)

    def unmanage(self, snapshot: Any) -> None:
        """Leave a snapshot to the administrator (Cinder's hook).

        Nothing has to be changed: Cinder finds a snapshot by its name, which
        contains an id that Cinder then deletes. One of a volume that had no
        disk becomes an empty template, or nothing would be left to manage.

        :raises NoPlacement: with the reason for each datastore: the template
            fits on none
        """
        if not state.is_promised(snapshot):
            return
        volume = snapshot['volume']
        empty = self._empty(volume, 'unmanage', snapshot['volume_size'])
        try:
            self.create_template(snapshot, volume, empty, in_use=False)
        finally:
            self._replacement.discard(empty)

    def _empty(self, volume: Any, purpose: str, size_gib: int) -> Any:
        """A VM with an empty disk, as the volume's would be."""
        return self._upstream.create_backing(replace.Aside(
            # Or the volume's record would change.
            volume, purpose, size=size_gib, provider_id=state.BACKED))

    def revert(self, volume: Any, snapshot: Any) -> None:
        """Revert a volume to a snapshot's content (Cinder's hook).

        :raises BackingLost: the volume's disk or the snapshot is gone
        :raises InvalidSnapshot: a template cannot replace a disk on which
            COW snapshots depend
        :raises InvalidVolume: the volume is attached
        """
        backing = self._finder.existing(volume)
        if not backing:
            return
        if self._upstream.in_use(volume):
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} is attached, and its instance '
                'would continue to use the old disk; detach it first')
        adapter = copy_policy.adapter(self._specs(volume),
                                      self._ops.adapter_of(backing))
        if state.is_promised(snapshot):
            self._check_tree_is_empty(volume, backing)
            # The volume had no disk then: it was empty.
            new = self._empty(volume, 'revert', volume['size'])
        elif snapshot['provider_location']:
            template = self.existing_template(snapshot)
            self._check_tree_is_empty(volume, backing)
            new = self._copy_of(template, volume)
        else:
            self._finder.with_file(volume)
            self._check_files(snapshot,
                              self.existing_in_tree(backing, snapshot))
            self._check_dependent(volume, backing)
            self._ops.revert_to_snapshot(backing, snapshot['name'])
            # vSphere also reverted the VM's hardware; only content may change.
            self._ops.reconfigure_disk(backing, adapter=adapter)
            return
        self._replacement.finish(volume, new, adapter)
        self._replacement.replace(volume, backing, new)

    def _check_tree_is_empty(self, volume: Any, backing: Any) -> None:
        if self._ops.snapshots(backing):
            raise exception.InvalidSnapshot(
                reason=f'volume {volume["id"]} also has COW snapshots, which '
                'would be lost; delete them first')

    def _copy_of(self, template: Any, volume: Any) -> Any:
        (host, pool, folder, summary) = self._upstream.select_ds_for_volume(
            volume)
        return self._ops.clone(
            replace.temporary_name(volume, 'revert'), template,
            folder=folder, datastore=summary.datastore, host=host,
            resource_pool=pool, provisioning=self._upstream.disk_type(volume),
            profile_id=self._upstream.storage_profile_id(volume))
