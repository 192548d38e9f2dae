// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/machines"
	"vcenter-sim/internal/vdisk"
)

type machineFunc = func(*simulator.Context, *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault)

// overrideSnapshots answers what makes and uses snapshots. A snapshot freezes the disks, and the virtual machine goes on in
// deltas.
func (s *Store) overrideSnapshots() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.CreateSnapshot_Task, _ core.Next) soap.HasFault {
		task := s.machineTask(ctx, req.This, "CreateSnapshot_Task", s.creating(snapshotRequest{
			req.Name, req.Description, req.Memory, req.Quiesce}))
		return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.CreateSnapshotEx_Task, _ core.Next) soap.HasFault {
		task := s.machineTask(ctx, req.This, "CreateSnapshotEx_Task", s.creating(snapshotRequest{
			req.Name, req.Description, req.Memory, req.QuiesceSpec != nil}))
		return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RevertToSnapshot_Task, _ core.Next) soap.HasFault {
		task := s.snapshotTask(ctx, req.This, "RevertToSnapshot_Task", s.revert)
		return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RevertToCurrentSnapshot_Task, _ core.Next) soap.HasFault {
		vm, _ := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
		if vm == nil || vm.Snapshot == nil || vm.Snapshot.CurrentSnapshot == nil {
			return core.Fault(&types.NotFound{})
		}
		task := s.snapshotTask(ctx, *vm.Snapshot.CurrentSnapshot, "RevertToCurrentSnapshot_Task", s.revert)
		return &methods.RevertToCurrentSnapshot_TaskBody{Res: &types.RevertToCurrentSnapshot_TaskResponse{Returnval: task}}
	})
	s.overrideRemovals()
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RenameSnapshot, _ core.Next) soap.HasFault {
		if fault := s.renameSnapshot(ctx, req); fault != nil {
			return core.Fault(fault)
		}
		return &methods.RenameSnapshotBody{Res: &types.RenameSnapshotResponse{}}
	})
}

func (s *Store) overrideRemovals() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RemoveSnapshot_Task, _ core.Next) soap.HasFault {
		merge := req.Consolidate == nil || *req.Consolidate
		task := s.snapshotTask(ctx, req.This, "RemoveSnapshot_Task",
			func(ctx *simulator.Context, vm *simulator.VirtualMachine, snapshot *simulator.VirtualMachineSnapshot) types.BaseMethodFault {
				return s.removeSnapshots(ctx, vm, &snapshot.Self, req.RemoveChildren, merge)
			})
		return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RemoveAllSnapshots_Task, _ core.Next) soap.HasFault {
		merge := req.Consolidate == nil || *req.Consolidate
		task := s.machineTask(ctx, req.This, "RemoveAllSnapshots_Task",
			func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
				return nil, s.removeSnapshots(ctx, vm, nil, true, merge)
			})
		return &methods.RemoveAllSnapshots_TaskBody{Res: &types.RemoveAllSnapshots_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.ConsolidateVMDisks_Task, _ core.Next) soap.HasFault {
		task := s.machineTask(ctx, req.This, "ConsolidateVMDisks_Task",
			func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
				return nil, s.consolidate(ctx, vm)
			})
		return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: task}}
	})
}

// snapshotTask starts a task on the virtual machine of a snapshot.
func (s *Store) snapshotTask(
	ctx *simulator.Context, ref types.ManagedObjectReference, name string,
	run func(*simulator.Context, *simulator.VirtualMachine, *simulator.VirtualMachineSnapshot) types.BaseMethodFault,
) types.ManagedObjectReference {
	owner := ref
	if snapshot, ok := ctx.Map.Get(ref).(*simulator.VirtualMachineSnapshot); ok {
		owner = snapshot.Vm
	}
	return s.machineTask(ctx, owner, name,
		func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
			snapshot, ok := ctx.Map.Get(ref).(*simulator.VirtualMachineSnapshot)
			if !ok {
				return nil, &types.ManagedObjectNotFound{Obj: ref}
			}
			return nil, run(ctx, vm, snapshot)
		})
}

type snapshotRequest struct {
	name, description string
	memory, quiesce   bool
}

func (s *Store) creating(req snapshotRequest) machineFunc {
	return func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
		return result(s.createSnapshot(ctx, vm, req))
	}
}

// createSnapshot freezes the disks of a virtual machine.
func (s *Store) createSnapshot(
	ctx *simulator.Context, vm *simulator.VirtualMachine, req snapshotRequest,
) (*types.ManagedObjectReference, types.BaseMethodFault) {
	if vm.Config.Template {
		return nil, &types.NotSupported{}
	}
	on := running(ctx, vm)
	frozen := deepCopy(*vm.Config)
	node := types.VirtualMachineSnapshotTree{
		Vm: vm.Self, Name: req.name, Description: req.description, Id: nextSnapshotID(vm), CreateTime: time.Now(),
		State: types.VirtualMachinePowerStatePoweredOff, Quiesced: req.quiesce && on, ReplaySupported: types.NewBool(false),
	}
	if req.memory && on {
		node.State = types.VirtualMachinePowerStatePoweredOn
	}
	undoFiles, fault := s.snapshotFiles(ctx, vm, &node)
	if fault != nil {
		return nil, fault
	}
	devices, fault := s.deltasOn(ctx, vm.Self, frozen.Hardware.Device)
	if fault != nil {
		undoFiles()
		return nil, fault
	}
	snapshot := &simulator.VirtualMachineSnapshot{}
	snapshot.Vm, snapshot.Config = vm.Self, frozen
	ctx.Map.Put(snapshot)
	node.Snapshot = snapshot.Self
	ctx.WithLock(vm, func() {
		info := types.VirtualMachineSnapshotInfo{}
		if vm.Snapshot != nil {
			info = deepCopy(*vm.Snapshot)
		}
		if parent := info.CurrentSnapshot; parent != nil && findNode(info.RootSnapshotList, *parent) != nil {
			under := findNode(info.RootSnapshotList, *parent)
			under.ChildSnapshotList = append(under.ChildSnapshotList, node)
			if p, ok := ctx.Map.Get(*parent).(*simulator.VirtualMachineSnapshot); ok {
				p.ChildSnapshot = append(p.ChildSnapshot, snapshot.Self)
			}
		} else {
			info.RootSnapshotList = append(info.RootSnapshotList, node)
		}
		info.CurrentSnapshot = &snapshot.Self
		publishSnapshots(ctx, vm, &info)
		ctx.Update(vm, append(s.newVersion(), types.PropertyChange{Name: "config.hardware.device", Val: devices}))
	})
	s.Settle(ctx, vm)
	return &snapshot.Self, nil
}

// newVersion is the change of config.changeVersion that goes with a change of the disks' files.
func (s *Store) newVersion() []types.PropertyChange {
	if s.sim.Lenient("change-version") {
		return nil
	}
	return []types.PropertyChange{{Name: "config.changeVersion", Val: machines.NewVersion()}}
}

// publishSnapshots sets the tree, under all the names by which it is asked for. The lock is held.
func publishSnapshots(ctx *simulator.Context, vm *simulator.VirtualMachine, info *types.VirtualMachineSnapshotInfo) {
	if len(info.RootSnapshotList) == 0 {
		ctx.Update(vm, []types.PropertyChange{{Name: "snapshot", Val: nil}, {Name: "rootSnapshot", Val: nil}})
		return
	}
	var roots []types.ManagedObjectReference
	for _, node := range info.RootSnapshotList {
		roots = append(roots, node.Snapshot)
	}
	changes := []types.PropertyChange{
		{Name: "snapshot", Val: info},
		{Name: "snapshot.rootSnapshotList", Val: info.RootSnapshotList},
		{Name: "rootSnapshot", Val: roots},
	}
	if info.CurrentSnapshot != nil {
		changes = append(changes, types.PropertyChange{Name: "snapshot.currentSnapshot", Val: *info.CurrentSnapshot})
	}
	ctx.Update(vm, changes)
}

func findNode(tree []types.VirtualMachineSnapshotTree, ref types.ManagedObjectReference) *types.VirtualMachineSnapshotTree {
	for i := range tree {
		if tree[i].Snapshot == ref {
			return &tree[i]
		}
		if found := findNode(tree[i].ChildSnapshotList, ref); found != nil {
			return found
		}
	}
	return nil
}

func nextSnapshotID(vm *simulator.VirtualMachine) int32 {
	highest := int32(0)
	var walk func([]types.VirtualMachineSnapshotTree)
	walk = func(tree []types.VirtualMachineSnapshotTree) {
		for _, node := range tree {
			highest = max(highest, node.Id)
			walk(node.ChildSnapshotList)
		}
	}
	if vm.Snapshot != nil {
		walk(vm.Snapshot.RootSnapshotList)
	}
	return highest + 1
}

func snapshotFile(vm *simulator.VirtualMachine, id int32, extension string) string {
	stem := strings.TrimSuffix(path.Base(vm.Config.Files.VmPathName), ".vmx")
	return fmt.Sprintf("%s-Snapshot%d%s", stem, id, extension)
}

// snapshotFiles writes the files of a snapshot that are no disks.
func (s *Store) snapshotFiles(
	ctx *simulator.Context, vm *simulator.VirtualMachine, node *types.VirtualMachineSnapshotTree,
) (undo func(), fault types.BaseMethodFault) {
	home, fault := parse(ctx, datacenterOf(ctx, vm.Self), vm.Config.Files.VmPathName)
	if fault != nil {
		return nil, fault
	}
	folder := home.dir()
	sizes := map[string]int64{snapshotFile(vm, node.Id, ".vmsn"): 4096}
	if node.State == types.VirtualMachinePowerStatePoweredOn {
		sizes[snapshotFile(vm, node.Id, ".vmem")] = int64(vm.Config.Hardware.MemoryMB) << 20
	}
	var need int64
	for _, size := range sizes {
		need += size
	}
	release, fault := s.Reserve(folder, need)
	if fault != nil {
		return nil, fault
	}
	defer release()
	var made []string
	for name, size := range sizes {
		local := folder.join(name).local()
		f, err := os.Create(local)
		if err == nil {
			err = f.Truncate(size)
			_ = f.Close()
		}
		if err != nil {
			return nil, fileFault(folder.join(name), err)
		}
		made = append(made, local)
	}
	s.Touch(ctx, folder.ds, made...)
	return func() {
		for _, local := range made {
			_ = os.Remove(local)
		}
		s.Touch(ctx, folder.ds, made...)
	}, nil
}

// deltasOn makes a delta on each disk among devices of a virtual machine, and returns the devices with the deltas in the disks'
// places. A disk that another, running one has open is not to be had.
func (s *Store) deltasOn(
	ctx *simulator.Context, owner types.ManagedObjectReference, devices []types.BaseVirtualDevice,
) (changed []types.BaseVirtualDevice, fault types.BaseMethodFault) {
	var made []place
	changed = deepCopy(devices)
	for _, disk := range disks(changed) {
		at, ok := placeOfDisk(ctx, disk)
		if !ok || independent(disk) {
			continue
		}
		delta, release := s.freeDelta(at)
		var fault types.BaseMethodFault
		if !s.sim.Lenient("locked-edits") {
			fault = s.locked(at, owner)
		}
		if fault == nil {
			fault = s.createDelta(ctx, delta, at)
		}
		release()
		if fault != nil {
			for _, at := range made {
				_ = vdisk.Remove(at.local())
				s.touchDisk(ctx, at)
			}
			return nil, fault
		}
		made = append(made, delta)
		s.describe(disk, delta)
	}
	return changed, nil
}

// independent disks take no part in snapshots.
func independent(disk *types.VirtualDisk) bool {
	flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return !ok || flat.DiskMode == string(types.VirtualDiskModeIndependent_persistent) ||
		flat.DiskMode == string(types.VirtualDiskModeIndependent_nonpersistent)
}

var deltaName = regexp.MustCompile(`^(.*?)(-\d{6})?\.vmdk$`)

// freeDelta finds the name of the next delta: disk-000001.vmdk.
func (s *Store) freeDelta(at place) (place, func()) {
	stem := deltaName.FindStringSubmatch(at.file)[1]
	for i := 1; ; i++ {
		delta := place{at.ds, fmt.Sprintf("%s-%06d.vmdk", stem, i)}
		if release, ok := s.claim(delta.local()); ok {
			if _, err := os.Lstat(vdisk.ExtentName(delta.local(), "-delta")); err != nil && !delta.exists() {
				return delta, release
			}
			release()
		}
	}
}

// revert brings the disks and the devices back to a snapshot's.
func (s *Store) revert(
	ctx *simulator.Context, vm *simulator.VirtualMachine, snapshot *simulator.VirtualMachineSnapshot,
) types.BaseMethodFault {
	left := devicesOf(ctx, vm)
	devices, fault := s.deltasOn(ctx, vm.Self, snapshot.Config.Hardware.Device)
	if fault != nil {
		return fault
	}
	config := deepCopy(snapshot.Config)
	ctx.WithLock(vm, func() {
		config.Name, config.Files, config.Template = vm.Config.Name, vm.Config.Files, vm.Config.Template
		config.Uuid, config.InstanceUuid, config.ManagedBy = vm.Config.Uuid, vm.Config.InstanceUuid, vm.Config.ManagedBy
		config.Hardware.Device, config.Modified = devices, time.Now()
		node := findNode(vm.Snapshot.RootSnapshotList, snapshot.Self)
		changes := []types.PropertyChange{
			{Name: "config", Val: &config},
			{Name: "config.hardware.device", Val: devices},
			{Name: "snapshot.currentSnapshot", Val: snapshot.Self},
		}
		if node != nil && node.State != vm.Runtime.PowerState {
			changes = append(changes, types.PropertyChange{Name: "runtime.powerState", Val: node.State},
				types.PropertyChange{Name: "summary.runtime.powerState", Val: node.State})
		}
		ctx.Update(vm, append(changes, s.newVersion()...))
	})
	s.Settle(ctx, vm)
	s.dropUnneeded(ctx, vm, left)
	s.Settle(ctx, vm)
	return nil
}

// needed is all disks that a virtual machine and its snapshots have or read through.
func (s *Store) needed(ctx *simulator.Context, vm *simulator.VirtualMachine) map[string]bool {
	needed := s.heldBySnapshots(ctx, vm.Self)
	for _, disk := range disks(devicesOf(ctx, vm)) {
		if local, ok := localBacking(ctx, disk); ok {
			needed[local] = true
			addParents(needed, local)
		}
	}
	return needed
}

// dropUnneeded deletes the deltas, from the top down, that a virtual machine had and nobody needs any more. A disk that is no
// delta was added by somebody, and stays.
func (s *Store) dropUnneeded(ctx *simulator.Context, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) {
	needed := s.needed(ctx, vm)
	for _, disk := range disks(devices) {
		at, ok := placeOfDisk(ctx, disk)
		for ok && !needed[at.local()] && !s.readsThrough(at.local(), nil, vm.Self) {
			d, err := vdisk.ReadDescriptor(at.local())
			if err != nil || d.CreateType != vdisk.TypeDelta {
				break
			}
			parent := vdisk.ParentPath(at.local(), d)
			_ = vdisk.Remove(at.local())
			s.touchDisk(ctx, at)
			at, ok = s.placeNear(ctx, parent, at.ds)
		}
	}
}

// renameSnapshot does what VirtualMachineSnapshot.RenameSnapshot does.
func (s *Store) renameSnapshot(ctx *simulator.Context, req *types.RenameSnapshot) types.BaseMethodFault {
	snapshot, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachineSnapshot)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: req.This}
	}
	vm, ok := ctx.Map.Get(snapshot.Vm).(*simulator.VirtualMachine)
	if !ok || vm.Snapshot == nil {
		return &types.ManagedObjectNotFound{Obj: snapshot.Vm}
	}
	ctx.WithLock(vm, func() {
		info := deepCopy(*vm.Snapshot)
		if node := findNode(info.RootSnapshotList, req.This); node != nil {
			if req.Name != "" {
				node.Name = req.Name
			}
			if req.Description != "" {
				node.Description = req.Description
			}
		}
		publishSnapshots(ctx, vm, &info)
	})
	return nil
}
