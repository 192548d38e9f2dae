// SPDX-License-Identifier: Apache-2.0

// Package rename lets datastores be renamed, and everything that names them follow.
package rename

import (
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// Feature is Datastore.RenameDatastore, and ManagedEntity.Rename_Task of a datastore.
var Feature = core.Feature{Name: "rename", Start: start}

func start(s *core.Sim) error {
	// A renaming locks the virtual machines too.
	core.Unlocked(s, func(ctx *simulator.Context, req *types.RenameDatastore, next core.Next) soap.HasFault {
		datastore, ok := ctx.Map.Get(req.This).(*simulator.Datastore)
		if !ok {
			return next()
		}
		if fault := Rename(ctx, datastore, req.NewName); fault != nil {
			return core.Fault(fault)
		}
		return &methods.RenameDatastoreBody{Res: &types.RenameDatastoreResponse{}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.Rename_Task, next core.Next) soap.HasFault {
		datastore, ok := ctx.Map.Get(req.This).(*simulator.Datastore)
		if !ok {
			return next()
		}
		task := core.StartTask(ctx, req.This, "Rename_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, Rename(ctx, datastore, req.NewName)
		})
		return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: task}}
	})
	return nil
}

// Rename gives a datastore a name, and rewrites the paths "[old name] ..." of virtual machines, their disks, layouts and
// snapshots, and of first class disks. No lock may be held.
//
// It fails with InvalidName for a name that cannot be one, and with DuplicateName if the datacenter has such a datastore.
func Rename(ctx *simulator.Context, datastore *simulator.Datastore, name string) types.BaseMethodFault {
	if strings.TrimSpace(name) == "" || len(name) > 80 {
		return &types.InvalidName{Name: name, Entity: &datastore.Self}
	}
	name = places.Escape(name)
	old := places.Name(datastore)
	if name == old {
		return nil
	}
	datacenter := places.Datacenter(ctx, datastore.Self)
	if other := places.Datastore(ctx, datacenter, name); other != nil {
		return &types.DuplicateName{Name: name, Object: other.Self}
	}
	places.Naming.Lock()
	defer places.Naming.Unlock()
	machines := places.Machines(ctx, datastore.Self)
	// None of them does anything while the name that it knows means nothing.
	slices.SortFunc(machines, func(a, b *simulator.VirtualMachine) int { return strings.Compare(a.Self.Value, b.Self.Value) })
	for _, vm := range machines {
		defer ctx.Map.AcquireLock(ctx, vm)()
	}
	renameDatastore(ctx, datastore, name)
	for _, vm := range machines {
		renameInMachine(ctx, vm, datastore, old, name)
	}
	renameInCatalog(ctx, datastore.Self, old, name)
	return nil
}

func renameDatastore(ctx *simulator.Context, datastore *simulator.Datastore, name string) {
	ctx.Map.WithLock(ctx, datastore, func() {
		ctx.Update(datastore, []types.PropertyChange{
			{Name: "name", Val: name},
			{Name: "summary.name", Val: name},
			{Name: "info", Val: named(datastore.Info, name)},
		})
	})
}

// named copies a datastore's info under a new name.
func named(info types.BaseDatastoreInfo, name string) types.BaseDatastoreInfo {
	switch old := info.(type) {
	case *types.VmfsDatastoreInfo:
		own := *old
		own.Name = name
		if old.Vmfs != nil {
			volume := *old.Vmfs
			volume.Name = name
			own.Vmfs = &volume
		}
		return &own
	case *types.NasDatastoreInfo:
		own := *old
		own.Name = name
		if old.Nas != nil {
			volume := *old.Nas
			volume.Name = name
			own.Nas = &volume
		}
		return &own
	}
	pointer := reflect.New(reflect.TypeOf(info).Elem())
	pointer.Elem().Set(reflect.ValueOf(info).Elem())
	own := pointer.Interface().(types.BaseDatastoreInfo)
	own.GetDatastoreInfo().Name = name
	return own
}

// properties are those of a virtual machine in which datastore paths stand. They are told one by one, because a client that
// watches a part is not told of a change that names the whole.
var properties = []struct {
	name  string
	value func(*mo.VirtualMachine) any
}{
	{name: "config.files.vmPathName", value: func(vm *mo.VirtualMachine) any { return vm.Config.Files.VmPathName }},
	{name: "config.files.snapshotDirectory", value: func(vm *mo.VirtualMachine) any {
		return vm.Config.Files.SnapshotDirectory
	}},
	{name: "config.files.suspendDirectory", value: func(vm *mo.VirtualMachine) any {
		return vm.Config.Files.SuspendDirectory
	}},
	{name: "config.files.logDirectory", value: func(vm *mo.VirtualMachine) any { return vm.Config.Files.LogDirectory }},
	{name: "config.hardware.device", value: func(vm *mo.VirtualMachine) any { return vm.Config.Hardware.Device }},
	{name: "config.extraConfig", value: func(vm *mo.VirtualMachine) any { return vm.Config.ExtraConfig }},
	{name: "summary.config.vmPathName", value: func(vm *mo.VirtualMachine) any { return vm.Summary.Config.VmPathName }},
	{name: "layout", value: func(vm *mo.VirtualMachine) any { return vm.Layout }},
	{name: "layoutEx.file", value: func(vm *mo.VirtualMachine) any {
		if vm.LayoutEx == nil {
			return nil
		}
		return vm.LayoutEx.File
	}},
}

func renameInMachine(
	ctx *simulator.Context, vm *simulator.VirtualMachine, datastore *simulator.Datastore, old, name string,
) {
	ctx.Map.WithLock(ctx, vm, func() {
		if vm.Config == nil {
			return
		}
		var changes []types.PropertyChange
		for _, property := range properties {
			value := reflect.ValueOf(property.value(&vm.VirtualMachine))
			if !value.IsValid() {
				continue
			}
			if fresh, changed := rewritten(value, old, name); changed {
				changes = append(changes, types.PropertyChange{Name: property.name, Val: fresh.Interface()})
			}
		}
		if urls, changed := renamedURLs(vm.Config.DatastoreUrl, datastore.Summary.Url, name); changed {
			changes = append(changes, types.PropertyChange{Name: "config.datastoreUrl", Val: urls})
		}
		if len(changes) > 0 {
			ctx.Update(vm, changes)
		}
	})
	renameInSnapshots(ctx, vm, old, name)
}

func renamedURLs(urls []types.VirtualMachineConfigInfoDatastoreUrlPair, url, name string,
) ([]types.VirtualMachineConfigInfoDatastoreUrlPair, bool) {
	fresh, changed := append([]types.VirtualMachineConfigInfoDatastoreUrlPair(nil), urls...), false
	for i := range fresh {
		if fresh[i].Url == url {
			fresh[i].Name, changed = name, true
		}
	}
	return fresh, changed
}

func renameInSnapshots(ctx *simulator.Context, vm *simulator.VirtualMachine, old, name string) {
	var refs []types.ManagedObjectReference
	var walk func([]types.VirtualMachineSnapshotTree)
	walk = func(trees []types.VirtualMachineSnapshotTree) {
		for _, tree := range trees {
			refs = append(refs, tree.Snapshot)
			walk(tree.ChildSnapshotList)
		}
	}
	ctx.Map.WithLock(ctx, vm, func() {
		if vm.Snapshot != nil {
			walk(vm.Snapshot.RootSnapshotList)
		}
	})
	for _, ref := range refs {
		snapshot, ok := ctx.Map.Get(ref).(*simulator.VirtualMachineSnapshot)
		if !ok {
			continue
		}
		ctx.Map.WithLock(ctx, snapshot, func() {
			if config, changed := rewritten(reflect.ValueOf(snapshot.Config), old, name); changed {
				ctx.Update(snapshot, []types.PropertyChange{{Name: "config", Val: config.Interface()}})
			}
		})
	}
}

// renameInCatalog renames the files of first class disks.
func renameInCatalog(ctx *simulator.Context, datastore types.ManagedObjectReference, old, name string) {
	disks := ctx.Map.VStorageObjectManager()
	ctx.Map.WithLock(ctx, disks, func() {
		for _, disk := range disks.Catalog()[datastore] {
			if config, changed := rewritten(reflect.ValueOf(disk.Config), old, name); changed {
				disk.Config = config.Interface().(types.VStorageObjectConfigInfo)
			}
		}
	})
}
