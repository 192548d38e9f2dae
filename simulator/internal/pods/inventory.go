// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// inventory is Folder.CreateStoragePod, MoveIntoFolder_Task with datastores, and Rename_Task and Destroy_Task of a pod.
func (f *feature) inventory(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *types.CreateStoragePod, next core.Next) soap.HasFault {
		answer := next()
		if body, ok := answer.(*methods.CreateStoragePodBody); ok && body.Res != nil {
			pod := ctx.Map.Get(body.Res.Returnval).(*simulator.StoragePod)
			ctx.WithLock(pod, func() {
				complete(pod)
				pod.PodStorageDrsEntry.StorageDrsConfig.PodConfig.Enabled = false // as a vCenter does; the library turns it on
			})
		}
		return answer
	})
	core.Override(s, func(ctx *simulator.Context, req *types.MoveIntoFolder_Task, next core.Next) soap.HasFault {
		datastores, fault := movable(ctx, req)
		if datastores == nil && fault == nil {
			return next()
		}
		task := core.StartTask(ctx, req.This, "MoveIntoFolder_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			if fault != nil {
				return nil, fault
			}
			for _, datastore := range datastores {
				move(ctx, datastore, ctx.Map.Get(req.This).(mo.Entity))
			}
			return nil, nil
		})
		return &methods.MoveIntoFolder_TaskBody{Res: &types.MoveIntoFolder_TaskResponse{Returnval: task}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.Rename_Task, next core.Next) soap.HasFault {
		pod, ok := ctx.Map.Get(req.This).(*simulator.StoragePod)
		if !ok {
			return next()
		}
		task := core.StartTask(ctx, req.This, "Rename_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, rename(ctx, pod, req.NewName)
		})
		return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: task}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.Destroy_Task, next core.Next) soap.HasFault {
		pod, ok := ctx.Map.Get(req.This).(*simulator.StoragePod)
		if !ok {
			return next()
		}
		task := core.StartTask(ctx, req.This, "Destroy_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			destroy(ctx, pod)
			return nil, nil
		})
		return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task}}
	})
}

// movable lists the datastores that a request moves into a folder or pod; none, and no fault, if it is about other objects.
func movable(ctx *simulator.Context, req *types.MoveIntoFolder_Task) ([]*simulator.Datastore, types.BaseMethodFault) {
	var list []*simulator.Datastore
	for _, ref := range req.List {
		datastore, ok := ctx.Map.Get(ref).(*simulator.Datastore)
		switch {
		case ok && places.Datacenter(ctx, ref) != places.Datacenter(ctx, req.This):
			return nil, &types.InvalidArgument{InvalidProperty: "list"}
		case ok:
			list = append(list, datastore)
		case req.This.Type == "StoragePod":
			return nil, &types.NotSupported{} // a pod holds datastores only
		}
	}
	return list, nil
}

// children are the objects in a folder or pod.
func children(parent mo.Reference) *[]types.ManagedObjectReference {
	switch folder := parent.(type) {
	case *simulator.Folder:
		return &folder.ChildEntity
	case *simulator.StoragePod:
		return &folder.ChildEntity
	}
	return new([]types.ManagedObjectReference)
}

// relist changes what is in a folder or pod.
func relist(ctx *simulator.Context, parent mo.Reference, change func([]types.ManagedObjectReference) []types.ManagedObjectReference) {
	list := children(parent)
	ctx.WithLock(parent, func() {
		ctx.Update(parent, []types.PropertyChange{{Name: "childEntity", Val: change(slices.Clone(*list))}})
	})
}

// move puts a datastore into a folder or pod.
func move(ctx *simulator.Context, datastore *simulator.Datastore, to mo.Entity) {
	from := ctx.Map.Get(*datastore.Parent)
	if from.Reference() == to.Reference() {
		return
	}
	relist(ctx, from, func(refs []types.ManagedObjectReference) []types.ManagedObjectReference {
		return slices.DeleteFunc(refs, func(ref types.ManagedObjectReference) bool { return ref == datastore.Self })
	})
	relist(ctx, to, func(refs []types.ManagedObjectReference) []types.ManagedObjectReference {
		return append(refs, datastore.Self)
	})
	ctx.Map.AtomicUpdate(ctx, datastore, []types.PropertyChange{{Name: "parent", Val: to.Reference()}})
	for _, folder := range []mo.Reference{from, to} {
		if pod, ok := folder.(*simulator.StoragePod); ok {
			refresh(ctx, pod)
		}
	}
}

func rename(ctx *simulator.Context, pod *simulator.StoragePod, name string) types.BaseMethodFault {
	if name = places.Escape(name); name == "" {
		return &types.InvalidName{Name: name, Entity: &pod.Self}
	}
	var siblings []types.ManagedObjectReference
	parent := ctx.Map.Get(*pod.Parent)
	ctx.WithLock(parent, func() { siblings = slices.Clone(*children(parent)) })
	if other := ctx.Map.FindByName(name, siblings); other != nil && other.Reference() != pod.Self {
		return &types.DuplicateName{Name: name, Object: other.Reference()}
	}
	ctx.Map.AtomicUpdate(ctx, pod, []types.PropertyChange{{Name: "name", Val: name}, {Name: "summary.name", Val: name}})
	return nil
}

// destroy removes a pod. Its datastores go to the folder that it was in.
func destroy(ctx *simulator.Context, pod *simulator.StoragePod) {
	parent := ctx.Map.Get(*pod.Parent).(mo.Entity)
	for _, datastore := range members(ctx, pod) {
		move(ctx, datastore, parent)
	}
	relist(ctx, parent, func(refs []types.ManagedObjectReference) []types.ManagedObjectReference {
		return slices.DeleteFunc(refs, func(ref types.ManagedObjectReference) bool { return ref == pod.Self })
	})
	ctx.Map.Remove(ctx, pod.Self)
}
