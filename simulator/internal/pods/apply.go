// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// apply is StorageResourceManager.ApplyStorageDrsRecommendation_Task and ApplyStorageDrsRecommendationToPod_Task.
func (f *feature) apply(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *types.ApplyStorageDrsRecommendation_Task, _ core.Next) soap.HasFault {
		task := f.applyTask(ctx, "ApplyStorageDrsRecommendation_Task", req.Key)
		return &methods.ApplyStorageDrsRecommendation_TaskBody{
			Res: &types.ApplyStorageDrsRecommendation_TaskResponse{Returnval: task}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.ApplyStorageDrsRecommendationToPod_Task, _ core.Next) soap.HasFault {
		task := f.applyTask(ctx, "ApplyStorageDrsRecommendationToPod_Task", []string{req.Key})
		return &methods.ApplyStorageDrsRecommendationToPod_TaskBody{
			Res: &types.ApplyStorageDrsRecommendationToPod_TaskResponse{Returnval: task}}
	})
}

// applyTask does what was recommended. The task is one of the pod.
func (f *feature) applyTask(ctx *simulator.Context, name string, keys []string) types.ManagedObjectReference {
	var taken []*placement
	on := ctx.Map.Get(f.sim.Model.ServiceContent.RootFolder).Reference()
	for _, key := range keys {
		p := f.take(key)
		if p != nil {
			on = p.pod.Self
		}
		taken = append(taken, p)
	}
	return core.StartTask(ctx, on, name, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		result := types.ApplyStorageRecommendationResult{}
		if len(taken) == 0 || slices.Contains(taken, nil) {
			return nil, invalid("key")
		}
		for _, p := range taken {
			vm, fault := f.do(ctx, p)
			if fault != nil {
				return nil, fault
			}
			result.Vm = vm
		}
		return result, nil
	})
}

// do carries one placement out, by the method that a client would have called.
func (f *feature) do(ctx *simulator.Context, p *placement) (*types.ManagedObjectReference, types.BaseMethodFault) {
	vcenter, background := f.sim.Model.Service, context.Background()
	spec := p.spec
	if p.move != nil {
		return spec.Vm, f.relocate(ctx, *spec.Vm, *p.move)
	}
	switch types.StoragePlacementSpecPlacementType(spec.Type) {
	case types.StoragePlacementSpecPlacementTypeCreate:
		config := p.config()
		res, err := methods.CreateVM_Task(background, vcenter, &types.CreateVM_Task{
			This: *spec.Folder, Config: *config, Pool: *spec.ResourcePool, Host: spec.Host})
		if err != nil {
			return nil, vimFault(err)
		}
		return madeBy(ctx, res.Returnval)
	case types.StoragePlacementSpecPlacementTypeClone:
		clone := *spec.CloneSpec
		clone.Location = p.locations(clone.Location)
		res, err := methods.CloneVM_Task(background, vcenter, &types.CloneVM_Task{
			This: *spec.Vm, Folder: *spec.Folder, Name: spec.CloneName, Spec: clone})
		if err != nil {
			return nil, vimFault(err)
		}
		return madeBy(ctx, res.Returnval)
	case types.StoragePlacementSpecPlacementTypeReconfigure:
		res, err := methods.ReconfigVM_Task(background, vcenter, &types.ReconfigVM_Task{This: *spec.Vm, Spec: *p.config()})
		if err != nil {
			return nil, vimFault(err)
		}
		_, fault := ended(ctx, res.Returnval)
		return spec.Vm, fault
	}
	fault := f.relocate(ctx, *spec.Vm, p.locations(*spec.RelocateSpec))
	return spec.Vm, fault
}

// relocate moves a virtual machine, or disks of it.
func (f *feature) relocate(ctx *simulator.Context, vm types.ManagedObjectReference, spec types.VirtualMachineRelocateSpec,
) types.BaseMethodFault {
	res, err := methods.RelocateVM_Task(context.Background(), f.sim.Model.Service, &types.RelocateVM_Task{This: vm, Spec: spec})
	if err != nil {
		return vimFault(err)
	}
	_, fault := ended(ctx, res.Returnval)
	return fault
}

// config is the request's configuration with the destination in place of the pod.
func (p *placement) config() *types.VirtualMachineConfigSpec {
	config := *p.spec.ConfigSpec
	if len(p.disks) == 0 && p.spec.Type == string(types.StoragePlacementSpecPlacementTypeCreate) || config.Files != nil {
		files := types.VirtualMachineFileInfo{}
		if config.Files != nil {
			files = *config.Files
		}
		files.VmPathName = p.path(files.VmPathName)
		config.Files = &files
	}
	for _, disk := range newDisks(&config) {
		backing, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo)
		if ok && (len(p.disks) == 0 || slices.Contains(p.disks, disk.Key)) {
			info := backing.GetVirtualDeviceFileBackingInfo()
			info.Datastore, info.FileName = &p.destination.Self, p.path(info.FileName)
		}
	}
	return &config
}

// path is a datastore path, on the destination.
func (p *placement) path(text string) string {
	var parsed object.DatastorePath
	parsed.FromString(text)
	parsed.Datastore = p.destination.Name
	return parsed.String()
}

// locations is a request's relocation with the destination in it.
func (p *placement) locations(spec types.VirtualMachineRelocateSpec) types.VirtualMachineRelocateSpec {
	target := p.destination.Self
	if len(p.disks) == 0 {
		spec.Datastore = &target
		spec.Disk = slices.Clone(spec.Disk)
		for i := range spec.Disk {
			spec.Disk[i].Datastore = target
		}
		return spec
	}
	if spec.Datastore == nil && p.spec.Type == string(types.StoragePlacementSpecPlacementTypeClone) {
		spec.Datastore = &target
	}
	for _, key := range p.disks {
		i := slices.IndexFunc(spec.Disk, func(d types.VirtualMachineRelocateSpecDiskLocator) bool { return d.DiskId == key })
		if i < 0 {
			spec.Disk = append(spec.Disk, types.VirtualMachineRelocateSpecDiskLocator{DiskId: key, Datastore: target})
		} else {
			spec.Disk[i].Datastore = target
		}
	}
	return spec
}

func vimFault(err error) types.BaseMethodFault {
	if soap.IsSoapFault(err) {
		if fault, ok := soap.ToSoapFault(err).VimFault().(types.BaseMethodFault); ok {
			return fault
		}
	}
	return &types.SystemError{Reason: err.Error()}
}

// ended waits for a task.
func ended(ctx *simulator.Context, ref types.ManagedObjectReference) (types.AnyType, types.BaseMethodFault) {
	task, ok := ctx.Map.Get(ref).(*simulator.Task)
	if !ok {
		return nil, &types.ManagedObjectNotFound{Obj: ref}
	}
	waitFor(ctx, task)
	if task.Info.Error != nil {
		return nil, task.Info.Error.Fault
	}
	return task.Info.Result, nil
}

func madeBy(ctx *simulator.Context, task types.ManagedObjectReference) (*types.ManagedObjectReference, types.BaseMethodFault) {
	result, fault := ended(ctx, task)
	if ref, ok := result.(types.ManagedObjectReference); ok {
		return &ref, fault
	}
	return nil, fault
}
