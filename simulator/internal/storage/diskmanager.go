// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/vdisk"
)

// overrideDiskManager answers VirtualDiskManager's methods.
func (s *Store) overrideDiskManager() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.CreateVirtualDisk_Task, _ core.Next) soap.HasFault {
		task := s.diskTask(ctx, req.This, "CreateVirtualDisk_Task", req.Datacenter, req.Name,
			func(ctx *simulator.Context, at place) types.BaseMethodFault {
				spec, fault := fileSpec(req.Spec)
				if fault != nil {
					return fault
				}
				return s.CreateDisk(ctx, at, spec)
			})
		return &methods.CreateVirtualDisk_TaskBody{Res: &types.CreateVirtualDisk_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.DeleteVirtualDisk_Task, _ core.Next) soap.HasFault {
		task := s.diskTask(ctx, req.This, "DeleteVirtualDisk_Task", req.Datacenter, req.Name,
			func(ctx *simulator.Context, at place) types.BaseMethodFault {
				return s.deleteDisk(ctx, at, types.ManagedObjectReference{})
			})
		return &methods.DeleteVirtualDisk_TaskBody{Res: &types.DeleteVirtualDisk_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.ExtendVirtualDisk_Task, _ core.Next) soap.HasFault {
		task := s.diskTask(ctx, req.This, "ExtendVirtualDisk_Task", req.Datacenter, req.Name,
			func(ctx *simulator.Context, at place) types.BaseMethodFault {
				if fault := s.locked(at, types.ManagedObjectReference{}); fault != nil {
					return fault
				}
				if fault := s.ExtendDisk(ctx, at, req.NewCapacityKb<<10, req.EagerZero); fault != nil {
					return fault
				}
				s.tellOwners(ctx, at)
				return nil
			})
		return &methods.ExtendVirtualDisk_TaskBody{Res: &types.ExtendVirtualDisk_TaskResponse{Returnval: task}}
	})
	s.overrideConversions()
	s.overrideCopies()
	s.overrideUUIDs()
}

// diskTask starts a task on a disk that a datacenter and a path name.
func (s *Store) diskTask(
	ctx *simulator.Context, manager types.ManagedObjectReference, name string, datacenter *types.ManagedObjectReference,
	file string, run func(*simulator.Context, place) types.BaseMethodFault,
) types.ManagedObjectReference {
	return core.StartTask(ctx, manager, name, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		at, fault := resolve(ctx, datacenter, file)
		if fault != nil {
			return nil, fault
		}
		if fault := run(ctx, at); fault != nil {
			return nil, fault
		}
		if name == "CreateVirtualDisk_Task" {
			return at.String(), nil
		}
		return nil, nil
	})
}

func resolve(ctx *simulator.Context, datacenter *types.ManagedObjectReference, file string) (place, types.BaseMethodFault) {
	dc, fault := datacenterArgument(ctx, datacenter)
	if fault != nil {
		return place{}, fault
	}
	return parse(ctx, dc, file)
}

// diskType is what VirtualDiskManager calls the types of disks.
func diskType(name string) (thin, eager bool, fault types.BaseMethodFault) {
	switch types.VirtualDiskType(name) {
	case types.VirtualDiskTypeThin, types.VirtualDiskTypeSparse2Gb, types.VirtualDiskTypeSeSparse,
		types.VirtualDiskTypeDelta, types.VirtualDiskTypeSparseMonolithic:
		return true, false, nil
	case types.VirtualDiskTypeEagerZeroedThick:
		return false, true, nil
	case types.VirtualDiskTypePreallocated, types.VirtualDiskTypeThick, types.VirtualDiskTypeFlatMonolithic,
		types.VirtualDiskTypeThick2Gb, "":
		return false, false, nil
	}
	return false, false, &types.InvalidArgument{InvalidProperty: "diskType"}
}

func fileSpec(asked types.BaseVirtualDiskSpec) (vdisk.Spec, types.BaseMethodFault) {
	spec := vdisk.Spec{}
	if asked == nil {
		return spec, &types.InvalidArgument{InvalidProperty: "spec"}
	}
	base := asked.GetVirtualDiskSpec()
	var fault types.BaseMethodFault
	if spec.Thin, spec.Eager, fault = diskType(base.DiskType); fault != nil {
		return spec, fault
	}
	spec.AdapterType = descriptorAdapter(base.AdapterType)
	if file, ok := asked.(types.BaseFileBackedVirtualDiskSpec); ok {
		spec.CapacityBytes = file.GetFileBackedVirtualDiskSpec().CapacityKb << 10
		if spec.CapacityBytes <= 0 {
			return spec, &types.InvalidArgument{InvalidProperty: "spec.capacityKb"}
		}
	}
	return spec, nil
}

func descriptorAdapter(name string) string {
	switch types.VirtualDiskAdapterType(name) {
	case types.VirtualDiskAdapterTypeIde:
		return "ide"
	case types.VirtualDiskAdapterTypeBusLogic:
		return "buslogic"
	}
	return "lsilogic"
}

// tellOwners has virtual machines that have a disk say what its file says, after somebody changed that behind their backs.
func (s *Store) tellOwners(ctx *simulator.Context, at place) {
	s.lock.Lock()
	var owners []types.ManagedObjectReference
	for vm, a := range s.attached {
		if a.tops[at.local()] {
			owners = append(owners, vm)
		}
	}
	s.lock.Unlock()
	for _, ref := range owners {
		vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		ctx.WithLock(vm, func() {
			devices := append([]types.BaseVirtualDevice(nil), vm.Config.Hardware.Device...)
			for _, disk := range disks(devices) {
				if local, ok := localBacking(ctx, disk); ok && local == at.local() {
					fresh := deepCopy(disk)
					s.describe(fresh, at)
					devices = replaceDevice(devices, fresh)
				}
			}
			ctx.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
		})
		s.Settle(ctx, vm)
	}
}

// overrideConversions answers the methods that change how a disk takes its space.
func (s *Store) overrideConversions() {
	convert := func(thin, eager bool) func(*simulator.Context, place) types.BaseMethodFault {
		return func(ctx *simulator.Context, at place) types.BaseMethodFault {
			if fault := s.locked(at, types.ManagedObjectReference{}); fault != nil {
				return fault
			}
			if fault := s.convert(ctx, at, thin, eager); fault != nil {
				return fault
			}
			s.tellOwners(ctx, at)
			return nil
		}
	}
	core.Override(s.sim, func(ctx *simulator.Context, req *types.InflateVirtualDisk_Task, _ core.Next) soap.HasFault {
		task := s.diskTask(ctx, req.This, "InflateVirtualDisk_Task", req.Datacenter, req.Name, convert(false, true))
		return &methods.InflateVirtualDisk_TaskBody{Res: &types.InflateVirtualDisk_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.EagerZeroVirtualDisk_Task, _ core.Next) soap.HasFault {
		task := s.diskTask(ctx, req.This, "EagerZeroVirtualDisk_Task", req.Datacenter, req.Name,
			func(ctx *simulator.Context, at place) types.BaseMethodFault {
				if d, err := vdisk.ReadDescriptor(at.local()); err == nil && d.Thin() {
					return &types.FileFault{File: at.String()} // a thin disk is inflated
				}
				return convert(false, true)(ctx, at)
			})
		return &methods.EagerZeroVirtualDisk_TaskBody{Res: &types.EagerZeroVirtualDisk_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.ZeroFillVirtualDisk_Task, _ core.Next) soap.HasFault {
		task := s.diskTask(ctx, req.This, "ZeroFillVirtualDisk_Task", req.Datacenter, req.Name,
			func(ctx *simulator.Context, at place) types.BaseMethodFault { return s.zeroFill(ctx, at) })
		return &methods.ZeroFillVirtualDisk_TaskBody{Res: &types.ZeroFillVirtualDisk_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.ShrinkVirtualDisk_Task, _ core.Next) soap.HasFault {
		task := s.diskTask(ctx, req.This, "ShrinkVirtualDisk_Task", req.Datacenter, req.Name,
			func(ctx *simulator.Context, at place) types.BaseMethodFault { return s.shrink(ctx, at) })
		return &methods.ShrinkVirtualDisk_TaskBody{Res: &types.ShrinkVirtualDisk_TaskResponse{Returnval: task}}
	})
}

// zeroFill makes a disk thick and all of it zeros.
func (s *Store) zeroFill(ctx *simulator.Context, at place) types.BaseMethodFault {
	if fault := s.locked(at, types.ManagedObjectReference{}); fault != nil {
		return fault
	}
	if fault := s.convert(ctx, at, false, true); fault != nil {
		return fault
	}
	return s.rewrite(ctx, at, func(*vdisk.Disk) vdisk.Content { return nothing(0) })
}

// shrink gives back what a thin disk has taken for blocks that hold zeros.
func (s *Store) shrink(ctx *simulator.Context, at place) types.BaseMethodFault {
	if fault := s.locked(at, types.ManagedObjectReference{}); fault != nil {
		return fault
	}
	return s.rewrite(ctx, at, func(d *vdisk.Disk) vdisk.Content { return d })
}

type nothing int64

func (n nothing) CapacityBytes() int64         { return int64(n) }
func (n nothing) ReadAt([]byte, int64) error   { return nil }
func (n nothing) Ranges() (none []vdisk.Range) { return none }

// overrideUUIDs answers what is asked, and said, about a disk's descriptor.
func (s *Store) overrideUUIDs() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.QueryVirtualDiskUuid, _ core.Next) soap.HasFault {
		at, fault := resolve(ctx, req.Datacenter, req.Name)
		if fault != nil {
			return core.Fault(fault)
		}
		d, err := vdisk.ReadDescriptor(at.local())
		if err != nil {
			return core.Fault(fileFault(at, err))
		}
		return &methods.QueryVirtualDiskUuidBody{Res: &types.QueryVirtualDiskUuidResponse{
			Returnval: vdisk.SpacedUUID(d.UUID())}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.SetVirtualDiskUuid, _ core.Next) soap.HasFault {
		at, fault := resolve(ctx, req.Datacenter, req.Name)
		if fault == nil {
			fault = s.locked(at, types.ManagedObjectReference{})
		}
		if fault == nil {
			fault = s.SetUUID(ctx, at, req.Uuid)
		}
		if fault != nil {
			return core.Fault(fault)
		}
		s.tellOwners(core.NewContext(ctx), at)
		return &methods.SetVirtualDiskUuidBody{Res: &types.SetVirtualDiskUuidResponse{}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.QueryVirtualDiskGeometry, _ core.Next) soap.HasFault {
		at, fault := resolve(ctx, req.Datacenter, req.Name)
		if fault != nil {
			return core.Fault(fault)
		}
		d, err := vdisk.ReadDescriptor(at.local())
		if err != nil {
			return core.Fault(fileFault(at, err))
		}
		return &methods.QueryVirtualDiskGeometryBody{Res: &types.QueryVirtualDiskGeometryResponse{
			Returnval: types.HostDiskDimensionsChs{
				Cylinder: d.CapacityBytes() / (255 * 63 * vdisk.SectorBytes), Head: 255, Sector: 63}}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.QueryVirtualDiskFragmentation, _ core.Next) soap.HasFault {
		at, fault := resolve(ctx, req.Datacenter, req.Name)
		if fault == nil && !at.exists() {
			fault = &types.FileNotFound{FileFault: types.FileFault{File: at.String()}}
		}
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.QueryVirtualDiskFragmentationBody{Res: &types.QueryVirtualDiskFragmentationResponse{}}
	})
}
