// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"context"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// evacuation is a host on its way into maintenance mode: it is in it when no virtual machine runs on it any more. Those of a
// cluster whose DRS is automatic are moved to other hosts; others have to be moved or powered off by somebody.
type evacuation struct {
	sim  *core.Sim
	host *simulator.HostSystem
	task *simulator.Task
	all  bool // those that are powered off as well
}

// run ends the task, with the fault Timedout after a time that is not 0.
func (e *evacuation) run(ctx *simulator.Context, timeout time.Duration) {
	if e.host.Runtime.InMaintenanceMode {
		core.FinishTask(ctx, e.task, nil, &types.InvalidState{})
		return
	}
	tried := make(map[types.ManagedObjectReference]bool)
	begin := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		var over bool
		ctx.WithLock(e.task, func() { over = e.task.Info.State != types.TaskInfoStateRunning })
		if over {
			return // cancelled
		}
		left := e.left(ctx)
		if len(left) == 0 {
			core.FinishTask(ctx, e.task, nil, setMaintenance(ctx, e.host, true))
			return
		}
		if timeout > 0 && time.Since(begin) > timeout {
			core.FinishTask(ctx, e.task, nil, &types.Timedout{})
			return
		}
		for _, vm := range left {
			if !tried[vm.Self] {
				tried[vm.Self] = true
				e.move(ctx, vm)
			}
		}
		time.Sleep(pause)
	}
}

// left lists the virtual machines that are in the way.
func (e *evacuation) left(ctx *simulator.Context) []*simulator.VirtualMachine {
	var refs []types.ManagedObjectReference
	ctx.WithLock(e.host, func() { refs = slices.Clone(e.host.Vm) })
	var list []*simulator.VirtualMachine
	for _, ref := range refs {
		vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		ctx.WithLock(vm, func() {
			here := vm.Runtime.Host != nil && *vm.Runtime.Host == e.host.Self
			off := vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
			if here && (!off || e.all && e.automatic(ctx)) {
				list = append(list, vm)
			}
		})
	}
	return list
}

// automatic reports whether the host is in a cluster whose DRS moves machines by itself.
func (e *evacuation) automatic(ctx *simulator.Context) bool {
	cluster, ok := ctx.Map.Get(*e.host.Parent).(*simulator.ClusterComputeResource)
	if !ok {
		return false
	}
	config, ok := cluster.ConfigurationEx.(*types.ClusterConfigInfoEx)
	return ok && isTrue(config.DrsConfig.Enabled) &&
		(config.DrsConfig.DefaultVmBehavior == "" || config.DrsConfig.DefaultVmBehavior == types.DrsBehaviorFullyAutomated)
}

// move asks for a migration to another host of the cluster.
func (e *evacuation) move(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	if !e.automatic(ctx) {
		return
	}
	var datastores []types.ManagedObjectReference
	ctx.WithLock(vm, func() { datastores = slices.Clone(vm.Datastore) })
	for _, ref := range ctx.Map.Get(*e.host.Parent).(*simulator.ClusterComputeResource).Host {
		other := ctx.Map.Get(ref).(*simulator.HostSystem)
		if ref == e.host.Self || other.Runtime.InMaintenanceMode || !reaches(ctx, ref, datastores) {
			continue
		}
		_, _ = methods.RelocateVM_Task(context.Background(), e.sim.Model.Service, &types.RelocateVM_Task{
			This: vm.Self, Spec: types.VirtualMachineRelocateSpec{Host: &ref}})
		return
	}
}

// reaches reports whether a host has all of the datastores.
func reaches(ctx *simulator.Context, host types.ManagedObjectReference, datastores []types.ManagedObjectReference) bool {
	for _, ref := range datastores {
		datastore, ok := ctx.Map.Get(ref).(*simulator.Datastore)
		if !ok {
			continue
		}
		found := false
		ctx.WithLock(datastore, func() {
			found = slices.ContainsFunc(datastore.Host, func(mount types.DatastoreHostMount) bool {
				return mount.Key == host && Serves(ctx, mount)
			})
		})
		if !found {
			return false
		}
	}
	return true
}
