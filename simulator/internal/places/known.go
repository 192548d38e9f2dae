// SPDX-License-Identifier: Apache-2.0

package places

import (
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// known are copies of properties that are read where the object's lock cannot be taken: in the midst of work on another object,
// or under a lock of a feature's own.
var known struct {
	names   sync.Map // *mo.Datastore -> string
	running sync.Map // *mo.VirtualMachine -> bool
}

// Follow keeps what Name and Running answer up to date.
func Follow(registry *simulator.Registry) {
	l := &follower{registry: registry}
	l.Self = types.ManagedObjectReference{Type: "Places", Value: "places"}
	registry.AddHandler(l)
	for _, entity := range registry.All("") {
		l.PutObject(nil, entity)
	}
}

// Name is a datastore's name.
func Name(datastore *simulator.Datastore) string {
	if name, ok := known.names.Load(&datastore.Datastore); ok {
		return name.(string)
	}
	return datastore.Name
}

// Running reports whether a virtual machine is powered on.
func Running(vm *simulator.VirtualMachine) bool {
	on, ok := known.running.Load(&vm.VirtualMachine)
	return ok && on.(bool)
}

// HostOf is the host of a virtual machine, or nil.
func HostOf(ctx *simulator.Context, vm *simulator.VirtualMachine) (host *types.ManagedObjectReference) {
	ctx.WithLock(vm, func() { host = vm.Runtime.Host })
	return host
}

// follower is one of the registry's listeners.
type follower struct {
	mo.Folder // only its Self is used: the registry knows its listeners by reference
	registry  *simulator.Registry
}

// PutObject implements simulator.RegisterObject.
func (*follower) PutObject(_ *simulator.Context, obj mo.Reference) {
	switch object := obj.(type) {
	case *simulator.Datastore:
		known.names.Store(&object.Datastore, object.Name)
	case *simulator.VirtualMachine:
		learn(&object.VirtualMachine)
	}
}

func learn(vm *mo.VirtualMachine) {
	known.running.Store(vm, vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn)
}

// UpdateObject implements simulator.RegisterObject.
func (*follower) UpdateObject(_ *simulator.Context, obj mo.Reference, changes []types.PropertyChange) {
	for _, change := range changes {
		switch object := obj.(type) {
		case *mo.Datastore:
			if change.Name == "name" {
				known.names.Store(object, object.Name)
			}
		case *mo.VirtualMachine:
			if strings.HasPrefix(change.Name, "runtime") {
				learn(object)
			}
		}
	}
}

// RemoveObject implements simulator.RegisterObject.
func (f *follower) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) {
	switch object := f.registry.Get(ref).(type) {
	case *simulator.Datastore:
		known.names.Delete(&object.Datastore)
	case *simulator.VirtualMachine:
		known.running.Delete(&object.VirtualMachine)
	}
}
