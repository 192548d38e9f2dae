// SPDX-License-Identifier: Apache-2.0

// Package machines completes virtual machines.
package machines

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature gives each virtual machine the required properties that the library leaves out. A client with strict types
// (pyVmomi) cannot read VirtualMachine.runtime at all without its enumerations, such as
// faultToleranceState.
var Feature = core.Feature{Name: "machines", Start: start}

func start(s *core.Sim) error {
	for _, entity := range s.Map().All("VirtualMachine") {
		complete(&entity.(*simulator.VirtualMachine).VirtualMachine)
	}
	watcher := &watcher{}
	watcher.Self = types.ManagedObjectReference{Type: "MachineWatcher", Value: "machines"}
	s.Map().AddHandler(watcher)
	return nil
}

func complete(vm *mo.VirtualMachine) {
	for _, runtime := range []*types.VirtualMachineRuntimeInfo{&vm.Runtime, &vm.Summary.Runtime} {
		if runtime.FaultToleranceState == "" {
			runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
		}
		if runtime.RecordReplayState == "" {
			runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
		}
	}
}

// watcher is told of each object that is put into the inventory.
type watcher struct {
	mo.SearchIndex
}

// PutObject implements simulator.RegisterObject.
func (*watcher) PutObject(_ *simulator.Context, obj mo.Reference) {
	if vm, ok := obj.(*simulator.VirtualMachine); ok {
		complete(&vm.VirtualMachine)
	}
}

// UpdateObject implements simulator.RegisterObject. The object is locked by whoever updates it.
func (*watcher) UpdateObject(_ *simulator.Context, obj mo.Reference, _ []types.PropertyChange) {
	if vm, ok := obj.(*mo.VirtualMachine); ok {
		complete(vm)
	}
}

// RemoveObject implements simulator.RegisterObject.
func (*watcher) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}
