// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// twins makes virtual machines that are like one that the library made, as the library would make them, but for tasks and events:
// those of a machine that is there for long are gone.
type twins struct {
	first      *simulator.VirtualMachine
	datacenter types.ManagedObjectReference
	folder     *simulator.Folder
	pool       *simulator.ResourcePool
	home       *simulator.Datastore
	hosts      []*simulator.HostSystem // on which they run
	files      map[string][]byte       // of the first one's folder, but for its disk, by extension
}

func newTwins(
	ctx *simulator.Context, datacenter *simulator.Datacenter, place machinePlace, first *simulator.VirtualMachine,
) (*twins, error) {
	t := &twins{
		first: first, datacenter: datacenter.Self, files: make(map[string][]byte),
		folder: ctx.Map.Get(*first.Parent).(*simulator.Folder),
		pool:   ctx.Map.Get(place.pool).(*simulator.ResourcePool),
		home:   ctx.Map.Get(first.Datastore[0]).(*simulator.Datastore),
	}
	switch parent := ctx.Map.Get(*ctx.Map.Get(*first.Runtime.Host).(*simulator.HostSystem).Parent).(type) {
	case *simulator.ClusterComputeResource:
		t.hosts = hosts(ctx.Map, parent.Host)
	case *mo.ComputeResource:
		t.hosts = hosts(ctx.Map, parent.Host)
	}
	t.hosts = slices.DeleteFunc(t.hosts, func(host *simulator.HostSystem) bool {
		return !slices.Contains(host.Datastore, t.home.Self)
	})
	entries, err := os.ReadDir(t.dir(first.Name))
	for _, entry := range entries {
		if extension := path.Ext(entry.Name()); err == nil && extension != ".vmdk" {
			t.files[extension], err = os.ReadFile(filepath.Join(t.dir(first.Name), entry.Name()))
		}
	}
	return t, err
}

func (t *twins) dir(name string) string { return filepath.Join(t.home.Summary.Url, name) }

// add makes one more. Its disk has no files yet: the feature that keeps datastores makes them anew for all.
func (t *twins) add(ctx *simulator.Context, name string) (*simulator.VirtualMachine, error) {
	if err := t.write(name); err != nil {
		return nil, err
	}
	vm := &simulator.VirtualMachine{
		VirtualMachine: *copyOf(&t.first.VirtualMachine, t.first.Name, name), DataSets: make(map[string]*simulator.DataSet),
	}
	host := t.hosts[rand.IntN(len(t.hosts))]
	vm.Runtime.Host, vm.Summary.Runtime.Host = &host.Self, &host.Self
	t.identify(vm)
	ctx.Map.NewEntity(vm)
	vm.Summary.Vm = &vm.Self
	ctx.WithLock(t.folder, func() {
		t.folder.ChildEntity = append(t.folder.ChildEntity, vm.Self)
		ctx.Map.PutEntity(t.folder, vm)
	})
	ctx.Map.AppendReference(ctx, host, &host.Vm, vm.Self)
	ctx.Map.AppendReference(ctx, t.home, &t.home.Vm, vm.Self)
	ctx.Map.AppendReference(ctx, t.pool, &t.pool.Vm, vm.Self)
	return vm, nil
}

func (t *twins) write(name string) error {
	dir := t.dir(name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for extension, content := range t.files {
		file := name + extension
		if extension == ".log" {
			file = "vmware.log"
		}
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// identify gives a machine what the library works out from its path, and the times of now.
func (t *twins) identify(vm *simulator.VirtualMachine) {
	home := vm.Config.Files.VmPathName
	vm.Config.Uuid, vm.Config.InstanceUuid = identifier(home), identifier(strings.ToUpper(home))
	vm.Summary.Config.Uuid, vm.Summary.Config.InstanceUuid = vm.Config.Uuid, vm.Config.InstanceUuid
	now := time.Now()
	vm.Config.CreateDate, vm.Config.Modified, vm.Config.ChangeVersion = &now, now, fmt.Sprint(now.UnixNano())
	for _, device := range vm.Config.Hardware.Device {
		switch device := device.(type) {
		case types.BaseVirtualEthernetCard:
			card := device.GetVirtualEthernetCard()
			old := card.MacAddress
			card.MacAddress = macAddress(vm.Config.Uuid, *card.UnitNumber)
			for i := range vm.Guest.Net {
				if vm.Guest.Net[i].MacAddress == old {
					vm.Guest.Net[i].MacAddress = card.MacAddress
				}
			}
		case *types.VirtualDisk:
			if backing, ok := device.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
				backing.Uuid = identifier(t.datacenter.String() + backing.FileName)
			}
		}
	}
}

// identifier is the UUID that the library makes of a text.
func identifier(text string) string {
	return uuid.NewHash(sha256.New(), uuid.NameSpaceOID, []byte(text), 5).String()
}

// macAddress is the address that the library gives to the card of a unit number.
func macAddress(id string, unit int32) string {
	end := []byte(id)[len(id)-3:]
	end[0] += byte(unit - 7)
	return net.HardwareAddr(append([]byte{0x00, 0x0c, 0x29}, end...)).String()
}
