// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/mounts"
	"vcenter-sim/internal/places"
)

// recommend is StorageResourceManager.RecommendDatastores and CancelStorageDrsRecommendation.
func (f *feature) recommend(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *types.RecommendDatastores, _ core.Next) soap.HasFault {
		result, fault := f.recommendFor(core.NewContext(ctx), &req.StorageSpec)
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.RecommendDatastoresBody{Res: &types.RecommendDatastoresResponse{Returnval: *result}}
	})
	core.Override(s, func(_ *simulator.Context, req *types.CancelStorageDrsRecommendation, _ core.Next) soap.HasFault {
		for _, key := range req.Key {
			f.take(key)
		}
		return &methods.CancelStorageDrsRecommendationBody{Res: &types.CancelStorageDrsRecommendationResponse{}}
	})
}

// placement is a request for a place, and what was recommended for it.
type placement struct {
	spec        *types.StoragePlacementSpec
	pod         *simulator.StoragePod
	disks       []int32 // keys of the disks that the request names; none stands for all
	destination *simulator.Datastore
	// move is what is to be done, if it is not what the request says.
	move *types.VirtualMachineRelocateSpec
}

func invalid(property string) types.BaseMethodFault {
	return &types.InvalidArgument{InvalidProperty: property}
}

// recommendFor ranks the members of a pod by the space that is free once the disks are there. Left out are members in
// maintenance mode, those which no host in question reaches, and those which are too small for what the disks may come to take.
func (f *feature) recommendFor(ctx *simulator.Context, spec *types.StoragePlacementSpec,
) (*types.StoragePlacementResult, types.BaseMethodFault) {
	request, fault := f.understand(ctx, spec)
	if fault != nil {
		return nil, fault
	}
	need, fault := request.need(ctx)
	if fault != nil {
		return nil, fault
	}
	hosts := hostsFor(ctx, spec)
	var fitting []*simulator.Datastore
	for _, datastore := range members(ctx, request.pod) {
		if usable(ctx, datastore, hosts) && free(ctx, datastore) >= need {
			fitting = append(fitting, datastore)
		}
	}
	slices.SortStableFunc(fitting, func(a, b *simulator.Datastore) int { return cmp.Compare(free(ctx, b), free(ctx, a)) })
	result := new(types.StoragePlacementResult)
	for rank, datastore := range fitting {
		own := *request
		own.destination = datastore
		result.Recommendations = append(result.Recommendations, f.offer(ctx, &own, rank, need))
	}
	if len(fitting) == 0 {
		result.DrsFault = noPlace()
	}
	return result, nil
}

// understand checks a request.
func (f *feature) understand(ctx *simulator.Context, spec *types.StoragePlacementSpec) (*placement, types.BaseMethodFault) {
	request := &placement{spec: spec}
	ref := spec.PodSelectionSpec.StoragePod
	for i, config := range spec.PodSelectionSpec.InitialVmConfig {
		if ref == nil || i == 0 && *ref == config.StoragePod {
			ref = &spec.PodSelectionSpec.InitialVmConfig[i].StoragePod
		}
		if *ref != config.StoragePod {
			return nil, &types.NotSupported{} // disks of one machine in two pods
		}
		for _, disk := range config.Disk {
			request.disks = append(request.disks, disk.DiskId)
		}
	}
	if ref == nil {
		return nil, invalid("podSelectionSpec.storagePod")
	}
	pod, ok := ctx.Map.Get(*ref).(*simulator.StoragePod)
	if !ok || !pod.PodStorageDrsEntry.StorageDrsConfig.PodConfig.Enabled {
		return nil, invalid("podSelectionSpec.storagePod")
	}
	request.pod = pod
	switch types.StoragePlacementSpecPlacementType(spec.Type) {
	case types.StoragePlacementSpecPlacementTypeCreate:
		switch {
		case spec.ConfigSpec == nil:
			return nil, invalid("configSpec")
		case spec.ResourcePool == nil:
			return nil, invalid("resourcePool")
		case spec.Folder == nil:
			return nil, invalid("folder")
		}
		return request, nil
	case types.StoragePlacementSpecPlacementTypeClone:
		switch {
		case spec.CloneSpec == nil:
			return nil, invalid("cloneSpec")
		case spec.CloneName == "":
			return nil, invalid("cloneName")
		case spec.Folder == nil:
			return nil, invalid("folder")
		}
	case types.StoragePlacementSpecPlacementTypeRelocate:
		if spec.RelocateSpec == nil {
			spec.RelocateSpec = new(types.VirtualMachineRelocateSpec)
		}
	case types.StoragePlacementSpecPlacementTypeReconfigure:
		if spec.ConfigSpec == nil {
			return nil, invalid("configSpec")
		}
	default:
		return nil, invalid("type")
	}
	if spec.Vm == nil || ctx.Map.Get(*spec.Vm) == nil {
		return nil, invalid("vm")
	}
	return request, nil
}

// need is the space in bytes that the disks may come to take.
func (p *placement) need(ctx *simulator.Context) (int64, types.BaseMethodFault) {
	sizes := make(map[int32]int64)
	switch types.StoragePlacementSpecPlacementType(p.spec.Type) {
	case types.StoragePlacementSpecPlacementTypeCreate, types.StoragePlacementSpecPlacementTypeReconfigure:
		for _, disk := range newDisks(p.spec.ConfigSpec) {
			sizes[disk.Key] = capacityBytes(disk)
		}
	default:
		vm, ok := ctx.Map.Get(*p.spec.Vm).(*simulator.VirtualMachine)
		if !ok {
			return 0, invalid("vm")
		}
		ctx.WithLock(vm, func() {
			for _, device := range vm.Config.Hardware.Device {
				if disk, ok := device.(*types.VirtualDisk); ok {
					sizes[disk.Key] = capacityBytes(disk)
				}
			}
		})
	}
	var sum int64
	for key, bytes := range sizes {
		if len(p.disks) == 0 || slices.Contains(p.disks, key) {
			sum += bytes
		}
	}
	for _, key := range p.disks {
		if _, known := sizes[key]; !known {
			return 0, invalid("podSelectionSpec.initialVmConfig.disk.diskId")
		}
	}
	return sum, nil
}

func capacityBytes(disk *types.VirtualDisk) int64 {
	if disk.CapacityInBytes != 0 {
		return disk.CapacityInBytes
	}
	return disk.CapacityInKB << 10
}

// newDisks are those that a configuration makes.
func newDisks(spec *types.VirtualMachineConfigSpec) []*types.VirtualDisk {
	var disks []*types.VirtualDisk
	for _, base := range spec.DeviceChange {
		change := base.GetVirtualDeviceConfigSpec()
		disk, ok := change.Device.(*types.VirtualDisk)
		if ok && change.Operation == types.VirtualDeviceConfigSpecOperationAdd &&
			change.FileOperation == types.VirtualDeviceConfigSpecFileOperationCreate {
			disks = append(disks, disk)
		}
	}
	return disks
}

func free(ctx *simulator.Context, datastore *simulator.Datastore) (bytes int64) {
	ctx.WithLock(datastore, func() { bytes = datastore.Summary.FreeSpace })
	return bytes
}

// hostsFor lists the hosts of which one must reach the datastore; none stands for any.
func hostsFor(ctx *simulator.Context, spec *types.StoragePlacementSpec) []types.ManagedObjectReference {
	if spec.Host != nil {
		return []types.ManagedObjectReference{*spec.Host}
	}
	if spec.ResourcePool != nil {
		return places.PoolHosts(ctx, *spec.ResourcePool)
	}
	if spec.Vm != nil && spec.Type != string(types.StoragePlacementSpecPlacementTypeClone) {
		if vm, ok := ctx.Map.Get(*spec.Vm).(*simulator.VirtualMachine); ok {
			if host := places.HostOf(ctx, vm); host != nil {
				return []types.ManagedObjectReference{*host}
			}
		}
	}
	return nil
}

// usable reports whether something can be placed on a datastore, by one of the hosts.
func usable(ctx *simulator.Context, datastore *simulator.Datastore, hosts []types.ManagedObjectReference) bool {
	var list []types.DatastoreHostMount
	normal := false
	ctx.WithLock(datastore, func() {
		list = slices.Clone(datastore.Host)
		normal = datastore.Summary.MaintenanceMode == string(types.DatastoreSummaryMaintenanceModeStateNormal)
	})
	return normal && slices.ContainsFunc(list, func(mount types.DatastoreHostMount) bool {
		return (len(hosts) == 0 || slices.Contains(hosts, mount.Key)) && mounts.Serves(ctx, mount) &&
			mount.MountInfo.AccessMode == string(types.HostMountModeReadWrite)
	})
}

// offer makes a recommendation, and remembers it.
func (f *feature) offer(ctx *simulator.Context, p *placement, rank int, need int64) types.ClusterRecommendation {
	const best = 5
	var capacity, before int64
	ctx.WithLock(p.destination, func() {
		capacity, before = p.destination.Summary.Capacity, p.destination.Summary.Capacity-p.destination.Summary.FreeSpace
	})
	percent := func(bytes int64) float32 { return float32(100 * float64(bytes) / float64(max(capacity, 1))) }
	target := p.destination.Self
	relocate := types.VirtualMachineRelocateSpec{Datastore: &target}
	for _, key := range p.disks {
		relocate.Disk = append(relocate.Disk, types.VirtualMachineRelocateSpecDiskLocator{DiskId: key, Datastore: target})
	}
	pod := p.pod.Self
	return types.ClusterRecommendation{
		Key: f.remember(p), Type: "V1", Time: time.Now(), Rating: int32(max(best-rank, 1)),
		Reason:     string(types.RecommendationReasonCodeStoragePlacement),
		ReasonText: "Satisfy storage initial placement requests", Target: &pod,
		Action: []types.BaseClusterAction{&types.StoragePlacementAction{
			ClusterAction: types.ClusterAction{Type: "StoragePlacementV1", Target: &target},
			Vm:            p.spec.Vm, RelocateSpec: relocate, Destination: target,
			SpaceUtilBefore: percent(before), SpaceDemandBefore: percent(before),
			SpaceUtilAfter: percent(before + need), SpaceDemandAfter: percent(before + need),
		}},
	}
}

func (f *feature) remember(p *placement) string {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.last++
	key := fmt.Sprint(f.last)
	f.open[key] = p
	const most = 10000 // clients ask more often than they apply
	if f.last > most {
		delete(f.open, fmt.Sprint(f.last-most))
	}
	return key
}

// take takes a recommendation, which can be applied once.
func (f *feature) take(key string) *placement {
	f.lock.Lock()
	defer f.lock.Unlock()
	p := f.open[key]
	delete(f.open, key)
	return p
}

func noPlace() *types.ClusterDrsFaults {
	return &types.ClusterDrsFaults{
		Reason: string(types.RecommendationReasonCodeStoragePlacement),
		FaultsByVm: []types.BaseClusterDrsFaultsFaultsByVm{&types.ClusterDrsFaultsFaultsByVm{
			Fault: []types.LocalizedMethodFault{{
				Fault: &types.InsufficientStorageSpace{}, LocalizedMessage: "Insufficient disk space on the datastore cluster."}},
		}},
	}
}
