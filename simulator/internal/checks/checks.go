// SPDX-License-Identifier: Apache-2.0

// Package checks refuses what a vCenter refuses before it does anything, whatever would do it: names, places in the inventory,
// and versions of a configuration.
package checks

import (
	"strings"
	"unicode/utf8"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature is the checks.
var Feature = core.Feature{
	Name: "checks",
	Rules: []core.Rule{
		{Name: "names", Test: "test_checks.ChecksTestCase.test_a_folder_needs_a_name_of_at_most_79_characters",
			Relaxes: "empty names, names of more than 79 characters, and of machines of more than 80, are accepted"},
		{Name: "concurrent-access", Test: "test_checks.ChecksTestCase.test_an_old_change_version_is_concurrent_access",
			Relaxes: "ReconfigVM_Task ignores a `changeVersion` that is not the machine's"},
	},
	Start: start,
}

func start(s *core.Sim) error {
	names, versions := !s.Lenient("names"), !s.Lenient("concurrent-access")
	s.Around(func(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		if ctx.Session == nil {
			return next()
		}
		fault := places(ctx, call)
		if fault == nil && names {
			fault = name(call)
		}
		if fault == nil && versions {
			fault = version(ctx, call)
		}
		switch {
		case fault == nil:
			return next()
		case strings.HasSuffix(call.Name, "_Task") && ctx.Map.Get(call.This) != nil:
			return core.FailedTask(ctx, call, fault)
		}
		return core.Fault(fault)
	})
	return nil
}

// longest is how many characters a name in the inventory has at most (Folder.CreateFolder: "less than 80"). A machine's has
// one more (KB 2051649), and Nova uses it.
const longest, longestOfMachine = 79, 80

// name checks the name that a call gives to an object.
func name(call *core.Call) types.BaseMethodFault {
	text, entity, most := "", call.This, longest
	switch req := call.Body.(type) {
	case *types.CreateFolder:
		text = req.Name
	case *types.CreateStoragePod:
		text = req.Name
	case *types.CreateDatacenter:
		text = req.Name
	case *types.CreateClusterEx:
		text = req.Name
	case *types.CreateResourcePool:
		text = req.Name
	case *types.CreateVM_Task:
		text, most = req.Config.Name, longestOfMachine
	case *types.CloneVM_Task:
		text, most = req.Name, longestOfMachine
	case *types.Rename_Task:
		if text = req.NewName; call.This.Type == "VirtualMachine" {
			most = longestOfMachine
		}
	case *types.RenameDatastore:
		text = req.NewName
	case *types.ReconfigVM_Task:
		if text, most = req.Spec.Name, longestOfMachine; text == "" { // it stays as it is
			return nil
		}
	default:
		return nil
	}
	if text == "" || utf8.RuneCountInString(text) > most {
		return &types.InvalidName{Name: text, Entity: &entity}
	}
	return nil
}

// places checks where a call puts an object.
func places(ctx *simulator.Context, call *core.Call) types.BaseMethodFault {
	switch req := call.Body.(type) {
	case *types.CreateVM_Task:
		if _, ok := ctx.Map.Get(req.Pool).(mo.Entity); !ok {
			return &types.ManagedObjectNotFound{Obj: req.Pool}
		}
	case *types.MoveIntoFolder_Task:
		for _, ref := range req.List {
			if fault := place(ctx, req.This, ref); fault != nil {
				return fault
			}
		}
	}
	return nil
}

// place checks that a folder may hold an object, and is not in it.
func place(ctx *simulator.Context, folder, ref types.ManagedObjectReference) types.BaseMethodFault {
	into, ok := ctx.Map.Get(folder).(mo.Entity)
	if !ok {
		return nil
	}
	obj, ok := ctx.Map.Get(ref).(mo.Entity)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	if !holds(into, obj, ref) {
		return &types.NotSupported{}
	}
	for at := &folder; at != nil; {
		if *at == ref {
			return &types.InvalidFolder{Target: folder}
		}
		at = parent(ctx, *at)
	}
	return nil
}

func parent(ctx *simulator.Context, ref types.ManagedObjectReference) (above *types.ManagedObjectReference) {
	if entity, ok := ctx.Map.Get(ref).(mo.Entity); ok {
		core.NewContext(ctx).WithLock(entity, func() { above = entity.Entity().Parent })
	}
	return above
}

// holds reports whether a folder is one for objects of a type; for a folder, whether both are for the same types.
func holds(into, obj mo.Entity, ref types.ManagedObjectReference) bool {
	allowed := childTypes(into)
	if allowed == nil {
		return true
	}
	if moved := childTypes(obj); moved != nil && ref.Type == "Folder" {
		for kind := range moved {
			if !allowed[kind] {
				return false
			}
		}
		return true
	}
	switch ref.Type {
	case "ClusterComputeResource":
		return allowed["ComputeResource"] || allowed[ref.Type]
	case "StoragePod":
		return allowed["StoragePod"] || allowed["Datastore"]
	case "DistributedVirtualPortgroup", "OpaqueNetwork":
		return allowed["Network"] || allowed[ref.Type]
	case "VmwareDistributedVirtualSwitch":
		return allowed["DistributedVirtualSwitch"] || allowed[ref.Type]
	}
	return allowed[ref.Type]
}

func childTypes(entity mo.Entity) map[string]bool {
	var list []string
	switch folder := entity.(type) {
	case *simulator.Folder:
		list = folder.ChildType
	case *simulator.StoragePod:
		list = []string{"Datastore"}
	default:
		return nil
	}
	kinds := make(map[string]bool, len(list))
	for _, kind := range list {
		kinds[kind] = true
	}
	return kinds
}

// version checks the changeVersion of a new configuration, which says which configuration the client has seen.
func version(ctx *simulator.Context, call *core.Call) types.BaseMethodFault {
	req, ok := call.Body.(*types.ReconfigVM_Task)
	if !ok || req.Spec.ChangeVersion == "" {
		return nil
	}
	vm, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	if !ok {
		return nil
	}
	current := ""
	core.NewContext(ctx).WithLock(vm, func() {
		if vm.Config != nil {
			current = vm.Config.ChangeVersion
		}
	})
	if current != req.Spec.ChangeVersion {
		return &types.ConcurrentAccess{}
	}
	return nil
}
