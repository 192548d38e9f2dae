// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// configure is StorageResourceManager.ConfigureStorageDrsForPod_Task.
func (f *feature) configure(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *types.ConfigureStorageDrsForPod_Task, _ core.Next) soap.HasFault {
		task := core.StartTask(ctx, req.Pod, "ConfigureStorageDrsForPod_Task", func(ctx *simulator.Context,
		) (types.AnyType, types.BaseMethodFault) {
			pod, ok := ctx.Map.Get(req.Pod).(*simulator.StoragePod)
			if !ok {
				return nil, &types.ManagedObjectNotFound{Obj: req.Pod}
			}
			return nil, configurePod(ctx, pod, &req.Spec)
		})
		return &methods.ConfigureStorageDrsForPod_TaskBody{
			Res: &types.ConfigureStorageDrsForPod_TaskResponse{Returnval: task}}
	})
}

func configurePod(ctx *simulator.Context, pod *simulator.StoragePod, spec *types.StorageDrsConfigSpec) types.BaseMethodFault {
	var fault types.BaseMethodFault
	ctx.WithLock(pod, func() {
		entry := *pod.PodStorageDrsEntry
		if fault = editPod(&entry.StorageDrsConfig.PodConfig, spec.PodConfigSpec); fault != nil {
			return
		}
		entry.StorageDrsConfig.VmConfig = editMachines(entry.StorageDrsConfig.VmConfig, spec.VmConfigSpec)
		ctx.Update(pod, []types.PropertyChange{
			{Name: "podStorageDrsEntry", Val: &entry},
			{Name: "podStorageDrsEntry.storageDrsConfig", Val: entry.StorageDrsConfig},
		})
	})
	return fault
}

func editPod(config *types.StorageDrsPodConfigInfo, spec *types.StorageDrsPodConfigSpec) types.BaseMethodFault {
	if spec == nil {
		return nil
	}
	if spec.DefaultVmBehavior != "" {
		if !slices.Contains([]string{manual, automated}, spec.DefaultVmBehavior) {
			return &types.InvalidArgument{InvalidProperty: "spec.podConfigSpec.defaultVmBehavior"}
		}
		config.DefaultVmBehavior = spec.DefaultVmBehavior
	}
	if spec.Enabled != nil {
		config.Enabled = *spec.Enabled
	}
	if spec.IoLoadBalanceEnabled != nil {
		config.IoLoadBalanceEnabled = *spec.IoLoadBalanceEnabled
	}
	if spec.LoadBalanceInterval != 0 {
		config.LoadBalanceInterval = spec.LoadBalanceInterval
	}
	if spec.DefaultIntraVmAffinity != nil {
		config.DefaultIntraVmAffinity = spec.DefaultIntraVmAffinity
	}
	if spec.SpaceLoadBalanceConfig != nil {
		config.SpaceLoadBalanceConfig = spec.SpaceLoadBalanceConfig
	}
	if spec.IoLoadBalanceConfig != nil {
		config.IoLoadBalanceConfig = spec.IoLoadBalanceConfig
	}
	if spec.AutomationOverrides != nil {
		config.AutomationOverrides = spec.AutomationOverrides
	}
	return nil
}

// editMachines changes what differs for single virtual machines.
func editMachines(list []types.StorageDrsVmConfigInfo, specs []types.StorageDrsVmConfigSpec) []types.StorageDrsVmConfigInfo {
	list = slices.Clone(list)
	for _, spec := range specs {
		vm := spec.Info
		gone, _ := spec.RemoveKey.(types.ManagedObjectReference)
		if vm != nil && vm.Vm != nil {
			gone = *vm.Vm
		}
		list = slices.DeleteFunc(list, func(each types.StorageDrsVmConfigInfo) bool { return each.Vm != nil && *each.Vm == gone })
		if vm != nil && spec.Operation != types.ArrayUpdateOperationRemove {
			list = append(list, *vm)
		}
	}
	return list
}

// behavior is how Storage DRS treats a virtual machine in a pod: manual, automated or off.
func behavior(ctx *simulator.Context, pod *simulator.StoragePod, vm types.ManagedObjectReference) (how string) {
	ctx.WithLock(pod, func() {
		config := pod.PodStorageDrsEntry.StorageDrsConfig
		if how = config.PodConfig.DefaultVmBehavior; !config.PodConfig.Enabled {
			how = off
			return
		}
		for _, own := range config.VmConfig {
			if own.Vm == nil || *own.Vm != vm {
				continue
			}
			if own.Behavior != "" {
				how = own.Behavior
			}
			if own.Enabled != nil && !*own.Enabled {
				how = off
			}
		}
	})
	return how
}
