// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// overrideTemplates has resource pools list the virtual machines that are in them, and no templates.
func (s *Store) overrideTemplates() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.MarkAsTemplate, next core.Next) soap.HasFault {
		vm, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
		if !ok {
			return next()
		}
		pool := vm.ResourcePool
		answer := next()
		if answer.Fault() == nil {
			tellTemplate(ctx, vm, pool)
		}
		return answer
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.MarkAsVirtualMachine, next core.Next) soap.HasFault {
		vm, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
		if !ok {
			return next()
		}
		if ctx.Map.Get(req.Pool) == nil {
			return core.Fault(&types.ManagedObjectNotFound{Obj: req.Pool})
		}
		answer := next()
		if answer.Fault() == nil {
			listMachine(ctx, &req.Pool, vm.Self, true)
			ctx.Update(vm, []types.PropertyChange{
				{Name: "config.template", Val: false}, {Name: "summary.config.template", Val: false},
				{Name: "resourcePool", Val: req.Pool}})
		}
		return answer
	})
}

// markAsTemplate makes a virtual machine a template, as a part of another task.
func markAsTemplate(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	ctx.WithLock(vm, func() {
		pool := vm.ResourcePool
		vm.MarkAsTemplate(&types.MarkAsTemplate{This: vm.Self})
		tellTemplate(ctx, vm, pool)
	})
}

// tellTemplate lets the properties say that a virtual machine has become a template.
func tellTemplate(ctx *simulator.Context, vm *simulator.VirtualMachine, pool *types.ManagedObjectReference) {
	listMachine(ctx, pool, vm.Self, false)
	ctx.Update(vm, []types.PropertyChange{
		{Name: "config.template", Val: true}, {Name: "summary.config.template", Val: true}, {Name: "resourcePool", Val: nil}})
}

// listMachine puts a virtual machine into the list of a host or a resource pool, or takes it out.
func listMachine(ctx *simulator.Context, ref *types.ManagedObjectReference, vm types.ManagedObjectReference, there bool) {
	if ref == nil {
		return
	}
	switch obj := ctx.Map.Get(*ref).(type) {
	case *simulator.HostSystem:
		setReferences(ctx, obj, "vm", &obj.Vm, vm, there)
	case *simulator.ResourcePool:
		setReferences(ctx, obj, "vm", &obj.Vm, vm, there)
	case *simulator.VirtualApp:
		setReferences(ctx, mo.Reference(obj), "vm", &obj.Vm, vm, there)
	}
}
