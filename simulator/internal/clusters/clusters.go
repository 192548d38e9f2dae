// SPDX-License-Identifier: Apache-2.0

// Package clusters removes clusters of hosts.
package clusters

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature is Destroy_Task of a cluster that has no hosts.
var Feature = core.Feature{Name: "clusters", Start: start}

func start(s *core.Sim) error {
	core.Override(s, func(ctx *simulator.Context, req *types.Destroy_Task, next core.Next) soap.HasFault {
		cluster, ok := ctx.Map.Get(req.This).(*simulator.ClusterComputeResource)
		if !ok || len(cluster.Host) > 0 {
			return next()
		}
		task := core.StartTask(ctx, req.This, "Destroy_Task", func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			return nil, remove(ctx, cluster)
		})
		return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task}}
	})
	return nil
}

// remove takes an empty cluster from the inventory, and its root resource pool with it.
func remove(ctx *simulator.Context, cluster *simulator.ClusterComputeResource) types.BaseMethodFault {
	if ctx.Map.Get(cluster.Self) == nil {
		return &types.ManagedObjectNotFound{Obj: cluster.Self}
	}
	folder, ok := ctx.Map.Get(*cluster.Parent).(*simulator.Folder)
	if !ok {
		return &types.NotSupported{}
	}
	var full bool
	ctx.WithLock(cluster, func() { full = len(cluster.Host) > 0 })
	if full {
		return &types.ResourceInUse{Type: cluster.Self.Type, Name: cluster.Name}
	}
	ctx.WithLock(folder, func() {
		children := slices.DeleteFunc(slices.Clone(folder.ChildEntity), func(ref types.ManagedObjectReference) bool {
			return ref == cluster.Self
		})
		ctx.Update(folder, []types.PropertyChange{{Name: "childEntity", Val: children}})
	})
	for _, ref := range []*types.ManagedObjectReference{cluster.ResourcePool, cluster.EnvironmentBrowser, &cluster.Self} {
		if ref != nil {
			ctx.Map.Remove(ctx, *ref)
		}
	}
	return nil
}
