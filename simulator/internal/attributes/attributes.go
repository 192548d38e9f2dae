// SPDX-License-Identifier: Apache-2.0

// Package attributes has custom attributes told to whoever waits for updates, and set on any entity.
package attributes

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature is CustomFieldsManager and ExtensibleManagedObject.setCustomValue. The library keeps attributes and values, and tells
// nobody; of what lies in an inventory it lets only some take setCustomValue.
var Feature = core.Feature{Name: "custom attributes", Start: start}

func start(s *core.Sim) error {
	core.Override(s, func(ctx *simulator.Context, req *types.SetField, next core.Next) soap.HasFault {
		if _, ok := ctx.Map.Get(req.Entity).(mo.Entity); !ok {
			return core.Fault(&types.ManagedObjectNotFound{Obj: req.Entity})
		}
		answer := next()
		if answer.Fault() == nil {
			tell(ctx, req.Entity)
		}
		return answer
	})
	core.Override(s, func(ctx *simulator.Context, req *types.SetCustomValue, next core.Next) soap.HasFault {
		if _, ok := ctx.Map.Get(req.This).(mo.Entity); !ok {
			return next()
		}
		manager := ctx.Map.CustomFieldsManager()
		known := false
		ctx.WithLock(manager, func() {
			known = slices.ContainsFunc(manager.Field, func(field types.CustomFieldDef) bool {
				return field.Name == req.Key && (field.ManagedObjectType == "" || field.ManagedObjectType == req.This.Type)
			})
		})
		if !known {
			return core.Fault(&types.InvalidArgument{InvalidProperty: "key"})
		}
		if answer := simulator.SetCustomValue(ctx, req); answer.Fault() != nil {
			return answer
		}
		tell(ctx, req.This)
		return &methods.SetCustomValueBody{Res: &types.SetCustomValueResponse{}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.AddCustomFieldDef, next core.Next) soap.HasFault {
		return tellFields(ctx, next())
	})
	core.Override(s, func(ctx *simulator.Context, req *types.RenameCustomFieldDef, next core.Next) soap.HasFault {
		return tellFields(ctx, next())
	})
	core.Override(s, func(ctx *simulator.Context, req *types.RemoveCustomFieldDef, next core.Next) soap.HasFault {
		had := ""
		for _, field := range ctx.Map.CustomFieldsManager().Field {
			if field.Key == req.Key {
				had = field.ManagedObjectType
			}
		}
		answer := tellFields(ctx, next())
		for _, entity := range ctx.Map.All(had) {
			tell(ctx, core.Ref(entity))
		}
		return answer
	})
	return nil
}

// tellFields tells which attributes there are. The manager is locked: it is what was called.
func tellFields(ctx *simulator.Context, answer soap.HasFault) soap.HasFault {
	if answer.Fault() == nil {
		manager := ctx.Map.CustomFieldsManager()
		ctx.Update(manager, []types.PropertyChange{{Name: "field", Val: slices.Clone(manager.Field)}})
	}
	return answer
}

func tell(ctx *simulator.Context, ref types.ManagedObjectReference) {
	entity, ok := ctx.Map.Get(ref).(mo.Entity)
	if !ok {
		return
	}
	ctx.WithLock(entity, func() {
		own := entity.Entity()
		ctx.Update(entity, []types.PropertyChange{
			{Name: "customValue", Val: slices.Clone(own.CustomValue)}, {Name: "value", Val: slices.Clone(own.Value)}})
	})
}
