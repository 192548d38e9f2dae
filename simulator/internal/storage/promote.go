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

// overridePromote answers PromoteDisks_Task, which makes a linked clone independent of what it was cloned from.
func (s *Store) overridePromote() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.PromoteDisks_Task, _ core.Next) soap.HasFault {
		task := s.machineTask(ctx, req.This, "PromoteDisks_Task",
			func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
				return nil, s.promote(ctx, vm, req)
			})
		return &methods.PromoteDisks_TaskBody{Res: &types.PromoteDisks_TaskResponse{Returnval: task}}
	})
}

func (s *Store) promote(ctx *simulator.Context, vm *simulator.VirtualMachine, req *types.PromoteDisks_Task) types.BaseMethodFault {
	devices := devicesOf(ctx, vm)
	chosen := disks(devices)
	if len(req.Disks) > 0 {
		chosen = nil
		for i := range req.Disks {
			disk, ok := findDevice(devices, req.Disks[i].Key).(*types.VirtualDisk)
			if !ok {
				return &types.InvalidArgument{InvalidProperty: "disks"}
			}
			chosen = append(chosen, disk)
		}
	}
	if vm.Snapshot != nil {
		return &types.InvalidState{} // a snapshot needs the chain as it is
	}
	for _, disk := range chosen {
		if flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && flat.Parent != nil && req.Unlink {
			if fault := s.flatten(ctx, vm, disk); fault != nil {
				return fault
			}
		}
	}
	s.Settle(ctx, vm)
	return nil
}

// flatten gives a disk that reads through others all of its content.
func (s *Store) flatten(ctx *simulator.Context, vm *simulator.VirtualMachine, disk *types.VirtualDisk) types.BaseMethodFault {
	from, ok := placeOfDisk(ctx, disk)
	if !ok {
		return nil
	}
	if !s.sim.Lenient("locked-edits") {
		if fault := s.locked(from, vm.Self); fault != nil {
			return fault
		}
	}
	d, err := vdisk.ReadDescriptor(from.local())
	if err != nil {
		return fileFault(from, err)
	}
	spec := s.provisioning(ctx, from, d)
	spec.UUID = d.UUID()
	to, release := s.freeName(from.dir(), vm.Name, ".vmdk")
	defer release()
	if fault := s.CopyDisk(ctx, from, to, spec); fault != nil {
		return fault
	}
	s.replaceBacking(ctx, vm, from, to)
	s.Learn(ctx, vm)
	s.deleteChain(ctx, from, vm.Self)
	return nil
}
