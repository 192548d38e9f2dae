// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// volumes is HostStorageSystem.UnmountVmfsVolume and MountVmfsVolume. They lock more than the storage system.
func volumes(s *core.Sim) {
	core.Unlocked(s, func(ctx *simulator.Context, req *types.UnmountVmfsVolume, next core.Next) soap.HasFault {
		system, ok := ctx.Map.Get(req.This).(*simulator.HostStorageSystem)
		if !ok {
			return next()
		}
		if fault := unmount(ctx, system, req.VmfsUuid); fault != nil {
			return core.Fault(fault)
		}
		return &methods.UnmountVmfsVolumeBody{Res: &types.UnmountVmfsVolumeResponse{}}
	})
	core.Unlocked(s, func(ctx *simulator.Context, req *types.MountVmfsVolume, next core.Next) soap.HasFault {
		system, ok := ctx.Map.Get(req.This).(*simulator.HostStorageSystem)
		if !ok {
			return next()
		}
		if fault := mount(ctx, system, req.VmfsUuid); fault != nil {
			return core.Fault(fault)
		}
		return &methods.MountVmfsVolumeBody{Res: &types.MountVmfsVolumeResponse{}}
	})
}

// find finds a VMFS volume of a host, and the host's mount of it.
func find(ctx *simulator.Context, system *simulator.HostStorageSystem, uuid string,
) (*simulator.Datastore, *simulator.HostSystem, *types.HostMountInfo) {
	host := ctx.Map.Get(system.Host.Self).(*simulator.HostSystem)
	for _, datastore := range places.Datastores(ctx, places.Datacenter(ctx, host.Self)) {
		info, ok := datastore.Info.(*types.VmfsDatastoreInfo)
		if !ok || info.Vmfs == nil || info.Vmfs.Uuid != uuid {
			continue
		}
		for i := range datastore.Host {
			if datastore.Host[i].Key == host.Self {
				return datastore, host, &datastore.Host[i].MountInfo
			}
		}
	}
	return nil, host, nil
}

func unmount(ctx *simulator.Context, system *simulator.HostStorageSystem, uuid string) types.BaseMethodFault {
	datastore, host, info := find(ctx, system, uuid)
	if datastore == nil {
		return &types.NotFound{}
	}
	if !isTrue(info.Mounted) {
		return &types.InvalidState{}
	}
	for _, vm := range places.Machines(ctx, datastore.Self) {
		if at := places.HostOf(ctx, vm); at != nil && *at == host.Self {
			return &types.ResourceInUse{Type: "Datastore", Name: places.Name(datastore)}
		}
	}
	Apply(ctx, datastore, host, Change{Mounted: types.NewBool(false)})
	return nil
}

func mount(ctx *simulator.Context, system *simulator.HostStorageSystem, uuid string) types.BaseMethodFault {
	datastore, host, info := find(ctx, system, uuid)
	if datastore == nil {
		return &types.NotFound{}
	}
	if isTrue(info.Mounted) {
		return &types.InvalidState{}
	}
	Apply(ctx, datastore, host, Change{Mounted: types.NewBool(true)})
	return nil
}
