// SPDX-License-Identifier: Apache-2.0

package access

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/places"
)

// gathering collects the demands of one call. What names nothing that exists demands nothing: it fails further in, with the
// fault of its own.
type gathering struct {
	ctx  *simulator.Context
	this types.ManagedObjectReference
	host *types.ManagedObjectReference
	list []demand
}

func (g *gathering) add(datastore *simulator.Datastore, placing bool) {
	if datastore != nil {
		g.list = append(g.list, demand{datastore, g.host, placing})
	}
}

func (g *gathering) ref(ref *types.ManagedObjectReference, placing bool) {
	if ref != nil {
		datastore, _ := g.ctx.Map.Get(*ref).(*simulator.Datastore)
		g.add(datastore, placing)
	}
}

func (g *gathering) path(path string, placing bool) {
	g.add(places.DatastoreOf(g.ctx, g.this, path), placing)
}

// in has paths mean those of a datacenter, for managers that lie in none.
func (g *gathering) in(datacenter *types.ManagedObjectReference) {
	if datacenter != nil {
		g.this = *datacenter
	} else if all := g.ctx.Map.All("Datacenter"); len(all) == 1 {
		g.this = all[0].Reference()
	}
}

func (g *gathering) between(fromCenter *types.ManagedObjectReference, from string,
	toCenter *types.ManagedObjectReference, to string) {
	g.in(fromCenter)
	g.path(from, false)
	if toCenter != nil {
		g.in(toCenter)
	}
	g.path(to, true)
}

// machine demands that a virtual machine's datastores are within reach of its host.
func (g *gathering) machine(ref types.ManagedObjectReference) {
	vm, ok := g.ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	var datastores []types.ManagedObjectReference
	g.ctx.WithLock(vm, func() {
		datastores, g.host = places.Stored(g.ctx, vm), vm.Runtime.Host
	})
	for i := range datastores {
		g.ref(&datastores[i], false)
	}
}

// placed turns what is demanded so far into places for something new.
func (g *gathering) placed() {
	for i := range g.list {
		g.list[i].places = true
	}
}

func (g *gathering) config(spec *types.VirtualMachineConfigSpec) {
	if spec.Files != nil {
		g.path(spec.Files.VmPathName, true)
	}
	for _, base := range spec.DeviceChange {
		change := base.GetVirtualDeviceConfigSpec()
		disk, ok := change.Device.(*types.VirtualDisk)
		if !ok || change.Operation != types.VirtualDeviceConfigSpecOperationAdd {
			continue
		}
		backing, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo)
		if !ok {
			continue
		}
		placing := change.FileOperation == types.VirtualDeviceConfigSpecFileOperationCreate
		info := backing.GetVirtualDeviceFileBackingInfo()
		g.ref(info.Datastore, placing)
		g.path(info.FileName, placing)
	}
}

// relocation demands what is new to the machine only: what stays where it is may stay.
func (g *gathering) relocation(spec *types.VirtualMachineRelocateSpec) {
	here := make(map[types.ManagedObjectReference]bool)
	if g.this.Type == "VirtualMachine" {
		for _, d := range g.list {
			here[d.datastore.Self] = !d.places
		}
	}
	target := func(ref *types.ManagedObjectReference) {
		if ref != nil && !here[*ref] {
			g.ref(ref, true)
		}
	}
	target(spec.Datastore)
	for i := range spec.Disk {
		target(&spec.Disk[i].Datastore)
	}
}
