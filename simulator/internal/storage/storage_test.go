// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"sync"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/vdisk"
)

func TestNoPathLeadsOut(t *testing.T) {
	for name, want := range map[string]bool{
		"a/b": false, "a/../b": false, "./a": false, "": false, "..": true, "a/../../b": true, "../a": true, "a/..b": false,
	} {
		if got := escapes(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestWhatIsMeasuredIsNoLongerReserved(t *testing.T) {
	v := &volume{files: make(map[string]vdisk.Cost)}
	s := &Store{tops: make(map[string]int)}
	v.reserved = []*reservation{{local: "/ds/a/a.vmdk", left: 40}, {local: "/ds/b/b.vmdk", left: 30}, {local: "/ds/c", left: 5}}
	for _, step := range []struct {
		file       string
		used, left int64
	}{
		{"/ds/b/b-flat.vmdk", 30, 45}, // as much as was reserved
		{"/ds/b/b.vmdk", 1, 45},       // more
		{"/ds/a/a-flat.vmdk", 10, 35}, // a part
		{"/ds/a/a-flat.vmdk", 4, 35},  // it shrank
		{"/ds/a/a-000001.vmdk", 9, 35},
		{"/ds/c/vmware.log", 3, 32}, // in a folder
	} {
		s.set(v, step.file, vdisk.Cost{Used: step.used})
		if got := v.reservedBytes(); got != step.left {
			t.Errorf("%s: %d are reserved, not %d", step.file, got, step.left)
		}
	}
}

func TestOfManyWhoWantANameOneGetsIt(t *testing.T) {
	s := &Store{claims: make(map[string]bool)}
	var got int
	var lock sync.Mutex
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			if _, ok := s.claim("name"); ok {
				lock.Lock()
				got++
				lock.Unlock()
			}
		})
	}
	group.Wait()
	if got != 1 {
		t.Errorf("%d got it", got)
	}
}

func TestWorkOnOneThingIsDoneOneAtATime(t *testing.T) {
	var locks keyedLocks
	var inside, most int
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			unlock := locks.Lock("key")
			inside++
			most = max(most, inside)
			inside--
			unlock()
		})
	}
	group.Wait()
	if most != 1 || len(locks.held) != 0 {
		t.Errorf("%d at a time, %d left", most, len(locks.held))
	}
}

func TestDeepCopySharesNothing(t *testing.T) {
	original := &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
		UnitNumber: types.NewInt32(3),
		Backing:    &types.VirtualDiskFlatVer2BackingInfo{Parent: &types.VirtualDiskFlatVer2BackingInfo{Uuid: "a"}}}}
	clone := deepCopy(original)
	clone.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Parent.Uuid = "b"
	*clone.UnitNumber = 4
	if *original.UnitNumber != 3 || original.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Parent.Uuid != "a" {
		t.Error("the original changed with its copy")
	}
}

func node(value string, children ...types.VirtualMachineSnapshotTree) types.VirtualMachineSnapshotTree {
	return types.VirtualMachineSnapshotTree{
		Snapshot: types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: value}, ChildSnapshotList: children}
}

func names(tree []types.VirtualMachineSnapshotTree) string {
	text := ""
	for _, n := range tree {
		text += n.Snapshot.Value
		if len(n.ChildSnapshotList) > 0 {
			text += "(" + names(n.ChildSnapshotList) + ")"
		}
	}
	return text
}

func TestPruneSnapshots(t *testing.T) {
	tree := func() []types.VirtualMachineSnapshotTree {
		return []types.VirtualMachineSnapshotTree{node("a", node("b", node("c"), node("d")), node("e"))}
	}
	for _, test := range []struct {
		ref         string
		children    bool
		left, taken string
	}{
		{"b", false, "a(cde)", "b(cd)"}, {"b", true, "a(e)", "b(cd)cd"}, {"a", false, "b(cd)e", "a(b(cd)e)"},
		{"d", true, "a(b(c)e)", "d"}, {"", true, "", "a(b(cd)e)b(cd)cde"},
	} {
		var removed []types.VirtualMachineSnapshotTree
		var ref *types.ManagedObjectReference
		if test.ref != "" {
			ref = &types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: test.ref}
		}
		left := prune(tree(), ref, test.children, &removed)
		if names(left) != test.left || names(removed) != test.taken {
			t.Errorf("without %q: %s, and %s is taken", test.ref, names(left), names(removed))
		}
	}
	gone := map[types.ManagedObjectReference]bool{node("c").Snapshot: true, node("b").Snapshot: true}
	if got := survivor(tree(), node("c").Snapshot, gone); got == nil || got.Value != "a" {
		t.Errorf("after c and b comes %v", got)
	}
}

func TestControllersGetTheKeysOfAHost(t *testing.T) {
	controller := func(key, bus int32) *types.ParaVirtualSCSIController {
		c := &types.ParaVirtualSCSIController{}
		c.Key, c.BusNumber = key, bus
		return c
	}
	existing := []types.BaseVirtualDevice{controller(1000, 0)}
	added := controller(-1, 1)
	disk := &types.VirtualDisk{}
	disk.ControllerKey = -1
	changes := []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: added},
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: disk},
	}
	controllerKeys(existing, changes)
	if added.Key != 1001 || disk.ControllerKey != 1001 {
		t.Errorf("the controller is %d, the disk on %d", added.Key, disk.ControllerKey)
	}
	clash := controller(1000, 0)
	controllerKeys(existing, []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: clash}})
	if clash.Key == 1000 {
		t.Error("two controllers have one key")
	}
}
