// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Guard decides whether a caller may read a property of an object. It returns nil, or the privilege that is missing and the
// object on which it is missing. It is asked for each path that a client names, and for the names of all properties when a
// client asks for all; the caller has a session.
type Guard func(ctx *simulator.Context, obj types.ManagedObjectReference, path string) *types.NoPermission

var guards sync.Map // *core.Sim -> []Guard

// AddGuard has a guard asked by all retrievals, traversals and updates. What it denies is told in missingSet, as a vCenter
// tells it, and a traversal does not follow it. It is called before the vCenter serves.
func AddGuard(s *core.Sim, guard Guard) {
	known, _ := guards.Load(s)
	list, _ := known.([]Guard)
	guards.Store(s, append(slices.Clone(list), guard))
}

// forEverybody are the properties that need no session, by type: those with the privilege System.Anonymous in the API's
// reference, of the types that a client meets before it logs in.
var forEverybody = map[string][]string{
	"SessionManager":  {"currentSession", "messageLocaleList", "supportedLocaleList", "defaultLocale"},
	"ServiceInstance": {"content"},
}

// denied is the fault with which a caller does not see a property, or nil.
func denied(
	ctx *simulator.Context, s *core.Sim, obj types.ManagedObjectReference, path string,
) types.BaseMethodFault {
	if ctx.Session == nil {
		if slices.Contains(forEverybody[obj.Type], path) {
			return nil
		}
		return s.NoSession(privilegedObject(ctx, obj))
	}
	known, _ := guards.Load(s)
	list, _ := known.([]Guard)
	for _, guard := range list {
		if missing := guard(ctx, obj, path); missing != nil {
			return missing
		}
	}
	return nil
}

// privilegedObject is where a privilege on an object is looked for: services are guarded by the root folder.
func privilegedObject(ctx *simulator.Context, obj types.ManagedObjectReference) *types.ManagedObjectReference {
	if _, entity := ctx.Map.Get(obj).(mo.Entity); entity {
		return &obj
	}
	return core.RootFolder(ctx)
}

// deny moves what the caller may not see of an object from propSet to missingSet.
func deny(ctx *simulator.Context, s *core.Sim, set []types.PropertyFilterSpec, content *types.ObjectContent) {
	if _, guarded := guards.Load(s); !guarded && ctx.Session != nil {
		return
	}
	hidden := make(map[string]bool)
	for _, path := range askedOf(ctx, set, content) {
		if fault := denied(ctx, s, content.Obj, path); fault != nil && !hidden[path] {
			hidden[path] = true
			content.MissingSet = append(content.MissingSet, types.MissingProperty{
				Path: path, Fault: types.LocalizedMethodFault{Fault: fault}})
		}
	}
	content.PropSet = slices.DeleteFunc(content.PropSet, func(property types.DynamicProperty) bool {
		return hidden[property.Name]
	})
}

// askedOf lists the paths that filters ask of an object, whether they have a value or not.
func askedOf(ctx *simulator.Context, set []types.PropertyFilterSpec, content *types.ObjectContent) []string {
	var paths []string
	_, value := Managed(anonymous(ctx), content.Obj)
	for _, spec := range set {
		for _, properties := range spec.PropSet {
			if !value.IsValid() || IsA(content.Obj.Type, value.Type(), properties.Type) {
				paths = append(paths, properties.PathSet...)
			}
		}
	}
	for _, property := range content.PropSet {
		paths = append(paths, property.Name)
	}
	return paths
}

// anonymous reads as a caller that has everything but objects of its own, unless the caller has a session.
func anonymous(ctx *simulator.Context) *simulator.Context {
	if ctx.Session != nil {
		return ctx
	}
	own := *ctx
	own.Session = &simulator.Session{Registry: simulator.NewRegistry(), Map: ctx.Map}
	return &own
}
