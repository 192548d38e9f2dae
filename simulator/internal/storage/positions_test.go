// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"slices"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestAPositionCountsOnlyIfTheMachineStandsThere(t *testing.T) {
	datastore := types.ManagedObjectReference{Type: "Datastore", Value: "datastore-1"}
	machine := func(i int) types.ManagedObjectReference {
		return types.ManagedObjectReference{Type: "VirtualMachine", Value: fmt.Sprintf("vm-%d", i)}
	}
	var list []types.ManagedObjectReference
	for i := range 10 {
		list = append(list, machine(i))
	}
	known := &listPositions{at: make(map[listed]int)}
	known.learn(datastore, list)
	check := func(when string) {
		t.Helper()
		for i := range 12 {
			if got, want := known.contains(datastore, list, machine(i)), slices.Contains(list, machine(i)); got != want {
				t.Errorf("%s: machine %d: %t", when, i, got)
			}
		}
	}
	check("as learnt")
	list = slices.Delete(list, 2, 4)
	check("two were taken out")
	list = append([]types.ManagedObjectReference{machine(10)}, list...)
	check("one was put in front")
	slices.Reverse(list)
	check("in another order")
	known.forget(datastore, machine(5))
	check("one was forgotten")
	list = nil
	check("empty")
	if len(known.at) > 0 {
		t.Errorf("positions in an empty list: %v", known.at)
	}
}
