// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func TestAMachineIsFoundByThePresentInstanceUUIDAlone(t *testing.T) {
	registry := simulator.NewRegistry()
	vm := &simulator.VirtualMachine{}
	vm.Config = &types.VirtualMachineConfigInfo{InstanceUuid: "AB-1"}
	registry.Put(vm)
	index := followInstances(registry)
	ctx := &simulator.Context{Map: registry}
	expect := func(uuid string, machines, exactly int) {
		t.Helper()
		if got := len(index.find(uuid)); got != machines {
			t.Errorf("%s is of %d machines, not %d", uuid, got, machines)
		}
		if got := len(index.exactly(uuid)); got != exactly {
			t.Errorf("%s is so of %d machines, not %d", uuid, got, exactly)
		}
	}
	expect("AB-1", 1, 1)
	expect("ab-1", 1, 0)
	expect("", 0, 0)
	vm.Config.InstanceUuid = "AB-2"
	index.UpdateObject(ctx, &vm.VirtualMachine, nil)
	expect("AB-1", 0, 0)
	expect("AB-2", 1, 1)
	registry.Remove(ctx, vm.Self)
	// Another operation on it had begun before it was removed.
	index.UpdateObject(ctx, &vm.VirtualMachine, nil)
	expect("AB-2", 0, 0)
	if len(index.machines)+len(index.uuids) > 0 {
		t.Errorf("%v and %v are left", index.machines, index.uuids)
	}
}
