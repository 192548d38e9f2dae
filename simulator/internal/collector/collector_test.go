// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func model(t *testing.T) (*simulator.Context, types.ManagedObjectReference) {
	t.Helper()
	m := simulator.VPX()
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Remove)
	return m.Service.Context, m.ServiceContent.RootFolder
}

func traversal(name, kind, path string, next ...string) *types.TraversalSpec {
	spec := &types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: name}, Type: kind, Path: path, Skip: types.NewBool(false)}
	for _, n := range next {
		spec.SelectSet = append(spec.SelectSet, &types.SelectionSpec{Name: n})
	}
	return spec
}

// recursive is a specification that goes round in circles, as oslo.vmware's does.
func recursive() []types.BaseSelectionSpec {
	return []types.BaseSelectionSpec{
		traversal("folders", "Folder", "childEntity", "folders", "hosts", "machines", "resources"),
		traversal("hosts", "Datacenter", "hostFolder", "folders"),
		traversal("machines", "Datacenter", "vmFolder", "folders"),
		traversal("resources", "ComputeResource", "resourcePool", "pools", "inPool"),
		traversal("pools", "ResourcePool", "resourcePool", "pools", "inPool"),
		traversal("inPool", "ResourcePool", "vm", "pools", "inPool"),
	}
}

func TestSelectEndsAndFindsEachOnce(t *testing.T) {
	ctx, root := model(t)
	refs, fault := Select(ctx, types.ObjectSpec{Obj: root, SelectSet: recursive()})
	if fault != nil {
		t.Fatalf("%T", fault)
	}
	seen := make(map[types.ManagedObjectReference]bool)
	kinds := make(map[string]int)
	for _, ref := range refs {
		if seen[ref] {
			t.Errorf("%s twice", ref)
		}
		seen[ref] = true
		kinds[ref.Type]++
	}
	if kinds["VirtualMachine"] != 4 || kinds["Datacenter"] != 1 || refs[0] != root {
		t.Errorf("%v, the first is %s", kinds, refs[0])
	}
}

func TestATraversalIsForObjectsOfItsType(t *testing.T) {
	ctx, _ := model(t)
	vm := ctx.Map.Any("VirtualMachine").Reference()
	refs, fault := Select(ctx, types.ObjectSpec{Obj: vm, SelectSet: []types.BaseSelectionSpec{
		traversal("pools", "ResourcePool", "resourcePool", "pools")}})
	if fault != nil || len(refs) != 1 || refs[0] != vm {
		t.Errorf("%v %T", refs, fault)
	}
	refs, fault = Select(ctx, types.ObjectSpec{Obj: vm, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
		traversal("up", "ManagedEntity", "parent")}})
	if fault != nil || len(refs) != 1 || refs[0].Type != "Folder" {
		t.Errorf("%v %T", refs, fault)
	}
}

func TestSelectRefuses(t *testing.T) {
	ctx, root := model(t)
	gone := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-0"}
	if _, fault := Select(ctx, types.ObjectSpec{Obj: gone}); fault == nil {
		t.Error("an object that is not there was found")
	}
	_, fault := Select(ctx, types.ObjectSpec{Obj: root, SelectSet: []types.BaseSelectionSpec{&types.SelectionSpec{Name: "nobody"}}})
	if _, ok := fault.(*types.InvalidArgument); !ok {
		t.Errorf("%T", fault)
	}
}
