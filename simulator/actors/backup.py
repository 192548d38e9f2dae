# SPDX-License-Identifier: Apache-2.0
"""A backup product that takes a snapshot of each VM at night, and removes it when it has read the disks."""

from collections.abc import Iterable
from typing import Any

from simulator.actors import vcenter

NAME = 'nightly-backup'


class Backup(vcenter.VCenter):
    """A night is begin() and end(); between them the guests go on writing."""

    def begin(self, vms: Iterable[Any]) -> None:
        """CreateSnapshot_Task of each VM that has none of ours."""
        for vm in vms:
            if not self.snapshots(vm):
                self.wait(vm.CreateSnapshot_Task(name=NAME, description='', memory=False, quiesce=False))

    def end(self, vms: Iterable[Any]) -> None:
        """RemoveSnapshot_Task of ours, which consolidates the disks; those that need it get ConsolidateVMDisks_Task."""
        for vm in vms:
            for snapshot in self.snapshots(vm):
                self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False, consolidate=True))
            if vm.runtime.consolidationNeeded:
                self.wait(vm.ConsolidateVMDisks_Task())

    @staticmethod
    def snapshots(vm: Any) -> list[Any]:
        """Our snapshots of a VM."""
        trees = list(vm.snapshot.rootSnapshotList) if vm.snapshot else []
        found = []
        while trees:
            tree = trees.pop()
            trees += tree.childSnapshotList
            if tree.name == NAME:
                found.append(tree.snapshot)
        return found
