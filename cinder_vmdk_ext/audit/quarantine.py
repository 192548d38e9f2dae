# SPDX-License-Identifier: Apache-2.0
"""Moves findings to quarantine, restores them, or destroys them."""

from typing import Any

from oslo_utils import timeutils
from oslo_utils import uuidutils
from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.audit import aside
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import datastore_browser
from cinder_vmdk_ext.vsphere import references

# The key of a VM's instance UUID in volumeops.set_identity.
_UUID = 'instanceUuid'
_MARKS = (shadow.VOLUME_ID, shadow.SNAPSHOT_ID, shadow.REPLACED)


def due(findings: list[compare.Finding],
        minimum_age_seconds: float) -> list[compare.Finding]:
    """The findings that a sweep may move.

    A finding of unknown age counts as new.
    """
    return [each for each in findings
            if not why_not(each, minimum_age_seconds)]


def why_not(finding: compare.Finding, minimum_age_seconds: float) -> str:
    """Why a sweep does not move a finding; '': it may move it."""
    if finding.kind == 'quarantined':
        return 'it is in quarantine'
    if not finding.sweepable:
        return ('it may be needed, or it is not for a sweep: '
                + finding.detail)
    if (finding.age_seconds or 0.0) >= minimum_age_seconds:
        return ''
    return ('its age is unknown, so it counts as new'
            if finding.age_seconds is None
            else 'it is younger than --minimum-age')


class Quarantine:
    """Moves, restores and destroys one finding or item at a time."""

    def __init__(self, backend: Any) -> None:
        """:param backend: a Backend that is connected"""
        self._backend = backend
        self._ops = backend.volumeops

    # -- Into quarantine ----------------------------------------------------

    def move(self, finding: compare.Finding) -> None:
        """Move a VM or file to quarantine, or remove a temporary snapshot.

        A VM goes to the folder ``OpenStack/Quarantine`` of its datacenter, a
        template to a folder in that, a file to ``openstack-quarantine`` on
        its datastore. A temporary snapshot is consolidated
        (RemoveSnapshot_Task): the VM's content stays the same.

        :raises QuarantineRefused: the file's datastore is gone
        :raises VimException: by oslo.vmware
        """
        if finding.thing == 'file':
            self._move_file(finding)
        elif finding.thing == 'vm-snapshot':
            self._ops.delete_snapshot(
                references.Ref('VirtualMachine', finding.machine),
                finding.name)
        elif finding.thing == 'template':
            self._move_template(finding)
        else:
            self._move_machine(finding)

    def _record(self, finding: compare.Finding,
                **fields: Any) -> aside.Record:
        return aside.Record(finding.kind, finding.detail, aside.stamp(
            timeutils.utcnow(with_timezone=True)), **fields)

    def _folder(self, vm: Any, *below: str) -> Any:
        return self._ops.create_vm_inventory_folder(
            self._ops.get_dc(vm),
            ['OpenStack', compare.QUARANTINE_FOLDER, *below])

    def _move_machine(self, finding: compare.Finding) -> None:
        vm = _machine(finding.reference)
        folder = self._folder(vm)
        paths = [f'config.extraConfig["{mark}"]' for mark in _MARKS]
        seen = self._ops.properties(vm, 'parent', 'config.instanceUuid',
                                    *paths)
        parent = seen.get('parent')
        record = self._record(
            finding, origin=parent.value if parent else '',
            name=finding.name, uuid=seen.get('config.instanceUuid') or '',
            marks={mark: disk_scan.mark_of(seen, mark) for mark in _MARKS})
        # The driver must not find it as a volume's VM again, not even by its
        # name, as it finds volumes of old releases. It keeps Cinder's mark.
        self._ops.set_identity(vm, aside.aside_name(finding.name), {
            _UUID: uuidutils.generate_uuid(),
            **dict.fromkeys(_MARKS, ''),
            shadow.QUARANTINED: finding.owner,
            shadow.QUARANTINED_NAME: finding.name,
            shadow.QUARANTINE_RECORD: record.as_text()})
        self._ops.move_backing_to_folder(vm, folder)

    def _move_template(self, finding: compare.Finding) -> None:
        vm = _machine(finding.reference)
        parent = self._ops.properties(vm, 'parent').get('parent')
        record = self._record(finding, origin=parent.value if parent else '-')
        folder = self._folder(vm, record.folder_name(
            self._backend.deployment()))
        self._ops.rename(vm, aside.aside_template_name(finding.name))
        self._ops.move_backing_to_folder(vm, folder)

    def _move_file(self, finding: compare.Finding) -> None:
        datastore, path = self._located(finding.reference, finding.datastore)
        record = self._record(finding, origin=uuidutils.generate_uuid())
        self._move_disk(datastore, path, '/'.join((
            compare.QUARANTINE_PATH,
            record.folder_name(self._backend.deployment()), path)))

    # -- Out of quarantine --------------------------------------------------

    def restore(self, item: aside.Item) -> None:
        """Give an item its former name, marks and place.

        :raises QuarantineRefused: with the reason why it stays in quarantine
        :raises VimException: by oslo.vmware
        """
        if item.hindrance or item.record is None:
            raise exceptions.QuarantineRefused(item.hindrance or aside.OLD)
        if item.thing == 'file':
            self._restore_file(item, item.record)
        else:
            self._restore_machine(item, item.record)

    def _restore_machine(self, item: aside.Item,
                         record: aside.Record) -> None:
        vm = _machine(item.reference)
        folder = references.Ref('Folder', record.origin)
        try:
            self._ops.properties(folder, 'name')
        except vmware_exceptions.ManagedObjectNotFoundException:
            raise exceptions.QuarantineRefused(
                f'its former folder ({record.origin}) is gone'
            ) from None
        parent = self._ops.properties(vm, 'parent').get('parent')
        # The move comes first: the VM counts as in quarantine until its marks
        # are restored, so that an interrupted restore can be repeated.
        if parent is None or parent.value != record.origin:
            self._ops.move_backing_to_folder(vm, folder)
        if item.thing == 'template':
            self._ops.rename(vm, item.name)
            return
        self._ops.set_identity(vm, item.name, {
            _UUID: record.uuid, **record.marks,
            **dict.fromkeys((shadow.QUARANTINED, shadow.QUARANTINED_NAME,
                             shadow.QUARANTINE_RECORD), '')})

    def _restore_file(self, item: aside.Item, record: aside.Record) -> None:
        datastore, path = self._located(item.reference, item.datastore)
        browser = datastore_browser.DatastoreBrowser(
            self._backend.session, self._backend.client, self._ops.properties)
        if any(found.path == record.origin for found in browser.folder(
                datastore, record.origin.rpartition('/')[0])):
            raise exceptions.QuarantineRefused(
                f'another file is at {record.origin}')
        self._move_disk(datastore, path, record.origin)

    def purge(self, item: aside.Item) -> None:
        """Destroy an item (Destroy_Task; a file: DeleteVirtualDisk_Task).

        :raises QuarantineRefused: another VM uses one of its files, or its
            datastore is gone
        :raises VimException: by oslo.vmware
        """
        if item.users:
            raise exceptions.QuarantineRefused(
                f'its files are used by {exceptions.shortened(item.users)}')
        if item.thing != 'file':
            self._ops.delete_backing(_machine(item.reference))
            return
        datastore, path = self._located(item.reference, item.datastore)
        file = f'[{datastore.name}] {path}'
        datacenter = references.Ref('Datacenter', datastore.datacenter or '')
        try:
            self._ops.delete_vmdk_file(file, datacenter)
        except vmware_exceptions.FileNotFoundException:
            # A descriptor without its extent, or nothing at all.
            self._ops.delete_file(file, datacenter)

    # -- Files --------------------------------------------------------------

    def _located(self, reference: str,
                 moref: str) -> tuple[model.Datastore, str]:
        try:
            return self._backend.inventory().located_on(reference, moref)
        except LookupError as error:
            raise exceptions.QuarantineRefused(
                exceptions.first_line(error)) from error

    def _move_disk(self, datastore: model.Datastore, path: str,
                   there: str) -> None:
        """Move a disk's files within a datastore, and make the folders."""
        datacenter = references.Ref('Datacenter', datastore.datacenter or '')
        # The name as the vCenter writes it: %2f for a slash.
        place = datastore.name
        *folders, _name = there.split('/')
        for number in range(len(folders)):
            self._ops.create_datastore_folder(
                place, '/'.join(folders[:number + 1]), datacenter)
        files = f'[{place}] {path}', f'[{place}] {there}'
        try:
            self._ops.move_vmdk_file(datacenter, *files)
        except vmware_exceptions.FileNotFoundException:
            # An upload that was broken off leaves a descriptor without its
            # extent. To vSphere that is a file, but no disk.
            self._ops.move_file(datacenter, *files)


def _machine(moref: str) -> Any:
    return references.Ref('VirtualMachine', moref)
