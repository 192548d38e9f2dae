// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// hosts lets WaitForUpdatesEx see a host's connection and maintenance mode, which the library changes silently, and has the
// accessibility of datastores follow.
func hosts(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *types.EnterMaintenanceMode_Task, _ core.Next) soap.HasFault {
		own := core.NewContext(ctx)
		task := core.NewTask(own, req.This, "EnterMaintenanceMode_Task")
		e := &evacuation{sim: s, host: ctx.Map.Get(req.This).(*simulator.HostSystem), task: task,
			all: req.EvacuatePoweredOffVms != nil && *req.EvacuatePoweredOffVms}
		go e.run(own, time.Duration(req.Timeout)*time.Second)
		return &methods.EnterMaintenanceMode_TaskBody{Res: &types.EnterMaintenanceMode_TaskResponse{Returnval: task.Self}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.ExitMaintenanceMode_Task, _ core.Next) soap.HasFault {
		task := hostTask(ctx, req.This, "ExitMaintenanceMode_Task", func(ctx *simulator.Context, host *simulator.HostSystem,
		) types.BaseMethodFault {
			return setMaintenance(ctx, host, false)
		})
		return &methods.ExitMaintenanceMode_TaskBody{Res: &types.ExitMaintenanceMode_TaskResponse{Returnval: task}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.DisconnectHost_Task, _ core.Next) soap.HasFault {
		task := hostTask(ctx, req.This, "DisconnectHost_Task", func(ctx *simulator.Context, host *simulator.HostSystem,
		) types.BaseMethodFault {
			setConnection(ctx, host, types.HostSystemConnectionStateDisconnected)
			return nil
		})
		return &methods.DisconnectHost_TaskBody{Res: &types.DisconnectHost_TaskResponse{Returnval: task}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.ReconnectHost_Task, _ core.Next) soap.HasFault {
		task := hostTask(ctx, req.This, "ReconnectHost_Task", func(ctx *simulator.Context, host *simulator.HostSystem,
		) types.BaseMethodFault {
			if host.Runtime.ConnectionState == types.HostSystemConnectionStateConnected {
				return &types.InvalidState{}
			}
			setConnection(ctx, host, types.HostSystemConnectionStateConnected)
			return nil
		})
		return &methods.ReconnectHost_TaskBody{Res: &types.ReconnectHost_TaskResponse{Returnval: task}}
	})
}

func hostTask(ctx *simulator.Context, this types.ManagedObjectReference, name string,
	run func(*simulator.Context, *simulator.HostSystem) types.BaseMethodFault) types.ManagedObjectReference {
	return core.StartTask(ctx, this, name, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return nil, run(ctx, ctx.Map.Get(this).(*simulator.HostSystem))
	})
}

func setMaintenance(ctx *simulator.Context, host *simulator.HostSystem, on bool) types.BaseMethodFault {
	if host.Runtime.InMaintenanceMode == on {
		return &types.InvalidState{}
	}
	ctx.Map.AtomicUpdate(ctx, host, []types.PropertyChange{
		{Name: "runtime.inMaintenanceMode", Val: on}, {Name: "summary.runtime.inMaintenanceMode", Val: on}})
	return nil
}

func setConnection(ctx *simulator.Context, host *simulator.HostSystem, state types.HostSystemConnectionState) {
	ctx.Map.AtomicUpdate(ctx, host, []types.PropertyChange{
		{Name: "runtime.connectionState", Val: state}, {Name: "summary.runtime.connectionState", Val: state}})
	for _, datastore := range places.Datastores(ctx, places.Datacenter(ctx, host.Self)) {
		refresh(ctx, datastore)
	}
}
