// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// overridePower has a virtual machine not start whose disk another, running one has open.
func (s *Store) overridePower() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.PowerOnVM_Task, next core.Next) soap.HasFault {
		vm, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
		if !ok {
			return next()
		}
		fault := s.startable(ctx, vm)
		if fault == nil {
			return next()
		}
		task := core.StartTask(ctx, req.This, "PowerOnVM_Task",
			func(*simulator.Context) (types.AnyType, types.BaseMethodFault) { return nil, fault })
		return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
	})
}

func (s *Store) startable(ctx *simulator.Context, vm *simulator.VirtualMachine) types.BaseMethodFault {
	for _, disk := range disks(vm.Config.Hardware.Device) {
		at, ok := placeOfDisk(ctx, disk)
		if !ok {
			continue
		}
		if !at.exists() {
			return &types.FileNotFound{FileFault: types.FileFault{File: at.String()}}
		}
		flat, _ := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if flat != nil && flat.Sharing == string(types.VirtualDiskSharingSharingMultiWriter) {
			continue
		}
		// Reading through a disk that others read through as well is fine; writing to it is not.
		if s.writtenByRunning(at.local(), vm.Self) {
			return &types.FileLocked{FileFault: types.FileFault{File: at.String()}}
		}
	}
	return nil
}

func (s *Store) writtenByRunning(local string, except types.ManagedObjectReference) bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	for vm, a := range s.attached {
		if vm != except && a.tops[local] && s.isRunning(vm) {
			return true
		}
	}
	return s.lingers(local, except)
}
