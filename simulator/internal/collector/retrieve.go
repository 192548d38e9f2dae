// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature has RetrievePropertiesEx follow traversals as documented, and its pages hold no property without a value.
var Feature = core.Feature{Name: "property collector", Start: start}

func start(s *core.Sim) error {
	mendFetch(s)
	core.Override(s, func(ctx *simulator.Context, req *types.RetrievePropertiesEx, next core.Next) soap.HasFault {
		if fault := flatten(ctx, req.SpecSet); fault != nil {
			return core.Fault(fault)
		}
		return next()
	})
	core.Override(s, func(ctx *simulator.Context, req *types.RetrieveProperties, next core.Next) soap.HasFault {
		if fault := flatten(ctx, req.SpecSet); fault != nil {
			return core.Fault(fault)
		}
		return next()
	})
	core.Override(s, func(_ *simulator.Context, _ *types.ContinueRetrievePropertiesEx, next core.Next) soap.HasFault {
		answer := next()
		if body, ok := answer.(*methods.ContinueRetrievePropertiesExBody); ok && body.Res != nil {
			for i := range body.Res.Returnval.Objects {
				dropEmpty(&body.Res.Returnval.Objects[i])
			}
		}
		return answer
	})
	core.Override(s, func(_ *simulator.Context, req *types.CreateFilter, next core.Next) soap.HasFault {
		for i := range req.Spec.ObjectSet {
			req.Spec.ObjectSet[i].SelectSet = finite(req.Spec.ObjectSet[i].SelectSet)
		}
		return next()
	})
	return nil
}

// flatten puts the objects that are selected in place of the instructions to find them.
func flatten(ctx *simulator.Context, set []types.PropertyFilterSpec) types.BaseMethodFault {
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
			refs, fault := Select(ctx, start)
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

// finite drops, for filters, which the library traverses by itself, what sends it round in circles: it takes a virtual
// machine's resourcePool for a resource pool's.
func finite(set []types.BaseSelectionSpec) []types.BaseSelectionSpec {
	for _, selection := range set {
		if traversal, ok := selection.(*types.TraversalSpec); ok {
			if traversal.Type == "ResourcePool" && traversal.Path == "vm" {
				traversal.SelectSet = nil
			}
			traversal.SelectSet = finite(traversal.SelectSet)
		}
	}
	return set
}

func dropEmpty(content *types.ObjectContent) {
	kept := content.PropSet[:0]
	for _, property := range content.PropSet {
		if property.Val != nil {
			kept = append(kept, property)
		}
	}
	content.PropSet = kept
}
