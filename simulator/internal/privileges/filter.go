// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"reflect"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// reader is the user of one call, as far as reading goes. Its answers are kept for the call.
type reader struct {
	ctx   *simulator.Context
	judge *judge // nil for one who may read everything
	user  string
	known map[demand]bool
	noted map[use]bool
}

func newReader(ctx *simulator.Context) *reader {
	r := &reader{ctx: ctx, known: make(map[demand]bool), noted: make(map[use]bool)}
	if j := in(ctx); j != nil && !j.unlimited(ctx.Session.UserName) {
		r.judge, r.user = j, ctx.Session.UserName
	}
	return r
}

// ownTypes are objects that only the session that made them can name.
var ownTypes = map[string]bool{
	"ContainerView": true, "ListView": true, "InventoryView": true, "PropertyFilter": true, "PropertyCollector": true,
	"HttpNfcLease": true, "TaskHistoryCollector": true, "EventHistoryCollector": true,
}

func (r *reader) own(object ref) bool {
	if ownTypes[object.Type] {
		return true
	}
	task, ok := r.ctx.Map.Get(object).(*simulator.Task)
	return ok && owns(r.ctx, task)
}

func (r *reader) may(object ref, privilege string) bool {
	if r.judge == nil || r.own(object) {
		return true
	}
	need := demand{r.judge.subject(r.ctx, object), privilege}
	granted, known := r.known[need]
	if !known {
		granted = r.judge.has(r.user, need.object, privilege)
		r.known[need] = granted
	}
	return granted
}

func (r *reader) visible(object ref) bool { return r.may(object, view) }

func (r *reader) property(object ref, path string) *types.NoPermission {
	if r.judge == nil {
		return nil
	}
	privilege := reference.property(object.Type, path)
	granted := r.may(object, privilege)
	r.note(object, path, privilege, granted)
	if granted {
		return nil
	}
	return r.judge.fault([]demand{{r.judge.subject(r.ctx, object), privilege}})
}

// note remembers each property that was read once for a call.
func (r *reader) note(object ref, path, privilege string, granted bool) {
	made := use{User: r.user, Method: "read", Privilege: privilege, Object: object.Type, Property: path}
	if r.own(object) || granted && r.noted[made] {
		return
	}
	r.noted[made] = true
	r.judge.usage.note(made, granted)
}

// filter takes from an answer the objects that its reader may not see. (Properties that are denied are told as missing by the
// property collector, which asks Property.)
func (j *judge) filter(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
	if !asks(ctx) || j.unlimited(ctx.Session.UserName) {
		return next()
	}
	r := newReader(ctx)
	named := objectsNamed(call)
	answer := next()
	if answer != nil && answer.Fault() == nil {
		r.pass(call, answer, named)
	}
	return answer
}

// pass filters the answers that hold properties, updates or references that were searched for.
func (r *reader) pass(call *core.Call, answer soap.HasFault, named []ref) {
	switch body := answer.(type) {
	case *methods.RetrievePropertiesBody:
		body.Res.Returnval = r.contents(body.Res.Returnval, named)
	case *methods.RetrievePropertiesExBody:
		if body.Res.Returnval != nil {
			body.Res.Returnval.Objects = r.contents(body.Res.Returnval.Objects, named)
		}
	case *methods.ContinueRetrievePropertiesExBody:
		body.Res.Returnval.Objects = r.contents(body.Res.Returnval.Objects, nil)
	case *methods.WaitForUpdatesExBody:
		r.updates(body.Res.Returnval)
	case *methods.WaitForUpdatesBody:
		r.updates(&body.Res.Returnval)
	case *methods.CheckForUpdatesBody:
		r.updates(body.Res.Returnval)
	default:
		if call.This.Type == "SearchIndex" || call.Name == "Fetch" {
			r.found(answer)
		}
	}
}

// objectsNamed are the objects that a retrieval names itself: it is answered for them, also if the user may not see them. They
// are read before others change the request.
func objectsNamed(call *core.Call) (list []ref) {
	var set []types.PropertyFilterSpec
	switch req := call.Body.(type) {
	case *types.RetrieveProperties:
		set = req.SpecSet
	case *types.RetrievePropertiesEx:
		set = req.SpecSet
	}
	for _, spec := range set {
		for _, start := range spec.ObjectSet {
			if start.Skip == nil || !*start.Skip {
				list = append(list, start.Obj)
			}
		}
	}
	return list
}

func (r *reader) contents(list []types.ObjectContent, named []ref) []types.ObjectContent {
	kept := list[:0:0]
	for _, content := range list {
		if !r.visible(content.Obj) && !slices.Contains(named, content.Obj) {
			continue
		}
		content.PropSet = slices.Clone(content.PropSet)
		for i := range content.PropSet {
			content.PropSet[i].Val = r.value(content.PropSet[i].Val)
		}
		kept = append(kept, content)
	}
	return kept
}

// value takes the objects that the user may not see from a list of references.
func (r *reader) value(value types.AnyType) types.AnyType {
	keep := func(list []ref) []ref {
		return slices.DeleteFunc(slices.Clone(list), func(object ref) bool { return !r.visible(object) })
	}
	switch list := value.(type) {
	case types.ArrayOfManagedObjectReference:
		return types.ArrayOfManagedObjectReference{ManagedObjectReference: keep(list.ManagedObjectReference)}
	case *types.ArrayOfManagedObjectReference:
		return &types.ArrayOfManagedObjectReference{ManagedObjectReference: keep(list.ManagedObjectReference)}
	case []ref:
		return keep(list)
	}
	return value
}

func (r *reader) updates(set *types.UpdateSet) {
	if set == nil {
		return
	}
	for i := range set.FilterSet {
		filter := &set.FilterSet[i]
		kept := filter.ObjectSet[:0:0]
		for _, update := range filter.ObjectSet {
			if update.Kind == types.ObjectUpdateKindLeave {
				kept = append(kept, update)
			} else if r.visible(update.Obj) {
				kept = append(kept, r.update(update))
			}
		}
		filter.ObjectSet = kept
	}
}

func (r *reader) update(update types.ObjectUpdate) types.ObjectUpdate {
	update.ChangeSet = slices.Clone(update.ChangeSet)
	for i := range update.ChangeSet {
		update.ChangeSet[i].Val = r.value(update.ChangeSet[i].Val)
	}
	return update
}

// found takes the objects that the user may not see from what SearchIndex found, and from a property that Fetch read.
func (r *reader) found(answer soap.HasFault) {
	res := reflect.ValueOf(answer).Elem().FieldByName("Res")
	if !res.IsValid() || res.IsNil() {
		return
	}
	value := res.Elem().FieldByName("Returnval")
	if !value.IsValid() || value.Kind() == reflect.Interface && value.IsNil() {
		return
	}
	if object, ok := value.Interface().(*ref); ok {
		if object != nil && !r.visible(*object) {
			value.Set(reflect.Zero(value.Type()))
		}
		return
	}
	value.Set(reflect.ValueOf(r.value(value.Interface())))
}
