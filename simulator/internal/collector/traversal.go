// SPDX-License-Identifier: Apache-2.0

// Package collector mends the PropertyCollector.
package collector

import (
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Select finds the objects that a filter's object specification selects, each once, in the order in which they are found.
// A traversal applies only to objects of its type, as PropertyCollector documents TraversalSpec.type (the library applies it to
// all, and recurses for ever on a specification such as oslo.vmware's).
//
// It fails with ManagedObjectNotFound for a start that is gone, and with InvalidArgument for a selection of a name that no
// traversal has.
func Select(ctx *simulator.Context, spec types.ObjectSpec) ([]types.ManagedObjectReference, types.BaseMethodFault) {
	return selected(ctx, nil, spec)
}

// selected is Select for a client: what it may not see it does not find.
func selected(
	ctx *simulator.Context, s *core.Sim, spec types.ObjectSpec,
) ([]types.ManagedObjectReference, types.BaseMethodFault) {
	if object(ctx, spec.Obj) == nil {
		return nil, &types.ManagedObjectNotFound{Obj: spec.Obj}
	}
	w := &walk{ctx: ctx, sim: s, named: make(map[string]*types.TraversalSpec), found: make(map[types.ManagedObjectReference]bool),
		done: make(map[visit]bool)}
	if fault := w.names(spec.SelectSet); fault != nil {
		return nil, fault
	}
	if !isTrue(spec.Skip) {
		w.add(spec.Obj)
	}
	fault := w.from(spec.Obj, spec.SelectSet)
	return w.refs, fault
}

type visit struct {
	ref  types.ManagedObjectReference
	spec *types.TraversalSpec
}

type walk struct {
	ctx   *simulator.Context
	sim   *core.Sim // nil for a caller that may see all
	named map[string]*types.TraversalSpec
	found map[types.ManagedObjectReference]bool
	done  map[visit]bool
	refs  []types.ManagedObjectReference
}

// names learns the names of all traversals first: a selection may name one that is written further down.
func (w *walk) names(set []types.BaseSelectionSpec) types.BaseMethodFault {
	for _, selection := range set {
		if traversal, ok := selection.(*types.TraversalSpec); ok {
			if traversal.Name != "" {
				w.named[traversal.Name] = traversal
			}
			if fault := w.names(traversal.SelectSet); fault != nil {
				return fault
			}
		}
	}
	return nil
}

func (w *walk) add(ref types.ManagedObjectReference) {
	if !w.found[ref] {
		w.found[ref] = true
		w.refs = append(w.refs, ref)
	}
}

func (w *walk) from(ref types.ManagedObjectReference, set []types.BaseSelectionSpec) types.BaseMethodFault {
	for _, selection := range set {
		traversal, ok := selection.(*types.TraversalSpec)
		if !ok {
			name := selection.GetSelectionSpec().Name
			if traversal = w.named[name]; traversal == nil {
				return &types.InvalidArgument{InvalidProperty: "selectSet " + name}
			}
		}
		if w.done[visit{ref, traversal}] {
			continue
		}
		w.done[visit{ref, traversal}] = true
		for _, next := range w.follow(ref, traversal) {
			if !isTrue(traversal.Skip) {
				w.add(next)
			}
			if fault := w.from(next, traversal.SelectSet); fault != nil {
				return fault
			}
		}
	}
	return nil
}

func (w *walk) may(ref types.ManagedObjectReference, path string) bool {
	return w.sim == nil || denied(w.ctx, w.sim, ref, path) == nil
}

func (w *walk) follow(ref types.ManagedObjectReference, traversal *types.TraversalSpec) []types.ManagedObjectReference {
	obj := object(w.ctx, ref)
	if obj == nil {
		return nil
	}
	value := managed(obj)
	if value.IsValid() && IsA(ref.Type, value.Type(), traversal.Type) && w.may(ref, traversal.Path) {
		var refs []types.ManagedObjectReference
		w.ctx.WithLock(obj, func() { refs = references(value, traversal.Path) })
		return refs
	}
	return nil
}

// IsA reports whether an object is of a type or of one derived from it: govmomi's types embed their parents.
func IsA(refType string, goType reflect.Type, kind string) bool {
	if refType == kind || goType.Name() == kind || kind == "ManagedObject" {
		return true
	}
	field, ok := goType.FieldByName(kind)
	return ok && field.Anonymous
}

func object(ctx *simulator.Context, ref types.ManagedObjectReference) mo.Reference {
	var obj mo.Reference
	if ctx.Session != nil && ref.Type == "ViewManager" {
		return &mo.ViewManager{Self: ref, ViewList: viewsOf(ctx)}
	}
	if ctx.Session != nil {
		obj = ctx.Session.Get(ref)
	} else {
		obj = ctx.Map.Get(ref)
	}
	if wrapped, ok := obj.(interface{ Get() mo.Reference }); ok {
		return wrapped.Get()
	}
	return obj
}

// viewsOf is the views of a session, which are all that its ViewManager lists.
func viewsOf(ctx *simulator.Context) (list []types.ManagedObjectReference) {
	for _, kind := range []string{"ContainerView", "ListView", "InventoryView"} {
		for _, view := range ctx.Session.AllReference(kind) {
			list = append(list, view.Reference())
		}
	}
	slices.SortFunc(list, func(a, b types.ManagedObjectReference) int { return strings.Compare(a.Value, b.Value) })
	return list
}

// managed finds the API's own type (of govmomi's package mo) in an object: the library wraps it.
func managed(obj mo.Reference) reflect.Value {
	value := reflect.ValueOf(obj)
	for {
		for value.Kind() == reflect.Pointer || value.Kind() == reflect.Interface {
			value = value.Elem()
		}
		if value.Kind() != reflect.Struct || path.Base(value.Type().PkgPath()) == "mo" {
			return value
		}
		if value.NumField() == 0 {
			return reflect.Value{}
		}
		value = value.Field(0)
	}
}

// references reads a property that holds references.
func references(value reflect.Value, property string) []types.ManagedObjectReference {
	for name := range strings.SplitSeq(property, ".") {
		for value.Kind() == reflect.Pointer || value.Kind() == reflect.Interface {
			if value.IsNil() {
				return nil
			}
			value = value.Elem()
		}
		if value.Kind() != reflect.Struct || name == "" {
			return nil
		}
		if value = value.FieldByName(strings.ToUpper(name[:1]) + name[1:]); !value.IsValid() {
			return nil
		}
	}
	switch found := value.Interface().(type) {
	case types.ManagedObjectReference:
		return []types.ManagedObjectReference{found}
	case *types.ManagedObjectReference:
		if found != nil {
			return []types.ManagedObjectReference{*found}
		}
	case []types.ManagedObjectReference:
		return append([]types.ManagedObjectReference(nil), found...)
	}
	return nil
}

func isTrue(flag *bool) bool { return flag != nil && *flag }
