// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature has the PropertyCollector retrieve as documented: in pages, with traversals by type, and with what the caller may
// not see in missingSet.
var Feature = core.Feature{
	Name: "property collector",
	Rules: []core.Rule{
		{Name: "paging", Test: "test_retrieval.PagesTestCase.test_a_page_holds_100_objects_though_none_was_asked_for",
			Relaxes: "a retrieval without `maxObjects` answers with all objects at once, not with 100 and a token"},
		{Name: "unknown-paths", Test: "test_retrieval.PathsTestCase.test_an_unknown_path_is_refused_at_a_retrieval",
			Relaxes: "a property path, or type, that the API does not have is answered as missing, " +
				"not refused with InvalidProperty or InvalidType"},
		{Name: "lost-session-fault", Test: "test_retrieval.LostSessionTestCase.test_each_path_is_missing_and_says_why",
			Relaxes: "a retrieval without a session is refused with the fault NotAuthenticated, " +
				"not answered with NotAuthenticated in `missingSet`"},
	},
	Start: start,
}

type retriever struct {
	sim   *core.Sim
	pages *book
}

func start(s *core.Sim) error {
	r := &retriever{sim: s, pages: newBook(s)}
	mendFetch(s)
	core.Override(s, r.onRetrievePropertiesEx)
	core.Override(s, r.onRetrieveProperties)
	core.Override(s, r.pages.onContinue)
	core.Override(s, r.pages.onCancel)
	if s.Lenient("lost-session-fault") {
		s.Around(r.refuseWithoutSession)
	}
	return nil
}

func (r *retriever) refuseWithoutSession(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
	if ctx.Session == nil && (call.Name == "RetrieveProperties" || call.Name == "RetrievePropertiesEx") {
		return core.FaultMessage("The session is not authenticated.", r.sim.NoSession(&call.This))
	}
	return next()
}

func (r *retriever) onRetrievePropertiesEx(
	ctx *simulator.Context, req *types.RetrievePropertiesEx, _ core.Next,
) soap.HasFault {
	most, fault := r.pages.size(req.Options.MaxObjects)
	if fault != nil {
		return core.Fault(fault)
	}
	objects, fault := r.retrieve(ctx, req.SpecSet)
	if fault != nil {
		return core.Fault(fault)
	}
	body := &methods.RetrievePropertiesExBody{Res: &types.RetrievePropertiesExResponse{}}
	if len(objects) > 0 { // without any there is no result, as the API says
		body.Res.Returnval = r.pages.cut(ctx, req.This, objects, most)
	}
	return body
}

// onRetrieveProperties implements the older RetrieveProperties, which knows no pages.
func (r *retriever) onRetrieveProperties(
	ctx *simulator.Context, req *types.RetrieveProperties, _ core.Next,
) soap.HasFault {
	objects, fault := r.retrieve(ctx, req.SpecSet)
	if fault != nil {
		return core.Fault(fault)
	}
	return &methods.RetrievePropertiesBody{Res: &types.RetrievePropertiesResponse{Returnval: objects}}
}

// retrieve collects all that a set of filters selects.
func (r *retriever) retrieve(
	ctx *simulator.Context, set []types.PropertyFilterSpec,
) ([]types.ObjectContent, types.BaseMethodFault) {
	if fault := Check(r.sim, set...); fault != nil {
		return nil, fault
	}
	if fault := flatten(ctx, r.sim, set); fault != nil {
		return nil, fault
	}
	return collect(ctx, r.sim, set)
}

// Collect reads properties of objects, without traversals. What the caller may not see is in missingSet.
func Collect(
	ctx *simulator.Context, s *core.Sim, properties []types.PropertySpec, objects ...types.ObjectSpec,
) []types.ObjectContent {
	found, _ := collect(ctx, s, []types.PropertyFilterSpec{{
		PropSet: properties, ObjectSet: objects, ReportMissingObjectsInResults: types.NewBool(true)}})
	return found
}

func collect(
	ctx *simulator.Context, s *core.Sim, set []types.PropertyFilterSpec,
) ([]types.ObjectContent, types.BaseMethodFault) {
	set, unknown := knownPaths(set)
	reader := ctx
	if ctx.Session == nil { // the library would tell of nothing but its own idea of what is hidden
		reader = anonymous(ctx)
	}
	answer := new(simulator.PropertyCollector).RetrievePropertiesEx(reader, &types.RetrievePropertiesEx{SpecSet: set})
	if fault := answer.Fault(); fault != nil {
		if vim, ok := fault.VimFault().(types.BaseMethodFault); ok {
			return nil, vim
		}
		return nil, &types.SystemError{Reason: fault.String}
	}
	objects := answer.(*methods.RetrievePropertiesExBody).Res.Returnval.Objects
	for i := range objects {
		missUnknown(reader, &objects[i], unknown)
		listViews(ctx, &objects[i])
		deny(ctx, s, set, &objects[i])
	}
	return objects, nil
}

// listViews tells of the views of the caller's session: the library's ViewManager lists no view.
func listViews(ctx *simulator.Context, content *types.ObjectContent) {
	if ctx.Session == nil || content.Obj.Type != "ViewManager" {
		return
	}
	for i, property := range content.PropSet {
		if property.Name == "viewList" {
			content.PropSet[i].Val = types.ArrayOfManagedObjectReference{ManagedObjectReference: viewsOf(ctx)}
		}
	}
}

// missUnknown tells of the paths that no property has.
func missUnknown(ctx *simulator.Context, content *types.ObjectContent, unknown []types.PropertySpec) {
	if len(unknown) == 0 {
		return
	}
	_, value := Managed(ctx, content.Obj)
	for _, spec := range unknown {
		if !value.IsValid() || !IsA(content.Obj.Type, value.Type(), spec.Type) {
			continue
		}
		for _, path := range spec.PathSet {
			content.MissingSet = append(content.MissingSet, types.MissingProperty{
				Path: path, Fault: types.LocalizedMethodFault{Fault: &types.InvalidProperty{Name: path}}})
		}
	}
}

// flatten puts the objects that are selected in place of the instructions to find them.
func flatten(ctx *simulator.Context, s *core.Sim, set []types.PropertyFilterSpec) types.BaseMethodFault {
	for i := range set {
		spec := &set[i]
		var objects []types.ObjectSpec
		traversed := false
		for _, start := range spec.ObjectSet {
			if len(start.SelectSet) == 0 {
				objects = append(objects, start)
				continue
			}
			traversed = true
			refs, fault := selected(ctx, s, start)
			if fault != nil {
				if _, gone := fault.(*types.ManagedObjectNotFound); gone && isTrue(spec.ReportMissingObjectsInResults) {
					continue
				}
				return fault
			}
			for _, ref := range refs {
				objects = append(objects, types.ObjectSpec{Obj: ref})
			}
		}
		spec.ObjectSet = objects
		if traversed { // an object that was found and is gone by now is simply not there
			spec.ReportMissingObjectsInResults = types.NewBool(true)
		}
	}
	return nil
}
