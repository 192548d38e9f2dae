// SPDX-License-Identifier: Apache-2.0

// Package places finds what lies where: a datastore's datacenter, a datacenter's datastores, a datastore's users.
package places

import (
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Naming is held for reading while the library makes a virtual machine at a datastore path, and for writing while a datastore
// gets another name or goes: the library looks for the name several times, and cannot do without it.
var Naming sync.RWMutex

// Datacenter finds the datacenter that an entity lies in, or nil.
func Datacenter(ctx *simulator.Context, ref types.ManagedObjectReference) *simulator.Datacenter {
	for {
		switch object := ctx.Map.Get(ref).(type) {
		case *simulator.Datacenter:
			return object
		case mo.Entity:
			parent := object.Entity().Parent
			if parent == nil {
				return nil
			}
			ref = *parent
		default:
			return nil
		}
	}
}

// Datastores lists the datastores of a datacenter (of all, if it is nil), sorted by name.
func Datastores(ctx *simulator.Context, datacenter *simulator.Datacenter) []*simulator.Datastore {
	var list []*simulator.Datastore
	each(ctx, datacenter, func(datastore *simulator.Datastore) bool {
		list = append(list, datastore)
		return true
	})
	sort.Slice(list, func(i, j int) bool { return Name(list[i]) < Name(list[j]) })
	return list
}

// Datastore finds a datastore by its name in a datacenter (in all, if it is nil), or nil.
func Datastore(ctx *simulator.Context, datacenter *simulator.Datacenter, name string) (found *simulator.Datastore) {
	each(ctx, datacenter, func(datastore *simulator.Datastore) bool {
		if Name(datastore) == name {
			found = datastore
		}
		return found == nil
	})
	return found
}

// each calls f with datastores until it returns false.
func each(ctx *simulator.Context, datacenter *simulator.Datacenter, f func(*simulator.Datastore) bool) {
	var datacenters []*simulator.Datacenter
	if datacenter != nil {
		datacenters = []*simulator.Datacenter{datacenter}
	} else {
		for _, entity := range ctx.Map.All("Datacenter") {
			datacenters = append(datacenters, entity.(*simulator.Datacenter))
		}
	}
	for _, datacenter := range datacenters {
		var refs []types.ManagedObjectReference
		ctx.WithLock(datacenter, func() { refs = slices.Clone(datacenter.Datastore) })
		for _, ref := range refs {
			if datastore, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok && !f(datastore) {
				return
			}
		}
	}
}

// Machine finds a virtual machine by its name or its reference's value ("vm-62"), or nil.
func Machine(ctx *simulator.Context, name string) *simulator.VirtualMachine {
	if vm, ok := ctx.Map.Get(types.ManagedObjectReference{Type: "VirtualMachine", Value: name}).(*simulator.VirtualMachine); ok {
		return vm
	}
	for _, entity := range ctx.Map.All("VirtualMachine") {
		if entity.Entity().Name == name {
			return entity.(*simulator.VirtualMachine)
		}
	}
	return nil
}

// Host finds a host by its name or its reference's value ("host-21"), or nil.
func Host(ctx *simulator.Context, name string) *simulator.HostSystem {
	if host, ok := ctx.Map.Get(types.ManagedObjectReference{Type: "HostSystem", Value: name}).(*simulator.HostSystem); ok {
		return host
	}
	for _, entity := range ctx.Map.All("HostSystem") {
		if entity.Entity().Name == name {
			return entity.(*simulator.HostSystem)
		}
	}
	return nil
}

// Escape writes a name as a vCenter stores it: '%', '/' and '\' are escaped as in URLs.
func Escape(name string) string {
	// A client may have escaped them already, as the API asks it to.
	if plain, err := url.PathUnescape(name); err == nil && strings.Contains(name, "%") {
		for _, escaped := range []string{"%25", "%2f", "%2F", "%5c", "%5C"} {
			if strings.Contains(name, escaped) {
				name = plain
				break
			}
		}
	}
	return strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c").Replace(name)
}

// DisksOn lists the disks of a virtual machine, backing chains included, that have a file on the datastore.
func DisksOn(vm *simulator.VirtualMachine, datastore types.ManagedObjectReference) []*types.VirtualDisk {
	var disks []*types.VirtualDisk
	if vm.Config == nil {
		return nil
	}
	for _, device := range vm.Config.Hardware.Device {
		if disk, ok := device.(*types.VirtualDisk); ok && slices.Contains(Backings(disk), datastore) {
			disks = append(disks, disk)
		}
	}
	return disks
}

// Backings lists the datastores of a disk's files: its own first, then its parents'.
func Backings(disk *types.VirtualDisk) []types.ManagedObjectReference {
	var refs []types.ManagedObjectReference
	backing, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo)
	if !ok {
		return nil
	}
	if ref := backing.GetVirtualDeviceFileBackingInfo().Datastore; ref != nil {
		refs = append(refs, *ref)
	}
	if flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
		for parent := flat.Parent; parent != nil; parent = parent.Parent {
			if parent.Datastore != nil {
				refs = append(refs, *parent.Datastore)
			}
		}
	}
	return refs
}

// Media is the datastore path of the image that a CD-ROM, a floppy, or another device that is no disk, has; or "".
func Media(device types.BaseVirtualDevice) string {
	if _, disk := device.(*types.VirtualDisk); disk {
		return ""
	}
	if backing, ok := device.GetVirtualDevice().Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		return backing.GetVirtualDeviceFileBackingInfo().FileName
	}
	return ""
}

// Stored lists the datastores on which a virtual machine has files of its own, and leaves out those that hold only an image in
// a drive of it: it does without. Its lock is held.
func Stored(ctx *simulator.Context, vm *simulator.VirtualMachine) []types.ManagedObjectReference {
	if vm.Config == nil {
		return slices.Clone(vm.Datastore)
	}
	images := make(map[types.ManagedObjectReference]bool)
	for _, device := range vm.Config.Hardware.Device {
		if ds := DatastoreOf(ctx, vm.Self, Media(device)); ds != nil {
			images[ds.Self] = true
		}
	}
	if home := DatastoreOf(ctx, vm.Self, vm.Config.Files.VmPathName); home != nil {
		delete(images, home.Self)
	}
	return slices.DeleteFunc(slices.Clone(vm.Datastore), func(ref types.ManagedObjectReference) bool {
		return images[ref] && len(DisksOn(vm, ref)) == 0
	})
}

// Machines lists the virtual machines, templates too, that have a file or a disk on the datastore.
func Machines(ctx *simulator.Context, datastore types.ManagedObjectReference) []*simulator.VirtualMachine {
	var list []*simulator.VirtualMachine
	for _, entity := range ctx.Map.All("VirtualMachine") {
		vm := entity.(*simulator.VirtualMachine)
		ctx.WithLock(vm, func() {
			if slices.Contains(vm.Datastore, datastore) || len(DisksOn(vm, datastore)) > 0 {
				list = append(list, vm)
			}
		})
	}
	return list
}

// DatastoreOf finds the datastore that a path "[name] ..." means to an entity: that of the entity's datacenter. It is nil if
// there is none, or if it is no such path.
func DatastoreOf(ctx *simulator.Context, entity types.ManagedObjectReference, path string) *simulator.Datastore {
	var parsed object.DatastorePath
	if !parsed.FromString(path) {
		return nil
	}
	return Datastore(ctx, Datacenter(ctx, entity), parsed.Datastore)
}

// RootPool is the root resource pool of a compute resource.
func RootPool(ctx *simulator.Context, compute types.ManagedObjectReference) types.ManagedObjectReference {
	switch object := ctx.Map.Get(compute).(type) {
	case *simulator.ClusterComputeResource:
		return *object.ResourcePool
	case *mo.ComputeResource:
		return *object.ResourcePool
	}
	return types.ManagedObjectReference{}
}

// PoolHosts lists the hosts of the compute resource that a resource pool belongs to.
func PoolHosts(ctx *simulator.Context, pool types.ManagedObjectReference) []types.ManagedObjectReference {
	for ref := pool; ; {
		switch object := ctx.Map.Get(ref).(type) {
		case *simulator.ClusterComputeResource:
			return slices.Clone(object.Host)
		case *mo.ComputeResource:
			return slices.Clone(object.Host)
		case mo.Entity:
			if object.Entity().Parent == nil {
				return nil
			}
			ref = *object.Entity().Parent
		default:
			return nil
		}
	}
}
