// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/collector"
	"vcenter-sim/internal/core"
)

// list is what the engine knows about a ListView. The engine's lock guards it.
type list struct {
	session string
	members map[ref]bool
}

// onModifyListView implements ListView.ModifyListView: what is not there is answered and not taken in, and nothing is in a
// view twice. It costs what is added; only a removal goes through the whole list.
func (e *engine) onModifyListView(ctx *simulator.Context, req *types.ModifyListView, next core.Next) soap.HasFault {
	view, ok := ctx.Session.Get(req.This).(*simulator.ListView)
	if !ok {
		return next()
	}
	return &methods.ModifyListViewBody{Res: &types.ModifyListViewResponse{Returnval: e.changeList(ctx, view, req.Remove, req.Add)}}
}

// onResetListView implements ListView.ResetListView.
func (e *engine) onResetListView(ctx *simulator.Context, req *types.ResetListView, next core.Next) soap.HasFault {
	view, ok := ctx.Session.Get(req.This).(*simulator.ListView)
	if !ok {
		return next()
	}
	return &methods.ResetListViewBody{Res: &types.ResetListViewResponse{Returnval: e.changeList(ctx, view, view.View, req.Obj)}}
}

// changeList takes objects out of a view, then others in, and returns those of them that could not be found. The view is locked.
func (e *engine) changeList(ctx *simulator.Context, view *simulator.ListView, remove, add []ref) []ref {
	var found, unresolved []ref
	for _, obj := range add {
		if _, value := collector.Managed(ctx, obj); value.IsValid() {
			found = append(found, obj)
		} else {
			unresolved = append(unresolved, obj)
		}
	}
	e.lock.Lock()
	defer e.lock.Unlock()
	known := e.lists[view.Self]
	if known == nil { // its session has just ended
		return unresolved
	}
	changed := make([]ref, 0, len(remove)+len(found))
	for _, obj := range remove {
		if known.members[obj] {
			delete(known.members, obj)
			changed = append(changed, obj)
		}
	}
	if len(changed) > 0 { // a new list: the old one may be on its way to a client
		view.View = slices.DeleteFunc(slices.Clone(view.View), func(obj ref) bool { return !known.members[obj] })
	}
	for _, obj := range found {
		if !known.members[obj] {
			known.members[obj] = true
			view.View = append(view.View, obj)
			changed = append(changed, obj)
		}
	}
	e.listed(view.Self, changed)
	return unresolved
}

// onCreateListView notes whose a list view is, and what is in it.
func (e *engine) onCreateListView(ctx *simulator.Context, _ *types.CreateListView, next core.Next) soap.HasFault {
	answer := next()
	made, ok := answer.(*methods.CreateListViewBody)
	if !ok || made.Res == nil {
		return answer
	}
	known := &list{session: ctx.Session.Key, members: make(map[ref]bool)}
	if view, ok := ctx.Session.Get(made.Res.Returnval).(*simulator.ListView); ok {
		for _, obj := range view.View {
			known.members[obj] = true
		}
	}
	e.lock.Lock()
	e.lists[made.Res.Returnval] = known
	e.lock.Unlock()
	return answer
}

// onDestroyView has the objects of a list view leave the filters that look at them through it.
func (e *engine) onDestroyView(ctx *simulator.Context, req *types.DestroyView, next core.Next) soap.HasFault {
	answer := next()
	if _, gone := ctx.Session.Get(req.This).(*simulator.ListView); !gone && answer.Fault() == nil {
		e.lock.Lock()
		delete(e.lists, req.This)
		e.lock.Unlock()
		e.RemoveObject(ctx, req.This)
	}
	return answer
}
