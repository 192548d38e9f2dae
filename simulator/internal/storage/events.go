// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// post tells an event, if a client has caused it.
func post(ctx *simulator.Context, event types.BaseEvent) {
	own := core.NewContext(ctx)
	manager := own.Map.EventManager()
	if own.Session == nil || manager == nil {
		return
	}
	own.WithLock(manager, func() { manager.PostEvent(own, &types.PostEvent{EventToPost: event}) })
}

// about is the part of an event that says which virtual machine it is about, and where that is.
func about(ctx *simulator.Context, vm *simulator.VirtualMachine) types.VmEvent {
	event := types.Event{Vm: &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: vm.Name}, Vm: vm.Self}}
	if dc := datacenterOf(ctx, vm.Self); dc != nil {
		event.Datacenter = datacenterArgumentOf(dc)
	}
	if ref := places.HostOf(ctx, vm); ref != nil {
		host := hostArgument(ctx, *ref)
		event.Host = &host
	}
	return types.VmEvent{Event: event}
}

func hostArgument(ctx *simulator.Context, ref types.ManagedObjectReference) types.HostEventArgument {
	argument := types.HostEventArgument{Host: ref}
	if host, ok := ctx.Map.Get(ref).(*simulator.HostSystem); ok {
		argument.Name = host.Name
	}
	return argument
}

func datacenterArgumentOf(dc *simulator.Datacenter) *types.DatacenterEventArgument {
	return &types.DatacenterEventArgument{EntityEventArgument: types.EntityEventArgument{Name: dc.Name}, Datacenter: dc.Self}
}

// tellCloned tells that a clone has been made.
func tellCloned(ctx *simulator.Context, source, clone *simulator.VirtualMachine) {
	post(ctx, &types.VmClonedEvent{
		VmCloneEvent: types.VmCloneEvent{VmEvent: about(ctx, clone)}, SourceVm: *about(ctx, source).Vm})
}

// origin is where a virtual machine was before it moved.
type origin struct {
	host       *types.ManagedObjectReference
	datacenter *simulator.Datacenter
	datastore  *simulator.Datastore
}

// tellMigrated tells that a virtual machine has moved: by VmMigratedEvent to another host, by VmRelocatedEvent to other datastores
// only.
func tellMigrated(ctx *simulator.Context, vm *simulator.VirtualMachine, from origin) {
	var host types.HostEventArgument
	if from.host != nil {
		host = hostArgument(ctx, *from.host)
	}
	var dc *types.DatacenterEventArgument
	if from.datacenter != nil {
		dc = datacenterArgumentOf(from.datacenter)
	}
	ds := &types.DatastoreEventArgument{
		EntityEventArgument: types.EntityEventArgument{Name: places.Name(from.datastore)}, Datastore: from.datastore.Self}
	now := places.HostOf(ctx, vm)
	if from.host != nil && now != nil && *from.host != *now {
		post(ctx, &types.VmMigratedEvent{
			VmEvent: about(ctx, vm), SourceHost: host, SourceDatacenter: dc, SourceDatastore: ds})
		return
	}
	post(ctx, &types.VmRelocatedEvent{
		VmRelocateSpecEvent: types.VmRelocateSpecEvent{VmEvent: about(ctx, vm)}, SourceHost: host, SourceDatacenter: dc,
		SourceDatastore: ds})
}
