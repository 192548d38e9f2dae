// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/collector"
	"vcenter-sim/internal/inventory"
)

// TestObjectsAreWhatTheyWere writes and reads every object of an inventory, and writes it again.
func TestObjectsAreWhatTheyWere(t *testing.T) {
	t.Chdir(t.TempDir())
	options := inventory.Defaults()
	options.Datastores, options.Pods = 2, 1
	model, err := inventory.Create(options)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Remove()
	for _, obj := range model.Map().AllReference("") {
		if _, known := kept[obj.Reference().Type]; !known {
			continue
		}
		first, err := encode(obj)
		if err != nil {
			t.Fatal(err)
		}
		r := &record{}
		if err := json.Unmarshal(first, r); err != nil {
			t.Fatal(err)
		}
		fresh := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(mo.Reference)
		if err := r.decode(fresh); err != nil {
			t.Fatal(err)
		}
		if entity, ok := collector.ManagedValue(obj).Addr().Interface().(mo.Entity); ok {
			entity.Entity().RecentTask = nil
			if first, err = encode(obj); err != nil {
				t.Fatal(err)
			}
		}
		second, err := encode(fresh)
		if err != nil {
			t.Fatal(err)
		}
		if string(first) != string(second) {
			t.Errorf("%s has changed", obj.Reference())
		}
	}
}

func TestTheLibrarysOwnFieldsAreKept(t *testing.T) {
	disks := &simulator.VcenterVStorageObjectManager{}
	disks.Self = ref{Type: "VcenterVStorageObjectManager", Value: "manager"}
	objects := ownField(disks, "objects")
	objects.Set(reflect.MakeMap(objects.Type()))
	disk := &simulator.VStorageObject{Metadata: []types.KeyValue{{Key: "k", Value: "v"}}}
	disk.VStorageObject.Config.Name = "first class"
	objects.SetMapIndex(reflect.ValueOf(ref{Type: "Datastore", Value: "datastore-1"}),
		reflect.ValueOf(map[types.ID]*simulator.VStorageObject{{Id: "1"}: disk}))
	text, err := encode(disks)
	if err != nil {
		t.Fatal(err)
	}
	r := &record{}
	if err := json.Unmarshal(text, r); err != nil {
		t.Fatal(err)
	}
	again := &simulator.VcenterVStorageObjectManager{}
	if err := r.decode(again); err != nil {
		t.Fatal(err)
	}
	if got := ownField(again, "objects").Interface(); !reflect.DeepEqual(got, objects.Interface()) {
		t.Errorf("%v", got)
	}
}

func TestHolesStayHoles(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "from", "sub", "disk")
	if err := os.MkdirAll(filepath.Dir(source), 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(source)
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	for _, offset := range []int64{0, size / 2} {
		if _, err := file.WriteAt([]byte("content"), offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	if err := copyFiles(filepath.Join(dir, "from"), filepath.Join(dir, "to")); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(source)
	target := filepath.Join(dir, "to", "sub", "disk")
	if got, _ := os.ReadFile(target); string(got) != string(want) {
		t.Error("the content differs")
	}
	if blocks := blocksOf(t, target); blocks > blocksOf(t, source)+16 {
		t.Errorf("%d blocks", blocks)
	}
}
func blocksOf(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks
}
