// SPDX-License-Identifier: Apache-2.0

package access

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// refusal answers a call with a fault. The reference is that of the datacenter in which it was to work.
type refusal func(*simulator.Context, *core.Call, types.ManagedObjectReference, types.BaseMethodFault) soap.HasFault

// replies are the methods that are guarded, and how each fails.
var replies = map[string]refusal{
	"MakeDirectory": atOnce,
	"ImportVApp":    atOnce,

	"CreateVM_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{Returnval: task}}
	}),
	"RegisterVM_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.RegisterVM_TaskBody{Res: &types.RegisterVM_TaskResponse{Returnval: task}}
	}),
	"CloneVM_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.CloneVM_TaskBody{Res: &types.CloneVM_TaskResponse{Returnval: task}}
	}),
	"RelocateVM_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.RelocateVM_TaskBody{Res: &types.RelocateVM_TaskResponse{Returnval: task}}
	}),
	"ReconfigVM_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
	}),
	"PowerOnVM_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
	}),
	"CreateSnapshot_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: task}}
	}),
	"CreateVirtualDisk_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.CreateVirtualDisk_TaskBody{Res: &types.CreateVirtualDisk_TaskResponse{Returnval: task}}
	}),
	"ExtendVirtualDisk_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.ExtendVirtualDisk_TaskBody{Res: &types.ExtendVirtualDisk_TaskResponse{Returnval: task}}
	}),
	"DeleteVirtualDisk_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.DeleteVirtualDisk_TaskBody{Res: &types.DeleteVirtualDisk_TaskResponse{Returnval: task}}
	}),
	"CopyVirtualDisk_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.CopyVirtualDisk_TaskBody{Res: &types.CopyVirtualDisk_TaskResponse{Returnval: task}}
	}),
	"MoveVirtualDisk_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.MoveVirtualDisk_TaskBody{Res: &types.MoveVirtualDisk_TaskResponse{Returnval: task}}
	}),
	"CopyDatastoreFile_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.CopyDatastoreFile_TaskBody{Res: &types.CopyDatastoreFile_TaskResponse{Returnval: task}}
	}),
	"MoveDatastoreFile_Task": inTask(func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.MoveDatastoreFile_TaskBody{Res: &types.MoveDatastoreFile_TaskResponse{Returnval: task}}
	}),
}

func atOnce(
	_ *simulator.Context, _ *core.Call, _ types.ManagedObjectReference, fault types.BaseMethodFault,
) soap.HasFault {
	return core.Fault(fault)
}

func inTask(reply func(types.ManagedObjectReference) soap.HasFault) refusal {
	return func(
		ctx *simulator.Context, call *core.Call, on types.ManagedObjectReference, fault types.BaseMethodFault,
	) soap.HasFault {
		entity := call.This
		if _, ok := ctx.Map.Get(call.This).(mo.Entity); !ok { // the task of a manager is one of the datacenter
			entity = on
		}
		return reply(core.StartTask(ctx, entity, call.Name, func(*simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, fault
		}))
	}
}
