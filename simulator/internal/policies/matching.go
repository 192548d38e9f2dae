// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"github.com/vmware/govmomi/pbm/methods"
	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// placement is PbmPlacementSolver.
func (f *feature) placement(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *pbm.PbmQueryMatchingHub, _ core.Next) soap.HasFault {
		own := core.NewContext(ctx)
		matches, fault := f.matcher(req.Profile.UniqueId)
		if fault != nil {
			return core.Fault(fault)
		}
		res := new(pbm.PbmQueryMatchingHubResponse)
		for _, hub := range hubs(own, req.HubsToSearch) {
			if hubMatches(own, hub, matches) {
				res.Returnval = append(res.Returnval, hub)
			}
		}
		return &methods.PbmQueryMatchingHubBody{Res: res}
	})
	core.Override(s, func(ctx *simulator.Context, req *pbm.PbmCheckCompatibility, _ core.Next) soap.HasFault {
		results, fault := f.compatibility(core.NewContext(ctx), req.HubsToSearch, []string{req.Profile.UniqueId})
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.PbmCheckCompatibilityBody{Res: &pbm.PbmCheckCompatibilityResponse{Returnval: results}}
	})
	core.Override(s, func(ctx *simulator.Context, req *pbm.PbmCheckRequirements, _ core.Next) soap.HasFault {
		var ids []string
		for _, requirement := range req.PlacementSubjectRequirement {
			if profile, ok := requirement.(*pbm.PbmPlacementCapabilityProfileRequirement); ok {
				ids = append(ids, profile.ProfileId.UniqueId)
			}
		}
		results, fault := f.compatibility(core.NewContext(ctx), req.HubsToSearch, ids)
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.PbmCheckRequirementsBody{Res: &pbm.PbmCheckRequirementsResponse{Returnval: results}}
	})
}

type matcher func(*simulator.Datastore) bool

// matcher tells which datastores satisfy a policy. A policy of the table has its list; of the policies that a vCenter comes
// with, those for vSAN, vVols and persistent memory are for such datastores only.
func (f *feature) matcher(id string) (matcher, types.BaseMethodFault) {
	if line := f.table.get(id); line != nil {
		return func(datastore *simulator.Datastore) bool { return line.matches(datastore.Self) }, nil
	}
	profile := f.library(id)
	if profile == nil {
		return nil, &types.InvalidArgument{InvalidProperty: "profile"}
	}
	kind, tags := demands(profile)
	return func(datastore *simulator.Datastore) bool {
		return (kind == "" || kind == datastore.Summary.Type) && tags.satisfied(f, datastore.Self)
	}, nil
}

// demands reads what a profile's constraints ask of a datastore: its type, and tags.
func demands(profile *pbm.PbmCapabilityProfile) (kind string, tags tagDemands) {
	if profile.ResourceType.ResourceType != storage.ResourceType {
		return "", nil
	}
	if profile.SystemCreatedProfileType == string(pbm.PbmSystemCreatedProfileTypeVVolDefaultProfile) {
		return string(types.HostFileSystemVolumeFileSystemTypeVVOL), nil
	}
	constraints, ok := profile.Constraints.(*pbm.PbmCapabilitySubProfileConstraints)
	if !ok {
		return "", nil
	}
	for _, part := range constraints.SubProfiles {
		for _, capability := range part.Capability {
			switch capability.Id.Namespace {
			case "VSAN":
				kind = string(types.HostFileSystemVolumeFileSystemTypeVsan)
			case "PMem":
				kind = string(types.HostFileSystemVolumeFileSystemTypePMEM)
			case tagSpace:
				tags = append(tags, tagDemand(capability))
			}
		}
	}
	return kind, tags
}

// hubs are those that were named, or all there are.
func hubs(ctx *simulator.Context, named []pbm.PbmPlacementHub) []pbm.PbmPlacementHub {
	if len(named) > 0 {
		return named
	}
	var all []pbm.PbmPlacementHub
	for _, datastore := range places.Datastores(ctx, nil) {
		all = append(all, pbm.PbmPlacementHub{HubType: datastore.Self.Type, HubId: datastore.Self.Value})
	}
	for _, pod := range ctx.Map.All("StoragePod") {
		all = append(all, pbm.PbmPlacementHub{HubType: "StoragePod", HubId: core.Ref(pod).Value})
	}
	return all
}

// hubMatches reports whether a datastore, or every datastore of a datastore cluster, satisfies a policy.
func hubMatches(ctx *simulator.Context, hub pbm.PbmPlacementHub, matches matcher) bool {
	switch object := ctx.Map.Get(types.ManagedObjectReference{Type: hub.HubType, Value: hub.HubId}).(type) {
	case *simulator.Datastore:
		return matches(object)
	case *simulator.StoragePod:
		var members []types.ManagedObjectReference
		ctx.WithLock(object, func() { members = append(members, object.ChildEntity...) })
		for _, member := range members {
			if datastore, ok := ctx.Map.Get(member).(*simulator.Datastore); !ok || !matches(datastore) {
				return false
			}
		}
		return len(members) > 0
	}
	return false
}

// compatibility has one result for each hub; that of a hub which does not satisfy all policies holds an error.
func (f *feature) compatibility(ctx *simulator.Context, named []pbm.PbmPlacementHub, ids []string,
) ([]pbm.PbmPlacementCompatibilityResult, types.BaseMethodFault) {
	matchers := make([]matcher, len(ids))
	for i, id := range ids {
		var fault types.BaseMethodFault
		if matchers[i], fault = f.matcher(id); fault != nil {
			return nil, fault
		}
	}
	var results []pbm.PbmPlacementCompatibilityResult
	for _, hub := range hubs(ctx, named) {
		result := pbm.PbmPlacementCompatibilityResult{Hub: hub}
		for _, matches := range matchers {
			if !hubMatches(ctx, hub, matches) {
				result.Error = append(result.Error, types.LocalizedMethodFault{
					Fault:            &pbm.PbmCompatibilityCheckFault{Hub: hub},
					LocalizedMessage: "Datastore does not match current VM policy.",
				})
			}
		}
		results = append(results, result)
	}
	return results, nil
}
