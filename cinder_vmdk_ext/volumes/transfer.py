# SPDX-License-Identifier: Apache-2.0
"""Moves a volume and its snapshots to the project that accepts it."""

from typing import Any

from cinder import objects

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import snapshots as volume_snapshots


class Transfer:
    """Moves shadow VMs and templates to the folders of a new project."""

    def __init__(self, cinder: upstream.Upstream,
                 finder: backing_finder.Finder,
                 snapshots: volume_snapshots.Snapshots) -> None:
        self._upstream = cinder
        self._finder = finder
        self._snapshots = snapshots

    def accept(self, context: Any, volume: Any, new_user: str,
               new_project: str) -> None:
        """Move a volume and its templates to its new project's folders.

        This is Cinder's hook ``accept_transfer``.

        :raises BackingLost: the volume's disk, or a template or its disk, is
            gone; nothing was moved
        """
        backing = self._finder.with_file(volume)
        if not backing:
            return
        # The snapshots belong to the old project until this hook returns.
        templates = [
            (snapshot, self._snapshots.template_with_file(snapshot))
            for snapshot in objects.SnapshotList.get_all_for_volume(
                context.elevated(), volume['id'])
            if snapshot.provider_location]
        self._upstream.original.accept_transfer(context, volume, new_user,
                                                new_project)
        if not templates:
            return
        ops = self._upstream.volumeops
        folder = self._upstream.volume_folder(ops.get_dc(backing),
                                              new_project, snapshot=True)
        for snapshot, template in templates:
            ops.move_backing_to_folder(template, folder)
            snapshot.provider_location = ops.get_inventory_path(template)
            snapshot.save()
