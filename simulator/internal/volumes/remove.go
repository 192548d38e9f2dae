// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"os"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/storage"
)

// remove is Datastore.DestroyDatastore, Destroy_Task of a datastore, and HostDatastoreSystem.RemoveDatastore.
func (f *feature) remove(s *core.Sim) {
	core.Unlocked(s, func(ctx *simulator.Context, req *types.DestroyDatastore, next core.Next) soap.HasFault {
		datastore, ok := ctx.Map.Get(req.This).(*simulator.Datastore)
		if !ok {
			return next()
		}
		if fault := f.destroy(ctx, datastore); fault != nil {
			return core.Fault(fault)
		}
		return &methods.DestroyDatastoreBody{Res: &types.DestroyDatastoreResponse{}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.Destroy_Task, next core.Next) soap.HasFault {
		datastore, ok := ctx.Map.Get(req.This).(*simulator.Datastore)
		if !ok {
			return next()
		}
		task := core.StartTask(ctx, req.This, "Destroy_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, f.destroy(ctx, datastore)
		})
		return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task}}
	})
	core.Unlocked(s, func(ctx *simulator.Context, req *types.RemoveDatastore, next core.Next) soap.HasFault {
		if _, ok := ctx.Map.Get(req.This).(*simulator.HostDatastoreSystem); !ok {
			return next()
		}
		host, _ := hostOf(ctx, req.This)
		if fault := f.removeFrom(ctx, host, req.Datastore); fault != nil {
			return core.Fault(fault)
		}
		return &methods.RemoveDatastoreBody{Res: &types.RemoveDatastoreResponse{}}
	})
}

// removeFrom unmounts an export from a host; a VMFS volume is destroyed, for all hosts.
func (f *feature) removeFrom(
	ctx *simulator.Context, host *simulator.HostSystem, ref types.ManagedObjectReference,
) types.BaseMethodFault {
	datastore, ok := ctx.Map.Get(ref).(*simulator.Datastore)
	if !ok || !slices.ContainsFunc(datastore.Host, func(m types.DatastoreHostMount) bool { return m.Key == host.Self }) {
		return &types.NotFound{}
	}
	if _, export := datastore.Info.(*types.NasDatastoreInfo); !export || len(datastore.Host) == 1 {
		return f.destroy(ctx, datastore)
	}
	for _, vm := range places.Machines(ctx, ref) {
		if at := places.HostOf(ctx, vm); at != nil && *at == host.Self {
			return &types.ResourceInUse{Type: ref.Type, Name: places.Name(datastore)}
		}
	}
	tell(ctx, datastore, func() []types.PropertyChange {
		mounts := slices.DeleteFunc(slices.Clone(datastore.Host), func(m types.DatastoreHostMount) bool {
			return m.Key == host.Self
		})
		return []types.PropertyChange{{Name: "host", Val: mounts}}
	})
	unlist(ctx, host.Self, datastore)
	return nil
}

// destroy removes a datastore from the inventory, and with a VMFS volume its files. It fails with ResourceInUse while a
// virtual machine or template lies there.
func (f *feature) destroy(ctx *simulator.Context, datastore *simulator.Datastore) types.BaseMethodFault {
	places.Naming.Lock()
	defer places.Naming.Unlock()
	ref := datastore.Self
	if ctx.Map.Get(ref) == nil {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	if len(places.Machines(ctx, ref)) > 0 {
		return &types.ResourceInUse{Type: ref.Type, Name: places.Name(datastore)}
	}
	datacenter := places.Datacenter(ctx, ref)
	var mounts []types.DatastoreHostMount
	ctx.WithLock(datastore, func() { mounts, datastore.Host = datastore.Host, nil })
	for _, mount := range mounts {
		unlist(ctx, mount.Key, datastore)
	}
	if parent, ok := ctx.Map.Get(*datastore.Parent).(mo.Entity); ok {
		children := childrenOf(parent)
		tell(ctx, parent, func() []types.PropertyChange {
			return []types.PropertyChange{{Name: "childEntity", Val: without(*children, ref)}}
		})
	}
	tell(ctx, datacenter, func() []types.PropertyChange {
		return []types.PropertyChange{{Name: "datastore", Val: without(datacenter.Datastore, ref)}}
	})
	ctx.Map.Remove(ctx, datastore.Browser)
	ctx.Map.Remove(ctx, ref)
	if space := f.space(); space != nil {
		space.Forget(datastore)
	}
	if _, export := datastore.Info.(*types.NasDatastoreInfo); !export {
		_ = os.RemoveAll(storage.Dir(datastore))
	}
	f.disks.release(ref)
	return nil
}

func childrenOf(parent mo.Entity) *[]types.ManagedObjectReference {
	switch folder := parent.(type) {
	case *simulator.Folder:
		return &folder.ChildEntity
	case *simulator.StoragePod:
		return &folder.ChildEntity
	}
	return new([]types.ManagedObjectReference)
}

func without(refs []types.ManagedObjectReference, gone types.ManagedObjectReference) []types.ManagedObjectReference {
	return slices.DeleteFunc(slices.Clone(refs), func(ref types.ManagedObjectReference) bool { return ref == gone })
}

// unlist takes a datastore from a host's list, and from its compute resource's if no other host there mounts it.
func unlist(ctx *simulator.Context, ref types.ManagedObjectReference, datastore *simulator.Datastore) {
	host, ok := ctx.Map.Get(ref).(*simulator.HostSystem)
	if !ok {
		return
	}
	system := ctx.Map.Get(*host.ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem)
	ctx.WithLock(system, func() { system.Datastore = without(system.Datastore, datastore.Self) })
	ctx.WithLock(host, func() { host.Datastore = without(host.Datastore, datastore.Self) })
	compute := ctx.Map.Get(*host.Parent)
	if list := ofCompute(ctx, *host.Parent); list != nil {
		elsewhere := slices.ContainsFunc(datastore.Host, func(m types.DatastoreHostMount) bool {
			other, ok := ctx.Map.Get(m.Key).(*simulator.HostSystem)
			return ok && *other.Parent == *host.Parent
		})
		if !elsewhere {
			ctx.WithLock(compute, func() { *list = without(*list, datastore.Self) })
		}
	}
	tellHost(ctx, ref)
}
