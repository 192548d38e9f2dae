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

// onModifyListView implements ListView.ModifyListView: what is not there is answered and not taken in, and nothing is in a
// view twice.
func (e *engine) onModifyListView(ctx *simulator.Context, req *types.ModifyListView, next core.Next) soap.HasFault {
	view, ok := ctx.Session.Get(req.This).(*simulator.ListView)
	if !ok {
		return next()
	}
	list := slices.DeleteFunc(slices.Clone(view.View), func(obj ref) bool { return slices.Contains(req.Remove, obj) })
	return &methods.ModifyListViewBody{Res: &types.ModifyListViewResponse{Returnval: setList(ctx, view, list, req.Add)}}
}

// onResetListView implements ListView.ResetListView.
func (e *engine) onResetListView(ctx *simulator.Context, req *types.ResetListView, next core.Next) soap.HasFault {
	view, ok := ctx.Session.Get(req.This).(*simulator.ListView)
	if !ok {
		return next()
	}
	return &methods.ResetListViewBody{Res: &types.ResetListViewResponse{Returnval: setList(ctx, view, nil, req.Obj)}}
}

// setList gives a view its objects: those of a list and what is to be added. It returns what could not be found.
func setList(ctx *simulator.Context, view *simulator.ListView, list, add []ref) []ref {
	var unresolved []ref
	for _, obj := range add {
		if _, value := collector.Managed(ctx, obj); !value.IsValid() {
			unresolved = append(unresolved, obj)
		} else if !slices.Contains(list, obj) {
			list = append(list, obj)
		}
	}
	ctx.Update(view, []types.PropertyChange{{Name: "view", Val: list}})
	return unresolved
}

// onCreateListView notes whose a list view is.
func (e *engine) onCreateListView(ctx *simulator.Context, _ *types.CreateListView, next core.Next) soap.HasFault {
	answer := next()
	if made, ok := answer.(*methods.CreateListViewBody); ok && made.Res != nil {
		e.lock.Lock()
		e.lists[made.Res.Returnval] = ctx.Session.Key
		e.lock.Unlock()
	}
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
