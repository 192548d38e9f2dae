// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// overrideTree answers what renames, moves and destroys in the tree of folders.
func (s *Store) overrideTree() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.Rename_Task, next core.Next) soap.HasFault {
		if req.This.Type != "VirtualMachine" && req.This.Type != "Folder" {
			return next()
		}
		task := core.StartTask(ctx, req.This, "Rename_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.rename(ctx, req)
		})
		return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.MoveIntoFolder_Task, next core.Next) soap.HasFault {
		folder, ok := ctx.Map.Get(req.This).(*simulator.Folder)
		if !ok || !onlyMachinesAndFolders(req.List) {
			return next()
		}
		task := core.StartTask(ctx, req.This, "MoveIntoFolder_Task",
			func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
				return nil, s.moveIntoFolder(ctx, folder, req.List)
			})
		return &methods.MoveIntoFolder_TaskBody{Res: &types.MoveIntoFolder_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.Destroy_Task, next core.Next) soap.HasFault {
		folder, ok := ctx.Map.Get(req.This).(*simulator.Folder)
		if !ok {
			return next()
		}
		task := core.StartTask(ctx, req.This, "Destroy_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, s.destroyFolder(ctx, folder)
		})
		return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task}}
	})
}

// rename does what ManagedEntity.Rename_Task does for virtual machines and folders.
func (s *Store) rename(ctx *simulator.Context, req *types.Rename_Task) types.BaseMethodFault {
	entity, ok := ctx.Map.Get(req.This).(mo.Entity)
	if !ok || entity.Entity().Parent == nil {
		return &types.ManagedObjectNotFound{Obj: req.This}
	}
	if req.NewName == "" {
		return &types.InvalidName{Name: req.NewName, Entity: &req.This}
	}
	if parent, ok := ctx.Map.Get(*entity.Entity().Parent).(*simulator.Folder); ok {
		release, fault := s.claimMachine(ctx, &parent.Folder, req.NewName, req.This.Value)
		if fault != nil {
			return fault
		}
		defer release()
	}
	changes := []types.PropertyChange{{Name: "name", Val: req.NewName}}
	if req.This.Type == "VirtualMachine" {
		changes = append(changes, types.PropertyChange{Name: "config.name", Val: req.NewName},
			types.PropertyChange{Name: "summary.config.name", Val: req.NewName})
	}
	ctx.Map.AtomicUpdate(ctx, entity, changes)
	return nil
}

func onlyMachinesAndFolders(refs []types.ManagedObjectReference) bool {
	for _, ref := range refs {
		if ref.Type != "VirtualMachine" && ref.Type != "Folder" {
			return false
		}
	}
	return true
}

// moveIntoFolder does what Folder.MoveIntoFolder_Task does.
func (s *Store) moveIntoFolder(
	ctx *simulator.Context, folder *simulator.Folder, list []types.ManagedObjectReference,
) types.BaseMethodFault {
	var moving []types.ManagedObjectReference
	for _, ref := range list {
		entity, ok := ctx.Map.Get(ref).(mo.Entity)
		if !ok {
			return &types.ManagedObjectNotFound{Obj: ref}
		}
		if parent := entity.Entity().Parent; parent != nil && *parent == folder.Self {
			continue
		}
		release, fault := s.claimMachine(ctx, &folder.Folder, entity.Entity().Name, ref.Value)
		if fault != nil {
			return fault
		}
		defer release()
		moving = append(moving, ref)
	}
	if len(moving) == 0 {
		return nil
	}
	return s.inner(ctx, folder.Self, func(ctx *simulator.Context) soap.HasFault {
		return folder.MoveIntoFolderTask(ctx, &types.MoveIntoFolder_Task{This: folder.Self, List: moving})
	})
}

// destroyFolder does what Folder.Destroy_Task does: all that is in the folder goes first. (The library leaves virtual machines
// behind whose parent is gone.)
func (s *Store) destroyFolder(ctx *simulator.Context, folder *simulator.Folder) types.BaseMethodFault {
	var children []types.ManagedObjectReference
	ctx.WithLock(folder, func() { children = append(children, folder.ChildEntity...) })
	for _, child := range children {
		var fault types.BaseMethodFault
		switch obj := ctx.Map.Get(child).(type) {
		case *simulator.VirtualMachine:
			unlock := s.workOn(child)
			fault = s.destroy(ctx, obj)
			unlock()
		case *simulator.Folder:
			fault = s.destroyFolder(ctx, obj)
		case nil:
		default:
			return &types.NotSupported{} // hosts and datastores are not destroyed with a folder
		}
		if fault != nil {
			return fault
		}
	}
	return s.inner(ctx, folder.Self, func(ctx *simulator.Context) soap.HasFault {
		return folder.DestroyTask(ctx, &types.Destroy_Task{This: folder.Self})
	})
}
