// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"path"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/vdisk"
)

// overrideFirstClassDisks has the library's first class disks be disks that hold content and take space. What the library lacks
// of them (clone, relocate), is lacking here as well.
func (s *Store) overrideFirstClassDisks() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.CreateDisk_Task, _ core.Next) soap.HasFault {
		task := core.StartTask(ctx, req.This, "CreateDisk_Task",
			func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
				return s.createFirstClass(ctx, req)
			})
		return &methods.CreateDisk_TaskBody{Res: &types.CreateDisk_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.DeleteVStorageObject_Task, _ core.Next) soap.HasFault {
		task := core.StartTask(ctx, req.This, "DeleteVStorageObject_Task",
			func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
				return nil, s.deleteFirstClass(ctx, req)
			})
		return &methods.DeleteVStorageObject_TaskBody{Res: &types.DeleteVStorageObject_TaskResponse{Returnval: task}}
	})
}

func (s *Store) createFirstClass(ctx *simulator.Context, req *types.CreateDisk_Task) (types.AnyType, types.BaseMethodFault) {
	backing, ok := req.Spec.BackingSpec.(*types.VslmCreateSpecDiskFileBackingSpec)
	if !ok {
		return nil, &types.InvalidArgument{InvalidProperty: "spec.backingSpec"}
	}
	ds, fault := datastore(ctx, backing.Datastore)
	if fault != nil {
		return nil, fault
	}
	spec := vdisk.Spec{CapacityBytes: req.Spec.CapacityInMB << 20,
		Thin:  backing.ProvisioningType == "" || backing.ProvisioningType == string(types.BaseConfigInfoDiskFileBackingInfoProvisioningTypeThin),
		Eager: backing.ProvisioningType == string(types.BaseConfigInfoDiskFileBackingInfoProvisioningTypeEagerZeroedThick)}
	need := spec.CapacityBytes
	if spec.Thin {
		need = 0
	}
	release, fault := s.Reserve(place{ds, req.Spec.Name}, need)
	if fault != nil {
		return nil, fault
	}
	defer release()
	var done func()
	info, fault := s.sim.Inner(ctx, req.This, func(ctx *simulator.Context) soap.HasFault {
		done = ctx.Map.AcquireLock(ctx, ds) // the library reads it
		return ctx.Map.VStorageObjectManager().CreateDiskTask(ctx, req)
	})
	done()
	if fault != nil {
		return nil, fault
	}
	disk, ok := info.Result.(*types.VStorageObject)
	if !ok {
		return info.Result, nil
	}
	var p object.DatastorePath
	file := disk.Config.Backing.(*types.BaseConfigInfoDiskFileBackingInfo).FilePath
	if p.FromString(file) {
		at := place{ds, path.Clean(p.Path)}
		if vdisk.Remove(at.local()) == nil { // the library's is empty
			_ = vdisk.CreateFlat(at.local(), spec)
		}
		s.touchDisk(ctx, at)
	}
	return *disk, nil
}

// deleteFirstClass deletes the files first: the library does that some time after its task has ended.
func (s *Store) deleteFirstClass(ctx *simulator.Context, req *types.DeleteVStorageObject_Task) types.BaseMethodFault {
	ds, fault := datastore(ctx, req.Datastore)
	if fault != nil {
		return fault
	}
	manager := ctx.Map.VStorageObjectManager()
	var answer soap.HasFault
	ctx.WithLock(manager, func() {
		defer ctx.Map.AcquireLock(ctx, ds)() // the library reads it
		answer = manager.RetrieveVStorageObject(ctx, &types.RetrieveVStorageObject{This: req.This, Id: req.Id, Datastore: req.Datastore})
	})
	if body, ok := answer.(*methods.RetrieveVStorageObjectBody); ok && body.Res != nil {
		config := &body.Res.Returnval.Config
		if len(config.ConsumerId) > 0 {
			return &types.InvalidState{}
		}
		var p object.DatastorePath
		if backing, ok := config.Backing.(*types.BaseConfigInfoDiskFileBackingInfo); ok && p.FromString(backing.FilePath) {
			if fault := s.deleteDisk(ctx, place{ds, path.Clean(p.Path)}, types.ManagedObjectReference{}); fault != nil {
				return fault
			}
		}
	}
	return s.inner(ctx, req.This, func(ctx *simulator.Context) soap.HasFault {
		return ctx.Map.VStorageObjectManager().DeleteVStorageObjectTask(ctx, req)
	})
}
