# SPDX-License-Identifier: Apache-2.0
"""Snapshots of VMs: list, create, rename, delete, revert to and export."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import snapshot_tree
from cinder_vmdk_ext.vsphere import transfers
from cinder_vmdk_ext.vsphere import vcenter
from cinder_vmdk_ext.vsphere import virtual_devices

_STATE = 'VirtualMachine.State.'
#: A chain may have 32 files; the first is the disk itself.
MOST_IN_A_CHAIN = 31


class VmSnapshot(NamedTuple):
    """A snapshot of a VM."""

    name: str
    reference: str
    description: str
    depth: int  # snapshots from the root to this one, itself included
    created_at: str  # in ISO 8601; '': the vCenter does not say
    current: bool  # the VM's present state is based on it


class VmSnapshots:
    """The snapshots of a vCenter's VMs."""

    def __init__(self, of: vcenter.Vcenter,
                 transfer: transfers.Transfers) -> None:
        """Make no call."""
        self._vcenter = of
        self._transfer = transfer

    def tree(self, vm: str) -> list[VmSnapshot]:
        """All snapshots of a VM, parents before their children.

        :param vm: its name or reference
        :raises UnknownObject: no such VM exists, or there are several
        """
        _ref, tree = self._tree(vm)
        present = snapshot_tree.current(tree)
        return [VmSnapshot(
            vcenter.plain(node.name), node.moref, node.description,
            node.depth, node.created_at.isoformat() if node.created_at
            else '', node == present) for node in snapshot_tree.nodes(tree)]

    def create(self, vm: str, name: str, description: str = '', *,
               memory: bool = False, quiesce: bool = False) -> str:
        """Take a snapshot (VirtualMachine.CreateSnapshot_Task).

        :param memory: include the memory of a running VM
        :param quiesce: VMware Tools quiesce the file systems first
        :returns: its reference; '' in a dry run
        :raises StorageRefused: the VM belongs to a volume or has one attached,
            or its chain of snapshots has its greatest length
        """
        vcenter.check_name(name, 'a snapshot', 80)
        ref, tree = self._tree(vm)
        files = self._vcenter.refuse_volumes_vm(ref)
        present = snapshot_tree.current(tree)
        if present is not None and present.depth >= MOST_IN_A_CHAIN:
            raise exceptions.StorageRefused(
                f'{vm} has a chain of {present.depth} snapshots, and vSphere '
                'allows no longer one; delete some')
        self._vcenter.require(_STATE + 'CreateSnapshot', [ref])
        self._vcenter.require('Datastore.AllocateSpace', files.datastores)
        before = {node.moref for node in snapshot_tree.nodes(tree)}
        self._vcenter.run('CreateSnapshot_Task', ref, name=name,
                          description=description, memory=memory,
                          quiesce=quiesce)
        after = snapshot_tree.nodes(
            self._vcenter.properties(ref, 'snapshot').get('snapshot'))
        return next((node.moref for node in after
                     if node.moref not in before), '')

    def rename(self, vm: str, snapshot: str, name: str,
               description: str | None = None) -> str:
        """Give a snapshot another name (RenameSnapshot).

        :param snapshot: its name or reference
        :param description: None: unchanged
        :returns: its reference
        """
        vcenter.check_name(name, 'a snapshot', 80)
        node = self._changing(vm, snapshot, 'RenameSnapshot')
        self._vcenter.change('RenameSnapshot', _ref(node), name=name,
                             description=description)
        return node.moref

    def delete(self, vm: str, snapshot: str, *, children: bool = False,
               consolidate: bool = True) -> str:
        """Delete a snapshot (RemoveSnapshot_Task).

        :param children: delete also all snapshots that descend from it
        :param consolidate: merge the disks' files; otherwise the VM needs a
            consolidation later
        :returns: its reference
        """
        node = self._changing(vm, snapshot, 'RemoveSnapshot')
        self._vcenter.run('RemoveSnapshot_Task', _ref(node),
                          removeChildren=children, consolidate=consolidate)
        return node.moref

    def revert(self, vm: str, snapshot: str) -> str:
        """Return a VM to its state at a snapshot (RevertToSnapshot_Task).

        The VM's present state is lost.

        :returns: the snapshot's reference
        :raises StorageRefused: also while the VM runs
        """
        node = self._changing(vm, snapshot, 'RevertToSnapshot', still=True)
        self._vcenter.run('RevertToSnapshot_Task', _ref(node),
                          suppressPowerOn=True)
        return node.moref

    def export(self, vm: str, snapshot: str, file: str,
               progress: Callable[[int], None] = lambda count: None) -> int:
        """Write a snapshot's disk to a file (ExportSnapshot).

        The file is streamOptimized. It is written completely or not at all.

        :param file: a path at which no file exists
        :param progress: called with the number of bytes so far
        :returns: bytes written; 0 in a dry run
        :raises StorageRefused: the file exists, or the VM does not have
            exactly one disk
        :raises TransferFailed: the disk cannot be read completely
        """
        ref, tree = self._tree(vm)
        node = _chosen(tree, vm, snapshot)
        devices = self._vcenter.properties(
            _ref(node), 'config.hardware.device').get(
                'config.hardware.device')
        disks = virtual_devices.disks(virtual_devices.parse(devices))
        if len(disks) != 1:
            raise exceptions.StorageRefused(
                f'snapshot {node.name!r} has {len(disks)} disks, and an '
                'export is of one')
        if os.path.exists(file):
            raise exceptions.StorageRefused(f'there is a file {file!r}')
        folder = os.path.dirname(os.path.abspath(file))
        if not os.access(folder, os.W_OK):
            raise exceptions.StorageRefused(
                f'{folder!r} is no folder that can be written to')
        self._vcenter.require('VApp.Export', [ref])
        if self._vcenter.dry_run:
            return 0
        return self._write(node, disks[0].capacity_bytes, file, folder,
                           progress)

    def _write(self, node: snapshot_tree.Node, size_bytes: int, file: str,
               folder: str, progress: Callable[[int], None]) -> int:
        handle, partial = tempfile.mkstemp(
            prefix=f'.{os.path.basename(file)}-', dir=folder)
        try:
            with os.fdopen(handle, 'wb') as out:
                with self._transfer.export_disk(
                        _ref(node), size_bytes, 'ExportSnapshot') as data:
                    for chunk in data:
                        out.write(chunk)
                        progress(data.count_bytes)
                out.flush()
                os.fsync(out.fileno())
            os.link(partial, file)  # fails if the file exists by now
        except FileExistsError:
            raise exceptions.StorageRefused(
                f'there is a file {file!r}') from None
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        return os.stat(file).st_size

    def _tree(self, vm: str) -> tuple[references.Ref, Any]:
        ref, facts = self._vcenter.find('VirtualMachine', vm, 'snapshot',
                                        title='VM')
        return ref, facts.get('snapshot')

    def _changing(self, vm: str, snapshot: str, privilege: str,
                  still: bool = False) -> snapshot_tree.Node:
        """A snapshot that may be changed."""
        ref, tree = self._tree(vm)
        node = _chosen(tree, vm, snapshot)
        found = self._vcenter.refuse_volumes_vm(ref)
        if still and found.running:
            raise exceptions.StorageRefused(
                f'{found.title} runs; stop it first')
        self._vcenter.require(_STATE + privilege, [ref])
        return node


def _chosen(tree: Any, vm: str, name: str) -> snapshot_tree.Node:
    nodes = snapshot_tree.nodes(tree)
    same = [node for node in nodes if node.moref == name] or [
        node for node in nodes if vcenter.plain(node.name) == name]
    if len(same) == 1:
        return same[0]
    if same:
        raise exceptions.UnknownObject(
            f'{len(same)} snapshots of {vm} are called {name!r}; give the '
            'reference: ' + exceptions.shortened([
                node.moref for node in same]))
    raise exceptions.UnknownObject(
        f'{vm} has no snapshot {name!r}; it has ' + (exceptions.shortened(
            sorted({vcenter.plain(node.name) for node in nodes})) or 'none'))


def _ref(node: snapshot_tree.Node) -> references.Ref:
    return references.Ref('VirtualMachineSnapshot', node.moref)
