// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"
	"path"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/places"
	"vcenter-sim/internal/vdisk"
)

// removeSnapshots takes a snapshot (all of them, for nil) out of the tree, with its children or without, and merges the disks
// that were apart only for its sake.
func (s *Store) removeSnapshots(
	ctx *simulator.Context, vm *simulator.VirtualMachine, ref *types.ManagedObjectReference, children, merge bool,
) types.BaseMethodFault {
	if vm.Snapshot == nil {
		return nil
	}
	var removed []types.VirtualMachineSnapshotTree
	var frozen []types.BaseVirtualDevice
	ctx.WithLock(vm, func() {
		info := deepCopy(*vm.Snapshot)
		info.RootSnapshotList = prune(info.RootSnapshotList, ref, children, &removed)
		gone := make(map[types.ManagedObjectReference]bool)
		for _, node := range removed {
			gone[node.Snapshot] = true
		}
		if info.CurrentSnapshot != nil && gone[*info.CurrentSnapshot] {
			info.CurrentSnapshot = survivor(vm.Snapshot.RootSnapshotList, *info.CurrentSnapshot, gone)
		}
		publishSnapshots(ctx, vm, &info)
		ctx.Update(vm, s.newVersion())
	})
	for _, node := range removed {
		if snapshot, ok := ctx.Map.Get(node.Snapshot).(*simulator.VirtualMachineSnapshot); ok {
			frozen = append(frozen, snapshot.Config.Hardware.Device...)
		}
		s.removeSnapshotFiles(ctx, vm, node.Id)
		ctx.Map.Remove(ctx, node.Snapshot)
	}
	s.Learn(ctx, vm)
	s.dropUnneeded(ctx, vm, frozen)
	if !merge {
		ctx.Map.AtomicUpdate(ctx, vm, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: true}})
		s.Settle(ctx, vm)
		return nil
	}
	return s.consolidate(ctx, vm)
}

// prune removes a node from a tree; its children take its place, or go as well.
func prune(
	tree []types.VirtualMachineSnapshotTree, ref *types.ManagedObjectReference, children bool,
	removed *[]types.VirtualMachineSnapshotTree,
) []types.VirtualMachineSnapshotTree {
	var kept []types.VirtualMachineSnapshotTree
	for _, node := range tree {
		if ref != nil && node.Snapshot != *ref {
			node.ChildSnapshotList = prune(node.ChildSnapshotList, ref, children, removed)
			kept = append(kept, node)
			continue
		}
		*removed = append(*removed, node)
		if children {
			prune(node.ChildSnapshotList, nil, true, removed)
		} else {
			kept = append(kept, node.ChildSnapshotList...)
		}
	}
	return kept
}

// survivor is the nearest snapshot above one that is gone that is not gone itself.
func survivor(
	tree []types.VirtualMachineSnapshotTree, ref types.ManagedObjectReference, gone map[types.ManagedObjectReference]bool,
) *types.ManagedObjectReference {
	var found *types.ManagedObjectReference
	var walk func([]types.VirtualMachineSnapshotTree, *types.ManagedObjectReference)
	walk = func(nodes []types.VirtualMachineSnapshotTree, above *types.ManagedObjectReference) {
		for _, node := range nodes {
			if node.Snapshot == ref {
				found = above
			}
			here := above
			if !gone[node.Snapshot] {
				alive := node.Snapshot
				here = &alive
			}
			walk(node.ChildSnapshotList, here)
		}
	}
	walk(tree, nil)
	return found
}

func (s *Store) removeSnapshotFiles(ctx *simulator.Context, vm *simulator.VirtualMachine, id int32) {
	home, fault := parse(ctx, datacenterOf(ctx, vm.Self), vm.Config.Files.VmPathName)
	if fault != nil {
		return
	}
	for _, extension := range []string{".vmsn", ".vmem"} {
		at := home.dir().join(snapshotFile(vm, id, extension))
		_ = os.Remove(at.local())
		s.Touch(ctx, at.ds, at.local())
	}
}

// consolidate merges each delta into the disk below it for which nobody needs the two apart.
func (s *Store) consolidate(ctx *simulator.Context, vm *simulator.VirtualMachine) types.BaseMethodFault {
	for {
		lower, upper, found := s.mergeable(ctx, vm)
		if !found {
			break
		}
		if fault := s.mergeDown(ctx, vm, lower, upper); fault != nil {
			ctx.Map.AtomicUpdate(ctx, vm, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: true}})
			s.Settle(ctx, vm)
			return fault
		}
		s.Learn(ctx, vm)
	}
	if vm.Runtime.ConsolidationNeeded {
		ctx.Map.AtomicUpdate(ctx, vm, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: false}})
	}
	s.Settle(ctx, vm)
	return nil
}

// mergeable finds a disk that is only read through, by one delta only, and that no other virtual machine needs as it is.
func (s *Store) mergeable(ctx *simulator.Context, vm *simulator.VirtualMachine) (lower, upper place, found bool) {
	own := make(map[string]bool) // what is a state that somebody wants: now, or a snapshot's
	for _, disk := range disks(devicesOf(ctx, vm)) {
		if local, ok := localBacking(ctx, disk); ok {
			own[local] = true
		}
	}
	ctx.WithLock(vm, func() {
		eachSnapshot(ctx, vm, func(snapshot *simulator.VirtualMachineSnapshot) {
			for _, disk := range disks(snapshot.Config.Hardware.Device) {
				if local, ok := localBacking(ctx, disk); ok {
					own[local] = true
				}
			}
		})
	})
	// Of several datastores that are one volume, the machine's is meant.
	near := places.DatastoreOf(ctx, vm.Self, vm.Config.Files.VmPathName)
	children := make(map[string]map[string]bool)
	for local := range own {
		for range 256 {
			d, err := vdisk.ReadDescriptor(local)
			if err != nil {
				break
			}
			parent := vdisk.ParentPath(local, d)
			if parent == "" {
				break
			}
			if children[parent] == nil {
				children[parent] = make(map[string]bool)
			}
			children[parent][local] = true
			local = parent
		}
	}
	for parent, above := range children {
		if own[parent] || len(above) != 1 {
			continue
		}
		for child := range above {
			if s.holdsApart(parent, child, vm.Self) {
				continue
			}
			lower, ok := s.placeNear(ctx, parent, near)
			upper, both := s.placeNear(ctx, child, near)
			if ok && both {
				return lower, upper, true
			}
		}
	}
	return place{}, place{}, false
}

// mergeDown writes a delta into the disk below it, which takes its place.
func (s *Store) mergeDown(ctx *simulator.Context, vm *simulator.VirtualMachine, lower, upper place) types.BaseMethodFault {
	delta, err := vdisk.Open(upper.local())
	if err != nil {
		return fileFault(upper, err)
	}
	defer delta.Close()
	target, err := vdisk.OpenForWriting(lower.local())
	if err != nil {
		return fileFault(lower, err)
	}
	defer target.Close()
	release, fault := s.Reserve(lower, target.Growth(delta.OwnRanges()))
	if fault != nil {
		return fault
	}
	defer release()
	if err := vdisk.Merge(target, delta); err != nil {
		return fileFault(lower, err)
	}
	uuid := delta.Descriptor.UUID()
	err = changeDescriptor(lower, func(d *vdisk.Descriptor) error { return d.SetUUID(uuid) })
	if err == nil {
		err = s.reparent(ctx, vm, upper, lower)
	}
	if err != nil {
		return fileFault(lower, err)
	}
	s.replaceBacking(ctx, vm, upper, lower)
	_ = vdisk.Remove(upper.local())
	s.touchDisk(ctx, upper)
	s.touchDisk(ctx, lower)
	return nil
}

// reparent tells the deltas on one disk that they are on another now.
func (s *Store) reparent(ctx *simulator.Context, vm *simulator.VirtualMachine, from, to place) error {
	base, err := vdisk.ReadDescriptor(to.local())
	if err != nil {
		return err
	}
	for local := range s.needed(ctx, vm) {
		d, err := vdisk.ReadDescriptor(local)
		if err != nil || vdisk.ParentPath(local, d) != from.local() {
			continue
		}
		d.ParentHint, d.ParentCID = vdisk.ParentHint(local, to.local()), base.CID
		if err := d.Write(local); err != nil {
			return err
		}
		if at, ok := s.placeNear(ctx, path.Clean(local), to.ds); ok {
			s.touchDisk(ctx, at)
		}
	}
	return nil
}

// replaceBacking has devices and snapshots that have one disk have another.
func (s *Store) replaceBacking(ctx *simulator.Context, vm *simulator.VirtualMachine, from, to place) {
	refresh := func(devices []types.BaseVirtualDevice) {
		for _, disk := range disks(devices) {
			local, ok := localBacking(ctx, disk)
			if !ok {
				continue
			}
			if local == from.local() {
				s.describe(disk, to)
			} else if at, ok := placeOfDisk(ctx, disk); ok {
				s.describe(disk, at) // its parents may have changed
			}
		}
	}
	ctx.WithLock(vm, func() {
		devices := deepCopy(vm.Config.Hardware.Device)
		refresh(devices)
		eachSnapshot(ctx, vm, func(snapshot *simulator.VirtualMachineSnapshot) {
			refresh(snapshot.Config.Hardware.Device)
		})
		ctx.Update(vm, append(s.newVersion(), types.PropertyChange{Name: "config.hardware.device", Val: devices}))
	})
}
