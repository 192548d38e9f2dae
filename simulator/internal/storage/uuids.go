// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// instances finds virtual machines by their instance uuids, without a look at all of them. It is one of the registry's listeners.
type instances struct {
	mo.Folder // only its Self is used: the registry knows its listeners by reference

	lock     sync.Mutex
	machines map[string][]types.ManagedObjectReference // by uuid in lower case
	uuids    map[types.ManagedObjectReference]string
}

func followInstances(registry *simulator.Registry) *instances {
	i := &instances{
		machines: make(map[string][]types.ManagedObjectReference), uuids: make(map[types.ManagedObjectReference]string),
	}
	i.Self = types.ManagedObjectReference{Type: "Instances", Value: "instances"}
	registry.AddHandler(i)
	for _, entity := range registry.All("VirtualMachine") {
		i.PutObject(nil, entity)
	}
	return i
}

// find returns the machines that have an instance uuid, in whatever case it is written.
func (i *instances) find(uuid string) []types.ManagedObjectReference {
	i.lock.Lock()
	defer i.lock.Unlock()
	return slices.Clone(i.machines[strings.ToLower(uuid)]) // "" is none's
}

// exactly returns the machines whose instance uuid is written so.
func (i *instances) exactly(uuid string) []types.ManagedObjectReference {
	found := i.find(uuid)
	i.lock.Lock()
	defer i.lock.Unlock()
	return slices.DeleteFunc(found, func(ref types.ManagedObjectReference) bool { return i.uuids[ref] != uuid })
}

// PutObject implements simulator.RegisterObject.
func (i *instances) PutObject(_ *simulator.Context, obj mo.Reference) {
	if vm, ok := obj.(*simulator.VirtualMachine); ok {
		i.lock.Lock()
		defer i.lock.Unlock()
		i.note(vm.Self, instanceUUID(&vm.VirtualMachine))
	}
}

// UpdateObject implements simulator.RegisterObject. The object is locked by whoever updates it; it may have been removed just now.
func (i *instances) UpdateObject(_ *simulator.Context, obj mo.Reference, _ []types.PropertyChange) {
	vm, ok := obj.(*mo.VirtualMachine)
	if !ok {
		return
	}
	i.lock.Lock()
	defer i.lock.Unlock()
	if _, known := i.uuids[vm.Self]; known {
		i.note(vm.Self, instanceUUID(vm))
	}
}

// RemoveObject implements simulator.RegisterObject.
func (i *instances) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) {
	i.lock.Lock()
	defer i.lock.Unlock()
	if _, known := i.uuids[ref]; known {
		i.note(ref, "")
		delete(i.uuids, ref)
	}
}

func instanceUUID(vm *mo.VirtualMachine) string {
	if vm.Config == nil {
		return ""
	}
	return vm.Config.InstanceUuid
}

// note notes the instance uuid of a machine; "": it has none. The lock is held.
func (i *instances) note(ref types.ManagedObjectReference, uuid string) {
	old := i.uuids[ref]
	i.uuids[ref] = uuid
	if old == uuid {
		return
	}
	if key := strings.ToLower(old); key != "" {
		i.machines[key] = slices.DeleteFunc(i.machines[key], func(each types.ManagedObjectReference) bool { return each == ref })
		if len(i.machines[key]) == 0 {
			delete(i.machines, key)
		}
	}
	if key := strings.ToLower(uuid); key != "" {
		i.machines[key] = append(i.machines[key], ref)
	}
}

// overrideSearch answers searches by instance uuid, for which the library looks at all objects.
func (s *Store) overrideSearch() {
	core.Override(s.sim, func(_ *simulator.Context, req *types.FindByUuid, next core.Next) soap.HasFault {
		if !req.VmSearch || !isTrue(req.InstanceUuid) {
			return next()
		}
		body := &methods.FindByUuidBody{Res: &types.FindByUuidResponse{}}
		if found := s.instances.exactly(req.Uuid); len(found) > 0 {
			body.Res.Returnval = &found[0]
		}
		return body
	})
	core.Override(s.sim, func(_ *simulator.Context, req *types.FindAllByUuid, next core.Next) soap.HasFault {
		if !req.VmSearch || !isTrue(req.InstanceUuid) {
			return next()
		}
		return &methods.FindAllByUuidBody{Res: &types.FindAllByUuidResponse{Returnval: s.instances.exactly(req.Uuid)}}
	})
}
