// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/inventory"
	"vcenter-sim/internal/places"
)

// vmfs is HostDatastoreSystem.QueryAvailableDisksForVmfs, QueryVmfsDatastoreCreateOptions and CreateVmfsDatastore.
func (f *feature) vmfs(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *types.QueryAvailableDisksForVmfs, _ core.Next) soap.HasFault {
		_, datacenter := hostOf(ctx, req.This)
		res := new(types.QueryAvailableDisksForVmfsResponse)
		for _, free := range f.disks.free(datacenter.Self) {
			res.Returnval = append(res.Returnval, free.scsi())
		}
		return &methods.QueryAvailableDisksForVmfsBody{Res: res}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.QueryVmfsDatastoreCreateOptions, _ core.Next) soap.HasFault {
		_, datacenter := hostOf(ctx, req.This)
		disk := f.disks.named(datacenter.Self, req.DevicePath)
		if disk == nil {
			return core.Fault(&types.NotFound{})
		}
		res := new(types.QueryVmfsDatastoreCreateOptionsResponse)
		if disk.datastore == nil {
			res.Returnval = []types.VmfsDatastoreOption{createOption(disk, req.VmfsMajorVersion)}
		}
		return &methods.QueryVmfsDatastoreCreateOptionsBody{Res: res}
	})
	core.Unlocked(s, func(ctx *simulator.Context, req *types.CreateVmfsDatastore, _ core.Next) soap.HasFault {
		f.adding.Lock()
		defer f.adding.Unlock()
		datastore, fault := f.createVMFS(ctx, req)
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.CreateVmfsDatastoreBody{Res: &types.CreateVmfsDatastoreResponse{Returnval: datastore.Self}}
	})
}

// hostOf is the host of a HostDatastoreSystem, and its datacenter.
func hostOf(ctx *simulator.Context, system types.ManagedObjectReference) (*simulator.HostSystem, *simulator.Datacenter) {
	ref := ctx.Map.Get(system).(*simulator.HostDatastoreSystem).Host.Self
	return ctx.Map.Get(ref).(*simulator.HostSystem), places.Datacenter(ctx, ref)
}

func version(asked int32) int32 {
	const newest = 6
	if asked == 0 {
		return newest
	}
	return asked
}

func createOption(d *disk, majorVersion int32) types.VmfsDatastoreOption {
	extent := types.HostScsiDiskPartition{DiskName: d.name, Partition: 1}
	return types.VmfsDatastoreOption{
		Info: &types.VmfsDatastoreAllExtentOption{VmfsDatastoreSingleExtentOption: types.VmfsDatastoreSingleExtentOption{
			VmfsDatastoreBaseOption: types.VmfsDatastoreBaseOption{
				Layout: d.layout(), PartitionFormatChange: types.NewBool(false)},
			VmfsExtent: d.layout().Partition[0],
		}},
		Spec: &types.VmfsDatastoreCreateSpec{
			VmfsDatastoreSpec: types.VmfsDatastoreSpec{DiskUuid: d.uuid()},
			Partition:         d.partition(),
			Vmfs:              types.HostVmfsSpec{Extent: extent, MajorVersion: version(majorVersion)},
		},
	}
}

// createVMFS formats a free disk. All hosts of the datacenter see the disk, and a vCenter has them mount the new volume.
func (f *feature) createVMFS(ctx *simulator.Context, req *types.CreateVmfsDatastore) (*simulator.Datastore, types.BaseMethodFault) {
	host, datacenter := hostOf(ctx, req.This)
	name := places.Escape(req.Spec.Vmfs.VolumeName)
	if fault := nameFree(ctx, datacenter, name); fault != nil {
		return nil, fault
	}
	if major := version(req.Spec.Vmfs.MajorVersion); major != 5 && major != 6 {
		return nil, &types.InvalidArgument{InvalidProperty: "spec.vmfs.majorVersion"}
	}
	disk := f.disks.named(datacenter.Self, req.Spec.DiskUuid)
	if disk == nil || req.Spec.Vmfs.Extent.DiskName != disk.name {
		return nil, &types.NotFound{}
	}
	// Taken before the datastore has a reference, so that of two who want the disk one fails before anything is made.
	if !f.disks.take(disk, types.ManagedObjectReference{}) {
		return nil, &types.HostConfigFault{}
	}
	datastore, err := f.add(ctx, name, host, datacenter, func(datastore *simulator.Datastore) {
		inventory.FormatVMFS(datastore, disk.bytes)
		volume := datastore.Info.(*types.VmfsDatastoreInfo).Vmfs
		volume.Extent = []types.HostScsiDiskPartition{{DiskName: disk.name, Partition: 1}}
		if version(req.Spec.Vmfs.MajorVersion) == 5 {
			volume.MajorVersion, volume.Version = 5, "5.81"
		}
	})
	f.disks.Lock()
	defer f.disks.Unlock()
	if err != nil {
		disk.datastore = nil
		return nil, &types.SystemError{Reason: err.Error()}
	}
	disk.datastore = &datastore.Self
	return datastore, nil
}

// nameFree refuses a name that is none, or that a datastore of the datacenter has.
func nameFree(ctx *simulator.Context, datacenter *simulator.Datacenter, name string) types.BaseMethodFault {
	if name == "" {
		return &types.InvalidName{Name: name}
	}
	if other := places.Datastore(ctx, datacenter, name); other != nil {
		return &types.DuplicateName{Name: name, Object: other.Self}
	}
	return nil
}

// expand is HostDatastoreSystem.QueryVmfsDatastoreExpandOptions and ExpandVmfsDatastore, for a disk that has grown.
func (f *feature) expand(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *types.QueryVmfsDatastoreExpandOptions, _ core.Next) soap.HasFault {
		datastore, ok := ctx.Map.Get(req.Datastore).(*simulator.Datastore)
		if !ok {
			return core.Fault(&types.NotFound{})
		}
		res := new(types.QueryVmfsDatastoreExpandOptionsResponse)
		if disk := f.disks.of(req.Datastore); disk != nil && disk.bytes > datastore.Summary.Capacity {
			res.Returnval = []types.VmfsDatastoreOption{expandOption(disk)}
		}
		return &methods.QueryVmfsDatastoreExpandOptionsBody{Res: res}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.ExpandVmfsDatastore, _ core.Next) soap.HasFault {
		datastore, ok := ctx.Map.Get(req.Datastore).(*simulator.Datastore)
		disk := f.disks.of(req.Datastore)
		if !ok || disk == nil || req.Spec.Extent.DiskName != disk.name {
			return core.Fault(&types.NotFound{})
		}
		if disk.bytes <= datastore.Summary.Capacity {
			return core.FaultMessage(fmt.Sprintf("The disk of datastore '%s' has no space beyond the volume.", places.Name(datastore)),
				&types.HostConfigFault{})
		}
		f.setCapacity(core.NewContext(ctx), datastore, disk.bytes)
		return &methods.ExpandVmfsDatastoreBody{Res: &types.ExpandVmfsDatastoreResponse{Returnval: datastore.Self}}
	})
}

func expandOption(d *disk) types.VmfsDatastoreOption {
	return types.VmfsDatastoreOption{
		Info: &types.VmfsDatastoreAllExtentOption{VmfsDatastoreSingleExtentOption: types.VmfsDatastoreSingleExtentOption{
			VmfsDatastoreBaseOption: types.VmfsDatastoreBaseOption{
				Layout: d.layout(), PartitionFormatChange: types.NewBool(false)},
			VmfsExtent: d.layout().Partition[0],
		}},
		Spec: &types.VmfsDatastoreExpandSpec{
			VmfsDatastoreSpec: types.VmfsDatastoreSpec{DiskUuid: d.uuid()},
			Partition:         d.partition(),
			Extent:            types.HostScsiDiskPartition{DiskName: d.name, Partition: 1},
		},
	}
}

func (f *feature) setCapacity(ctx *simulator.Context, datastore *simulator.Datastore, bytes int64) {
	ctx.WithLock(datastore, func() {
		grown := bytes - datastore.Summary.Capacity
		info := *datastore.Info.(*types.VmfsDatastoreInfo)
		volume := *info.Vmfs
		volume.Capacity = bytes
		info.Vmfs, info.FreeSpace = &volume, info.FreeSpace+grown
		ctx.Update(datastore, []types.PropertyChange{
			{Name: "summary.capacity", Val: bytes},
			{Name: "summary.freeSpace", Val: datastore.Summary.FreeSpace + grown},
			{Name: "info", Val: &info},
		})
	})
	if space := f.space(); space != nil {
		space.Publish(ctx, datastore)
	}
}
