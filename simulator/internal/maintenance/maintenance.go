// SPDX-License-Identifier: Apache-2.0

// Package maintenance puts datastores into maintenance mode and takes them out again.
package maintenance

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

const (
	normal   = string(types.DatastoreSummaryMaintenanceModeStateNormal)
	entering = string(types.DatastoreSummaryMaintenanceModeStateEnteringMaintenance)
	inside   = string(types.DatastoreSummaryMaintenanceModeStateInMaintenance)
)

// Feature is Datastore.DatastoreEnterMaintenanceMode and DatastoreExitMaintenanceMode_Task.
var Feature = core.Feature{Name: "datastore maintenance mode", Start: start}

// Evacuate, if it is set, is asked when a datastore begins to enter maintenance mode, with no lock held. It moves away what
// it will, and returns the recommendations that remain for the client to apply.
var Evacuate func(ctx *simulator.Context, datastore *simulator.Datastore) []types.ClusterRecommendation

func start(s *core.Sim) error {
	core.Unlocked(s, func(ctx *simulator.Context, req *types.DatastoreEnterMaintenanceMode, next core.Next) soap.HasFault {
		datastore, ok := ctx.Map.Get(req.This).(*simulator.Datastore)
		if !ok {
			return next()
		}
		if !begin(ctx, datastore) {
			return core.Fault(&types.InvalidState{})
		}
		task := core.NewTask(ctx, req.This, "DatastoreEnterMaintenanceMode")
		result := types.StoragePlacementResult{Task: &task.Self}
		if Evacuate != nil {
			result.Recommendations = Evacuate(ctx, datastore)
		}
		go enter(core.NewContext(ctx), datastore, task)
		return &methods.DatastoreEnterMaintenanceModeBody{
			Res: &types.DatastoreEnterMaintenanceModeResponse{Returnval: result}}
	})
	s.Keep("datastore maintenance mode", core.Keep{
		Save: func() any { return true },
		Load: func([]byte) error { // tasks do not survive, so nobody waits any more
			for _, datastore := range places.Datastores(s.Context(), nil) {
				if mode(s.Context(), datastore) == entering {
					setMode(s.Context(), datastore, normal)
				}
			}
			return nil
		},
	})
	core.Override(s, func(ctx *simulator.Context, req *types.DatastoreExitMaintenanceMode_Task, _ core.Next) soap.HasFault {
		datastore := ctx.Map.Get(req.This).(*simulator.Datastore)
		task := core.StartTask(ctx, req.This, "DatastoreExitMaintenanceMode_Task", func(ctx *simulator.Context,
		) (types.AnyType, types.BaseMethodFault) {
			if mode(ctx, datastore) != inside {
				return nil, &types.InvalidState{}
			}
			setMode(ctx, datastore, normal)
			return nil, nil
		})
		return &methods.DatastoreExitMaintenanceMode_TaskBody{
			Res: &types.DatastoreExitMaintenanceMode_TaskResponse{Returnval: task}}
	})
	return nil
}

// begin reports whether the datastore was in service until now.
func begin(ctx *simulator.Context, datastore *simulator.Datastore) (begun bool) {
	ctx.WithLock(datastore, func() {
		if begun = datastore.Summary.MaintenanceMode == normal; begun {
			ctx.Update(datastore, []types.PropertyChange{{Name: "summary.maintenanceMode", Val: entering}})
		}
	})
	return begun
}

// enter waits until nothing is registered on the datastore, or until the task is cancelled.
func enter(ctx *simulator.Context, datastore *simulator.Datastore, task *simulator.Task) {
	const longest = time.Second
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, longest) {
		var over bool
		ctx.WithLock(task, func() { over = task.Info.State != types.TaskInfoStateRunning })
		switch {
		case ctx.Map.Get(datastore.Self) == nil:
			if !over {
				core.FinishTask(ctx, task, nil, &types.ManagedObjectNotFound{Obj: datastore.Self})
			}
			return
		case over: // cancelled
			setMode(ctx, datastore, normal)
			return
		case len(places.Machines(ctx, datastore.Self)) == 0:
			setMode(ctx, datastore, inside)
			core.FinishTask(ctx, task, nil, nil)
			return
		}
		time.Sleep(pause)
	}
}

func mode(ctx *simulator.Context, datastore *simulator.Datastore) (mode string) {
	ctx.WithLock(datastore, func() { mode = datastore.Summary.MaintenanceMode })
	return mode
}

func setMode(ctx *simulator.Context, datastore *simulator.Datastore, mode string) {
	ctx.Map.AtomicUpdate(ctx, datastore, []types.PropertyChange{{Name: "summary.maintenanceMode", Val: mode}})
}
