// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func TestMachinesAreNamedAndPlacedAsVcsimDoes(t *testing.T) {
	t.Chdir(t.TempDir()) // Create changes the working directory
	options := Defaults()
	options.Pools, options.Machines = 2, 2
	model, err := Create(options)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Remove()
	var names []string
	for _, entity := range model.Map().All("VirtualMachine") {
		vm := entity.(*simulator.VirtualMachine)
		names = append(names, vm.Name)
		if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
			t.Errorf("%s is %s", vm.Name, vm.Runtime.PowerState)
		}
		if vm.Runtime.Host == nil || vm.ResourcePool == nil || len(vm.Datastore) != 1 {
			t.Errorf("%s is nowhere", vm.Name)
		}
	}
	slices.Sort(names)
	want := []string{
		"DC0_C0_RP1_VM0", "DC0_C0_RP1_VM1", "DC0_C0_RP2_VM0", "DC0_C0_RP2_VM1", "DC0_H0_VM0", "DC0_H0_VM1",
	}
	if !slices.Equal(names, want) {
		t.Errorf("made %v, want %v", names, want)
	}
}

func TestMachinesStayOff(t *testing.T) {
	t.Chdir(t.TempDir())
	options := Defaults()
	options.Autostart = false
	model, err := Create(options)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Remove()
	for _, entity := range model.Map().All("VirtualMachine") {
		if vm := entity.(*simulator.VirtualMachine); vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
			t.Errorf("%s is %s", vm.Name, vm.Runtime.PowerState)
		}
	}
}
