// SPDX-License-Identifier: Apache-2.0

// Package machines completes virtual machines.
package machines

import (
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature gives each virtual machine the required properties that the library leaves out. A client with strict types
// (pyVmomi) cannot read VirtualMachine.runtime at all without its enumerations, such as
// faultToleranceState. And it gives config.modified and config.changeVersion the values that a vCenter gives them.
var Feature = core.Feature{Name: "machines", Start: start, Rules: []core.Rule{
	{Name: "modified-unset", Test: "test_machine_properties.ConfigTestCase.test_modified_is_1970_and_create_date_is_not",
		Relaxes: "`config.modified` is the time of the last change, and not 1970"},
}}

func start(s *core.Sim) error {
	watcher := &watcher{unset: !s.Lenient("modified-unset")}
	for _, entity := range s.Map().All("VirtualMachine") {
		watcher.complete(&entity.(*simulator.VirtualMachine).VirtualMachine)
	}
	watcher.Self = types.ManagedObjectReference{Type: "MachineWatcher", Value: "machines"}
	s.Map().AddHandler(watcher)
	return nil
}

// complete changes what differs only: the object may be read, under its lock, by others at other times.
func (w *watcher) complete(vm *mo.VirtualMachine) {
	for _, runtime := range []*types.VirtualMachineRuntimeInfo{&vm.Runtime, &vm.Summary.Runtime} {
		if runtime.FaultToleranceState == "" {
			runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
		}
		if runtime.RecordReplayState == "" {
			runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
		}
	}
	if vm.Config == nil {
		return
	}
	if epoch := time.Unix(0, 0).UTC(); w.unset && !vm.Config.Modified.Equal(epoch) {
		vm.Config.Modified = epoch
	}
	// The library counts nanoseconds.
	if ns, err := strconv.ParseInt(vm.Config.ChangeVersion, 10, 64); err == nil {
		vm.Config.ChangeVersion = version(time.Unix(0, ns))
	}
}

// watcher is told of each object that is put into the inventory.
type watcher struct {
	mo.SearchIndex
	// unset has config.modified say 1970, as a vCenter's ordinary virtual machines do.
	unset bool
}

// PutObject implements simulator.RegisterObject.
func (w *watcher) PutObject(_ *simulator.Context, obj mo.Reference) {
	if vm, ok := obj.(*simulator.VirtualMachine); ok {
		w.complete(&vm.VirtualMachine)
	}
}

// UpdateObject implements simulator.RegisterObject. The object is locked by whoever updates it.
func (w *watcher) UpdateObject(_ *simulator.Context, obj mo.Reference, _ []types.PropertyChange) {
	if vm, ok := obj.(*mo.VirtualMachine); ok {
		w.complete(vm)
	}
}

// RemoveObject implements simulator.RegisterObject.
func (*watcher) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}
