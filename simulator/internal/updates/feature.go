// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/collector"
	"vcenter-sim/internal/control"
	"vcenter-sim/internal/core"
	"vcenter-sim/internal/logins"
)

// Feature reports changes at a cost that does not depend on the size of the inventory.
var Feature = core.Feature{
	Name: "updates",
	Rules: []core.Rule{{Name: "notices", Test: "test_updates.UpdatesTestCase.test_files_and_storage_of_a_machine_change_in_silence",
		Relaxes: "WaitForUpdatesEx also reports changes of properties for which the reference does " +
			"not promise it: `recentTask`, `layoutEx`, `storage`, `summary.storage`, `overallStatus`, `triggeredAlarmState`, " +
			"`ResourcePool.summary` ... (`internal/updates/silent.go`)"}},
	Start: start,
}

func start(s *core.Sim) error {
	e := newEngine(s)
	s.Map().AddHandler(e)
	logins.OnEnd(s, e.sessionEnded)
	core.Override(s, e.onCreateFilter)
	core.Override(s, e.onDestroyCollector)
	core.Override(s, e.onWaitForUpdatesEx)
	core.Override(s, e.onWaitForUpdates)
	core.Override(s, e.onCheckForUpdates)
	core.Override(s, e.onCancel)
	core.Override(s, e.onCreateContainerView)
	core.Override(s, e.onCreateListView)
	core.Override(s, e.onModifyListView)
	core.Override(s, e.onResetListView)
	core.Override(s, e.onDestroyView)
	s.Control.HandleFunc("GET /watching", func(w http.ResponseWriter, _ *http.Request) {
		control.Answer(w, e.watching())
	})
	return nil
}

// watching counts what all sessions together have the vCenter watch.
func (e *engine) watching() map[string]int {
	e.lock.Lock()
	defer e.lock.Unlock()
	filters := 0
	for _, c := range e.collectors {
		filters += len(c.filters)
	}
	return map[string]int{"collectors": len(e.collectors), "filters": filters, "views": len(e.views) + len(e.lists)}
}

// onCreateFilter implements PropertyCollector.CreateFilter.
func (e *engine) onCreateFilter(ctx *simulator.Context, req *types.CreateFilter, _ core.Next) soap.HasFault {
	if fault := collector.Check(e.sim, req.Spec); fault != nil {
		return core.Fault(fault)
	}
	f := &filter{engine: e, collection: e.collection(ctx, req.This), named: make(map[string]*types.TraversalSpec)}
	f.Self.Type = "PropertyFilter"
	f.Spec, f.PartialUpdates = req.Spec, req.PartialUpdates
	for _, start := range f.Spec.ObjectSet {
		if _, value := collector.Managed(ctx, start.Obj); !value.IsValid() && !isTrue(f.Spec.ReportMissingObjectsInResults) {
			return core.Fault(&types.ManagedObjectNotFound{Obj: start.Obj})
		}
		f.learn(start.SelectSet)
	}
	for _, start := range f.Spec.ObjectSet {
		if fault := f.check(start.SelectSet); fault != nil {
			return core.Fault(fault)
		}
	}
	f.noted = newNotes()
	f.restart()
	ctx.Session.Put(f)
	f.collection.add(f)
	if pc, ok := ctx.Session.Get(req.This).(*simulator.PropertyCollector); ok {
		e.lock.Lock()
		pc.Filter = append(slices.Clone(pc.Filter), f.Self)
		e.lock.Unlock()
	}
	return &methods.CreateFilterBody{Res: &types.CreateFilterResponse{Returnval: f.Self}}
}

// onDestroyCollector implements PropertyCollector.DestroyPropertyCollector: its filters go with it.
func (e *engine) onDestroyCollector(
	ctx *simulator.Context, req *types.DestroyPropertyCollector, next core.Next,
) soap.HasFault {
	c := e.collection(ctx, req.This)
	c.engine.lock.Lock()
	filters := slices.Clone(c.filters)
	c.engine.lock.Unlock()
	c.close(&types.RequestCanceled{})
	for _, f := range filters {
		ctx.Session.Remove(ctx, f.Self)
	}
	if pc, ok := ctx.Session.Get(req.This).(*simulator.PropertyCollector); ok {
		pc.Filter = nil // the library knows its own filters only
	}
	return next()
}

// onWaitForUpdatesEx implements PropertyCollector.WaitForUpdatesEx.
func (e *engine) onWaitForUpdatesEx(ctx *simulator.Context, req *types.WaitForUpdatesEx, _ core.Next) soap.HasFault {
	limit, most := time.Duration(0), maxObjectUpdates
	if options := req.Options; options != nil {
		if seconds := options.MaxWaitSeconds; seconds != nil {
			if limit = time.Duration(*seconds) * time.Second; *seconds < 0 {
				return core.Fault(&types.InvalidArgument{InvalidProperty: "options.maxWaitSeconds"})
			} else if *seconds == 0 {
				limit = -1
			}
		}
		if options.MaxObjectUpdates < 0 {
			return core.Fault(&types.InvalidArgument{InvalidProperty: "options.maxObjectUpdates"})
		} else if options.MaxObjectUpdates > 0 {
			most = min(most, int(options.MaxObjectUpdates))
		}
	}
	set, err := e.collection(ctx, req.This).wait(ctx, req.Version, limit, most)
	if err != nil {
		return core.Fault(err.(fault).BaseMethodFault)
	}
	return &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{Returnval: set}}
}

// onWaitForUpdates implements PropertyCollector.WaitForUpdates, which knows no limits.
func (e *engine) onWaitForUpdates(ctx *simulator.Context, req *types.WaitForUpdates, _ core.Next) soap.HasFault {
	set, err := e.collection(ctx, req.This).wait(ctx, req.Version, 0, -1)
	if err != nil {
		return core.Fault(err.(fault).BaseMethodFault)
	}
	if set == nil { // the client is gone
		set = &types.UpdateSet{Version: req.Version}
	}
	return &methods.WaitForUpdatesBody{Res: &types.WaitForUpdatesResponse{Returnval: *set}}
}

// onCheckForUpdates implements PropertyCollector.CheckForUpdates.
func (e *engine) onCheckForUpdates(ctx *simulator.Context, req *types.CheckForUpdates, _ core.Next) soap.HasFault {
	set, err := e.collection(ctx, req.This).wait(ctx, req.Version, -1, -1)
	if err != nil {
		return core.Fault(err.(fault).BaseMethodFault)
	}
	return &methods.CheckForUpdatesBody{Res: &types.CheckForUpdatesResponse{Returnval: set}}
}

// onCancel implements PropertyCollector.CancelWaitForUpdates.
func (e *engine) onCancel(ctx *simulator.Context, req *types.CancelWaitForUpdates, _ core.Next) soap.HasFault {
	e.collection(ctx, req.This).cancel()
	return &methods.CancelWaitForUpdatesBody{Res: &types.CancelWaitForUpdatesResponse{}}
}

func (e *engine) onCreateContainerView(ctx *simulator.Context, req *types.CreateContainerView, _ core.Next) soap.HasFault {
	view, fault := e.createContainerView(ctx, req)
	if fault != nil {
		return core.Fault(fault)
	}
	return &methods.CreateContainerViewBody{Res: &types.CreateContainerViewResponse{Returnval: view.Self}}
}

// sessionEnded ends all that a session has left behind.
func (e *engine) sessionEnded(key string) {
	e.lock.Lock()
	var left []*collection
	for k, c := range e.collectors {
		if k.session == key {
			left = append(left, c)
		}
	}
	for self, v := range e.views {
		if v.session == key {
			delete(e.views, self)
		}
	}
	maps.DeleteFunc(e.lists, func(_ ref, l *list) bool { return l.session == key })
	e.lock.Unlock()
	for _, c := range left {
		c.close(&types.NotAuthenticated{NoPermission: types.NoPermission{Object: &c.key.obj, PrivilegeId: "System.View"}})
	}
}
