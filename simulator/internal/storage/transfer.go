// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// overrideTransfers answers what imports and exports virtual machines.
func (s *Store) overrideTransfers() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.ImportVApp, _ core.Next) soap.HasFault {
		return s.importVApp(ctx, req)
	})
	core.Override(s.sim, func(_ *simulator.Context, _ *types.CreateImportSpec, next core.Next) soap.HasFault {
		answer := next()
		if body, ok := answer.(*methods.CreateImportSpecBody); ok && body.Res != nil {
			nameFiles(&body.Res.Returnval)
		}
		return answer
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.ExportVm, _ core.Next) soap.HasFault {
		vm, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
		if !ok {
			return core.Fault(&types.ManagedObjectNotFound{Obj: req.This})
		}
		if state := vm.Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOff {
			return core.Fault(&types.InvalidPowerState{
				RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: state})
		}
		lease := s.newLease(ctx, false)
		lease.ready(ctx, vm, vm.Config.Hardware.Device, importKeys{})
		return &methods.ExportVmBody{Res: &types.ExportVmResponse{Returnval: lease.Self}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.ExportSnapshot, _ core.Next) soap.HasFault {
		snapshot, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachineSnapshot)
		if !ok {
			return core.Fault(&types.ManagedObjectNotFound{Obj: req.This})
		}
		vm, ok := ctx.Map.Get(snapshot.Vm).(*simulator.VirtualMachine)
		if !ok {
			return core.Fault(&types.ManagedObjectNotFound{Obj: snapshot.Vm})
		}
		lease := s.newLease(ctx, false)
		lease.ready(ctx, vm, snapshot.Config.Hardware.Device, importKeys{})
		return &methods.ExportSnapshotBody{Res: &types.ExportSnapshotResponse{Returnval: lease.Self}}
	})
}

// importVApp does what ResourcePool.ImportVApp does: the virtual machine is made while the client waits for the lease, and the
// disks come after that.
func (s *Store) importVApp(ctx *simulator.Context, req *types.ImportVApp) soap.HasFault {
	spec, ok := req.Spec.(*types.VirtualMachineImportSpec)
	if !ok {
		return core.FaultMessage(fmt.Sprintf("%T is not supported", req.Spec), &types.InvalidArgument{InvalidProperty: "spec"})
	}
	dc := datacenterOf(ctx, req.This)
	if dc == nil {
		return core.Fault(&types.ManagedObjectNotFound{Obj: req.This})
	}
	folder := dc.VmFolder
	if req.Folder != nil {
		folder = *req.Folder
	}
	if _, ok := ctx.Map.Get(folder).(*simulator.Folder); !ok {
		return core.Fault(&types.ManagedObjectNotFound{Obj: folder})
	}
	keys := importKeysOf(&spec.ConfigSpec)
	lease := s.newLease(ctx, true)
	create := &types.CreateVM_Task{This: folder, Config: spec.ConfigSpec, Pool: req.This, Host: req.Host}
	core.StartTask(ctx, req.This, "ImportVAppLRO", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		ref, fault := s.createMachine(ctx, create, true)
		if fault != nil {
			lease.fail(ctx, fault)
			return nil, fault
		}
		vm := ctx.Map.Get(*ref).(*simulator.VirtualMachine)
		lease.ready(ctx, vm, devicesOf(ctx, vm), keys)
		return *ref, nil
	})
	return &methods.ImportVAppBody{Res: &types.ImportVAppResponse{Returnval: lease.Self}}
}
