// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func TestATwinIsWhatTheLibraryMakes(t *testing.T) {
	t.Chdir(t.TempDir())
	options := Defaults()
	options.StandaloneHosts, options.Machines, options.Autostart = 0, 1, false
	model, err := Create(options)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Remove()
	ctx, finished := model.Service.Context, newTaskWatcher()
	model.Map().AddHandler(finished)
	datacenter := datacenters(model.Map())[0]
	place := placesOf(model.Map(), datacenter)[0]
	first := model.Map().Any("VirtualMachine").(*simulator.VirtualMachine)
	twins, err := newTwins(ctx, datacenter, place, first)
	if err != nil {
		t.Fatal(err)
	}
	name := place.name(1)
	twin, err := twins.add(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	files := fileNames(t, twins.dir(name))
	if err := os.RemoveAll(twins.dir(name)); err != nil {
		t.Fatal(err)
	}
	like, err := addMachine(ctx, finished, datacenter, place, 1)
	if err != nil {
		t.Fatal(err)
	}
	alike(&twin.VirtualMachine.Config.Modified, &like.VirtualMachine.Config.Modified)
	if want, got := plain(like), plain(twin); !reflect.DeepEqual(want, got) {
		compare(t, "", reflect.ValueOf(want), reflect.ValueOf(got))
	}
	if want := fileNames(t, twins.dir(name)); !reflect.DeepEqual(without(want, ".vmdk"), files) {
		t.Errorf("its files are %v, not %v", files, want)
	}
	for _, obj := range []struct {
		list []types.ManagedObjectReference
		what string
	}{
		{model.Map().Get(*twin.Runtime.Host).(*simulator.HostSystem).Vm, "host"},
		{model.Map().Get(*twin.ResourcePool).(*simulator.ResourcePool).Vm, "pool"},
		{model.Map().Get(*twin.Parent).(*simulator.Folder).ChildEntity, "folder"},
		{model.Map().Get(twin.Datastore[0]).(*simulator.Datastore).Vm, "datastore"},
	} {
		if simulator.FindReference(obj.list, twin.Self) == nil {
			t.Errorf("its %s does not list it", obj.what)
		}
	}
}

func TestAHostHasTheWholeConfigurationAndSharesNoneOfIt(t *testing.T) {
	t.Chdir(t.TempDir())
	options := Defaults()
	model, err := Create(options)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Remove()
	var groups [][]*simulator.HostSystem
	for _, group := range hostsOf(model.Map(), datacenters(model.Map())[0]) {
		if len(group) > 1 {
			groups = append(groups, group)
		}
	}
	first, other := groups[0][0].Config, copyOf(groups[0][1].Config)
	other.Host = first.Host
	if !reflect.DeepEqual(first, other) {
		compare(t, "config", reflect.ValueOf(first), reflect.ValueOf(other))
	}
	var subjects []string
	for _, host := range groups[0] {
		manager := model.Map().Get(*host.ConfigManager.CertificateManager).(*simulator.HostCertificateManager)
		subjects = append(subjects, manager.CertificateInfo.Subject)
	}
	if subjects[0] == "" || subjects[1] != subjects[0] {
		t.Errorf("the certificates are of %v", subjects)
	}
	groups[0][1].Config.Network.Vswitch[0].Name = "another"
	if first.Network.Vswitch[0].Name == "another" {
		t.Error("hosts share their switches")
	}
}

// plain is what of a machine does not depend on when and where it was made.
func plain(vm *simulator.VirtualMachine) any {
	made := copyOf(&vm.VirtualMachine)
	made.Self, made.Summary.Vm, made.Runtime.Host, made.Summary.Runtime.Host = types.ManagedObjectReference{}, nil, nil, nil
	for _, device := range made.Config.Hardware.Device {
		if cdrom, ok := device.(*types.VirtualCdrom); ok { // its name has the time
			cdrom.Backing.(*types.VirtualCdromAtapiBackingInfo).DeviceName = ""
		}
	}
	made.RecentTask, made.Config.ChangeVersion = nil, ""
	made.Config.CreateDate, made.LayoutEx.Timestamp, made.Storage.Timestamp = nil, time.Time{}, time.Time{}
	made.Summary.Storage.Timestamp = time.Time{}
	return made
}

func alike(to, from *time.Time) { *to = *from }

func fileNames(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func without(names []string, extension string) (left []string) {
	for _, name := range names {
		if filepath.Ext(name) != extension {
			left = append(left, name)
		}
	}
	return left
}

// compare says where two values differ.
func compare(t *testing.T, at string, want, got reflect.Value) {
	switch {
	case reflect.DeepEqual(want.Interface(), got.Interface()):
	case want.Kind() == reflect.Pointer && !want.IsNil() && !got.IsNil(),
		want.Kind() == reflect.Interface && !want.IsNil() && !got.IsNil():
		compare(t, at, want.Elem(), got.Elem())
	case want.Kind() == reflect.Struct && want.Type() == got.Type() && want.Type() != reflect.TypeFor[time.Time]():
		for i := range want.NumField() {
			compare(t, at+"."+want.Type().Field(i).Name, want.Field(i), got.Field(i))
		}
	case want.Kind() == reflect.Slice && want.Len() == got.Len():
		for i := range want.Len() {
			compare(t, at+"[]", want.Index(i), got.Index(i))
		}
	default:
		t.Errorf("%s is %v, not %v", at, got, want)
	}
}
