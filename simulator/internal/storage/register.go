// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"log"
	"os"
	"path"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// overrideRegister answers what takes virtual machines out of the inventory and puts them in again.
func (s *Store) overrideRegister() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.UnregisterVM, next core.Next) soap.HasFault {
		vm, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
		if !ok {
			return next()
		}
		if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
			if err := s.writeVMX(ctx, vm); err != nil {
				// The folder may be out of reach, or gone: the inventory does not need it.
				log.Printf("UnregisterVM %s: %v", vm.Self.Value, err)
			}
		}
		answer := next()
		if answer.Fault() == nil {
			s.unlink(ctx, vm)
		}
		return answer
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RegisterVM_Task, _ core.Next) soap.HasFault {
		task := core.StartTask(ctx, req.This, "RegisterVM_Task",
			func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
				return result(s.register(ctx, req))
			})
		return &methods.RegisterVM_TaskBody{Res: &types.RegisterVM_TaskResponse{Returnval: task}}
	})
}

// register does what Folder.RegisterVM_Task does.
func (s *Store) register(
	ctx *simulator.Context, req *types.RegisterVM_Task,
) (*types.ManagedObjectReference, types.BaseMethodFault) {
	folder, ok := ctx.Map.Get(req.This).(*simulator.Folder)
	dc := datacenterOf(ctx, req.This)
	if !ok || dc == nil {
		return nil, &types.ManagedObjectNotFound{Obj: req.This}
	}
	if req.Path == "" {
		return nil, &types.InvalidArgument{InvalidProperty: "path"}
	}
	home, fault := parse(ctx, dc, req.Path)
	if fault != nil {
		return nil, fault
	}
	if vm := registered(ctx, home); vm != nil {
		return nil, &types.AlreadyExists{Name: vm.Self.Value}
	}
	file, err := readVMX(home)
	if os.IsNotExist(err) {
		return nil, &types.NotFound{}
	} else if err != nil {
		return nil, &types.InvalidVmConfig{Property: "path"}
	}
	pool, host, fault := s.registerWhere(ctx, req, home)
	if fault != nil {
		return nil, fault
	}
	if file == nil {
		file = &vmxFile{}
	}
	name := req.Name
	if name == "" {
		name = file.Name
	}
	if name == "" {
		name = path.Dir(home.file)
	}
	release, fault := s.claimMachine(ctx, &folder.Folder, name, "")
	if fault != nil {
		return nil, fault
	}
	defer release()
	instance, release, fault := s.newInstanceUUID(file.Config.InstanceUuid)
	if fault != nil {
		return nil, fault
	}
	defer release()
	vm, fault := s.registerBare(ctx, folder, home, &types.CreateVM_Task{This: folder.Self, Pool: pool, Host: &host,
		Config: types.VirtualMachineConfigSpec{
			Name: name, Uuid: newUUID(), InstanceUuid: instance,
			Files: &types.VirtualMachineFileInfo{VmPathName: home.String()}}})
	if fault != nil {
		return nil, fault
	}
	if file.Name != "" {
		s.fill(ctx, vm, home, file, instance)
	}
	s.Settle(ctx, vm)
	if req.AsTemplate {
		markAsTemplate(ctx, vm)
	}
	return &vm.Self, nil
}

// registerWhere finds the resource pool and the host of a machine that is to be registered. A template has a host only.
func (s *Store) registerWhere(
	ctx *simulator.Context, req *types.RegisterVM_Task, home place,
) (pool, host types.ManagedObjectReference, fault types.BaseMethodFault) {
	switch {
	case req.AsTemplate && req.Host == nil:
		return pool, host, &types.InvalidArgument{InvalidProperty: "host"}
	case req.AsTemplate && req.Pool != nil, !req.AsTemplate && req.Pool == nil:
		return pool, host, &types.InvalidArgument{InvalidProperty: "pool"}
	case req.AsTemplate:
		if pool, fault = poolOfHost(ctx, *req.Host); fault != nil {
			return pool, host, fault
		}
	default:
		pool = *req.Pool
	}
	host, fault = chooseHost(ctx, req.Host, &pool, home.ds)
	return pool, host, fault
}

// poolOfHost is the root resource pool of a host's compute resource.
func poolOfHost(ctx *simulator.Context, ref types.ManagedObjectReference) (types.ManagedObjectReference, types.BaseMethodFault) {
	host, ok := ctx.Map.Get(ref).(*simulator.HostSystem)
	if !ok {
		return ref, &types.ManagedObjectNotFound{Obj: ref}
	}
	return places.RootPool(ctx, *host.Parent), nil
}

// registerBare has the library make a machine on files that are there: it insists on making them, so they step aside.
func (s *Store) registerBare(
	ctx *simulator.Context, folder *simulator.Folder, home place, req *types.CreateVM_Task,
) (*simulator.VirtualMachine, types.BaseMethodFault) {
	for _, at := range []place{home, home.dir().join("vmware.log")} {
		aside := at.local() + ".registering~"
		if err := os.Rename(at.local(), aside); err != nil {
			continue // there is no log
		}
		defer func() { _ = os.Rename(aside, at.local()) }()
	}
	return s.libraryCreate(ctx, folder, req)
}
