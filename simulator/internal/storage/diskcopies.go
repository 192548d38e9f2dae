// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/vdisk"
)

// overrideCopies answers CopyVirtualDisk_Task and MoveVirtualDisk_Task.
func (s *Store) overrideCopies() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.CopyVirtualDisk_Task, _ core.Next) soap.HasFault {
		task := s.diskTask(ctx, req.This, "CopyVirtualDisk_Task", req.SourceDatacenter, req.SourceName,
			func(ctx *simulator.Context, from place) types.BaseMethodFault {
				return s.copyVirtualDisk(ctx, from, req)
			})
		return &methods.CopyVirtualDisk_TaskBody{Res: &types.CopyVirtualDisk_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.MoveVirtualDisk_Task, _ core.Next) soap.HasFault {
		task := s.diskTask(ctx, req.This, "MoveVirtualDisk_Task", req.SourceDatacenter, req.SourceName,
			func(ctx *simulator.Context, from place) types.BaseMethodFault {
				return s.moveVirtualDisk(ctx, from, req)
			})
		return &methods.MoveVirtualDisk_TaskBody{Res: &types.MoveVirtualDisk_TaskResponse{Returnval: task}}
	})
}

func destination(
	ctx *simulator.Context, datacenter, source *types.ManagedObjectReference, name string,
) (place, types.BaseMethodFault) {
	if datacenter == nil {
		datacenter = source
	}
	return resolve(ctx, datacenter, name)
}

func (s *Store) copyVirtualDisk(ctx *simulator.Context, from place, req *types.CopyVirtualDisk_Task) types.BaseMethodFault {
	to, fault := destination(ctx, req.DestDatacenter, req.SourceDatacenter, req.DestName)
	if fault != nil {
		return fault
	}
	// A snapshot's disk may be read while the virtual machine runs on the delta; what it writes to may not.
	s.lock.Lock()
	inUse := false
	for vm, a := range s.attached {
		inUse = inUse || a.tops[from.local()] && s.isRunning(vm)
	}
	s.lock.Unlock()
	if inUse {
		return &types.FileLocked{FileFault: types.FileFault{File: from.String()}}
	}
	source, err := vdisk.ReadDescriptor(from.local())
	if err != nil {
		return fileFault(from, err)
	}
	spec := vdisk.Spec{Thin: source.Thin(), Eager: source.Eager(), AdapterType: source.DDB["adapterType"]}
	if req.DestSpec != nil {
		asked := req.DestSpec.GetVirtualDiskSpec()
		if spec.Thin, spec.Eager, fault = diskType(asked.DiskType); fault != nil {
			return fault
		}
		spec.AdapterType = descriptorAdapter(asked.AdapterType)
	}
	if to.exists() && isTrue(req.Force) {
		if fault := s.deleteDisk(ctx, to, types.ManagedObjectReference{}); fault != nil {
			return fault
		}
	}
	return s.CopyDisk(ctx, from, to, spec)
}

func (s *Store) moveVirtualDisk(ctx *simulator.Context, from place, req *types.MoveVirtualDisk_Task) types.BaseMethodFault {
	to, fault := destination(ctx, req.DestDatacenter, req.SourceDatacenter, req.DestName)
	if fault == nil {
		fault = s.locked(from, types.ManagedObjectReference{})
	}
	if fault != nil {
		return fault
	}
	if !from.exists() {
		return &types.FileNotFound{FileFault: types.FileFault{File: from.String()}}
	}
	if to.exists() && isTrue(req.Force) {
		if fault := s.deleteDisk(ctx, to, types.ManagedObjectReference{}); fault != nil {
			return fault
		}
	}
	return s.moveDisk(ctx, from, to)
}

// rewrite gives a disk a content anew, in place.
func (s *Store) rewrite(ctx *simulator.Context, at place, content func(*vdisk.Disk) vdisk.Content) types.BaseMethodFault {
	d, err := vdisk.Open(at.local())
	if err != nil {
		return fileFault(at, err)
	}
	defer d.Close()
	if d.Descriptor.CreateType != vdisk.TypeVMFS {
		return &types.FileFault{File: at.String()}
	}
	extent := vdisk.ExtentPath(at.local(), d.Descriptor)
	fresh := extent + ".new~"
	if err = vdisk.WriteFlat(fresh, d.CapacityBytes(), content(d)); err == nil {
		err = os.Rename(fresh, extent)
	} else {
		_ = os.Remove(fresh)
	}
	s.touchDisk(ctx, at)
	if err != nil {
		return fileFault(at, err)
	}
	return nil
}
