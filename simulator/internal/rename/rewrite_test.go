// SPDX-License-Identifier: Apache-2.0

package rename

import (
	"reflect"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func disk(path, parent string) *types.VirtualDisk {
	backing := &types.VirtualDiskFlatVer2BackingInfo{}
	backing.FileName = path
	if parent != "" {
		backing.Parent = &types.VirtualDiskFlatVer2BackingInfo{}
		backing.Parent.FileName = parent
	}
	return &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2000, Backing: backing}, CapacityInKB: 1}
}

func TestPathsAreRewrittenThroughPointersInterfacesAndSlices(t *testing.T) {
	devices := []types.BaseVirtualDevice{
		disk("[old] a/a.vmdk", "[old] base/base.vmdk"), disk("[older] b.vmdk", ""), &types.VirtualPCIController{}}
	value, changed := rewritten(reflect.ValueOf(devices), "old", "new")
	if !changed {
		t.Fatal("nothing was rewritten")
	}
	fresh := value.Interface().([]types.BaseVirtualDevice)
	backing := fresh[0].(*types.VirtualDisk).Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if backing.FileName != "[new] a/a.vmdk" || backing.Parent.FileName != "[new] base/base.vmdk" {
		t.Errorf("the disk has %q on %q", backing.FileName, backing.Parent.FileName)
	}
	if fresh[0].(*types.VirtualDisk).CapacityInKB != 1 {
		t.Error("the rest of the disk is gone")
	}
	if fresh[1] != devices[1] || fresh[2] != devices[2] {
		t.Error("what names another datastore was copied")
	}
	old := devices[0].(*types.VirtualDisk).Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if old.FileName != "[old] a/a.vmdk" || old.Parent.FileName != "[old] base/base.vmdk" {
		t.Error("the original was changed, while others may be reading it")
	}
}

func TestWhatNamesNoSuchDatastoreStaysAsItIs(t *testing.T) {
	for _, value := range []any{"[oldest] x", "old", "x [old] y", []string{"[other] x"}, (*types.VirtualDisk)(nil)} {
		if _, changed := rewritten(reflect.ValueOf(value), "old", "new"); changed {
			t.Errorf("%v was rewritten", value)
		}
	}
	if value, _ := rewritten(reflect.ValueOf("[old]"), "old", "new"); value.String() != "[new]" {
		t.Errorf("a datastore's root became %q", value)
	}
}
