// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"time"

	"github.com/vmware/govmomi/pbm/methods"
	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// complianceManager is the object that the library names and does not have.
type complianceManager struct{ types.ManagedObjectReference }

// compliance is PbmComplianceManager. What is fetched is as fresh as what is checked.
func (f *feature) compliance(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *pbm.PbmCheckCompliance, _ core.Next) soap.HasFault {
		results, fault := f.check(core.NewContext(ctx), req.Entities, req.Profile)
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.PbmCheckComplianceBody{Res: &pbm.PbmCheckComplianceResponse{Returnval: results}}
	})
	core.Override(s, func(ctx *simulator.Context, req *pbm.PbmFetchComplianceResult, _ core.Next) soap.HasFault {
		results, fault := f.check(core.NewContext(ctx), req.Entities, req.Profile)
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.PbmFetchComplianceResultBody{Res: &pbm.PbmFetchComplianceResultResponse{Returnval: results}}
	})
}

func (f *feature) check(ctx *simulator.Context, refs []pbm.PbmServerObjectRef, profile *pbm.PbmProfileId,
) ([]pbm.PbmComplianceResult, types.BaseMethodFault) {
	entities, fault := expand(ctx, refs)
	if fault != nil {
		return nil, fault
	}
	results := make([]pbm.PbmComplianceResult, 0, len(entities))
	for _, e := range entities {
		id := f.associations.profile(e)
		if profile != nil {
			id = profile.UniqueId
		}
		result, fault := f.checkOne(ctx, e, id)
		if fault != nil {
			return nil, fault
		}
		results = append(results, result)
	}
	return results, nil
}

func (f *feature) checkOne(ctx *simulator.Context, e entity, id string) (pbm.PbmComplianceResult, types.BaseMethodFault) {
	result := pbm.PbmComplianceResult{
		CheckTime: time.Now(), Entity: pbm.PbmServerObjectRef{ObjectType: e.kind, Key: e.key},
		ComplianceTaskStatus: string(pbm.PbmComplianceResultComplianceTaskStatusSuccess),
		ComplianceStatus:     string(pbm.PbmComplianceStatusNotApplicable),
	}
	if id == "" {
		return result, nil
	}
	result.Profile = &pbm.PbmProfileId{UniqueId: id}
	matches, fault := f.matcher(id)
	if fault != nil {
		return result, fault
	}
	result.ComplianceStatus = string(pbm.PbmComplianceStatusCompliant)
	if datastore := home(ctx, e); datastore == nil || !matches(datastore) {
		result.ComplianceStatus = string(pbm.PbmComplianceStatusNonCompliant)
		if line := f.table.get(id); line != nil {
			result.ViolatedPolicies = []pbm.PbmCompliancePolicyStatus{{ExpectedValue: line.content().
				Constraints.(*pbm.PbmCapabilitySubProfileConstraints).SubProfiles[0].Capability[0]}}
		}
	}
	return result, nil
}

// expand turns references into entities that exist: "virtualMachineAndDisks" stands for a machine and each of its disks.
func expand(ctx *simulator.Context, refs []pbm.PbmServerObjectRef) ([]entity, types.BaseMethodFault) {
	var list []entity
	for _, ref := range refs {
		e := entity{ref.ObjectType, ref.Key}
		vm, ok := ctx.Map.Get(e.machine()).(*simulator.VirtualMachine)
		if !ok || e.kind != machineType && e.kind != diskType && e.kind != bothType {
			return nil, &types.InvalidArgument{InvalidProperty: "entity"}
		}
		if e.kind != bothType {
			list = append(list, e)
			continue
		}
		list = append(list, machineEntity(vm.Self))
		ctx.WithLock(vm, func() {
			for _, key := range diskKeys(vm) {
				list = append(list, diskEntity(vm.Self, key))
			}
		})
	}
	return list, nil
}

// home is the datastore on which a machine's configuration, or a disk, lies.
func home(ctx *simulator.Context, e entity) *simulator.Datastore {
	vm, ok := ctx.Map.Get(e.machine()).(*simulator.VirtualMachine)
	if !ok || vm.Config == nil {
		return nil
	}
	var path string
	var disk *types.ManagedObjectReference
	ctx.WithLock(vm, func() {
		path = vm.Config.Files.VmPathName
		for _, device := range vm.Config.Hardware.Device {
			if d, ok := device.(*types.VirtualDisk); ok && diskEntity(vm.Self, d.Key) == e {
				if refs := places.Backings(d); len(refs) > 0 {
					disk = &refs[0]
				}
			}
		}
	})
	if e.kind == machineType {
		return places.DatastoreOf(ctx, vm.Self, path)
	}
	if disk == nil {
		return nil
	}
	datastore, _ := ctx.Map.Get(*disk).(*simulator.Datastore)
	return datastore
}

// rollup is the compliance of virtual machines with all that they have, in one word: the worst.
func (f *feature) rollup(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *pbm.PbmCheckRollupCompliance, _ core.Next) soap.HasFault {
		results, fault := f.rollUp(core.NewContext(ctx), req.Entity)
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.PbmCheckRollupComplianceBody{Res: &pbm.PbmCheckRollupComplianceResponse{Returnval: results}}
	})
	core.Override(s, func(ctx *simulator.Context, req *pbm.PbmFetchRollupComplianceResult, _ core.Next) soap.HasFault {
		results, fault := f.rollUp(core.NewContext(ctx), req.Entity)
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.PbmFetchRollupComplianceResultBody{Res: &pbm.PbmFetchRollupComplianceResultResponse{Returnval: results}}
	})
}

func (f *feature) rollUp(ctx *simulator.Context, refs []pbm.PbmServerObjectRef,
) ([]pbm.PbmRollupComplianceResult, types.BaseMethodFault) {
	var results []pbm.PbmRollupComplianceResult
	for _, ref := range refs {
		whole := ref
		whole.ObjectType = bothType
		parts, fault := f.check(ctx, []pbm.PbmServerObjectRef{whole}, nil)
		if fault != nil {
			return nil, fault
		}
		result := pbm.PbmRollupComplianceResult{
			OldestCheckTime: time.Now(), Entity: ref, Result: parts,
			OverallComplianceTaskStatus: string(pbm.PbmComplianceResultComplianceTaskStatusSuccess),
			OverallComplianceStatus:     string(pbm.PbmComplianceStatusNotApplicable),
		}
		for _, part := range parts {
			switch status := pbm.PbmComplianceStatus(part.ComplianceStatus); {
			case status == pbm.PbmComplianceStatusNonCompliant:
				result.OverallComplianceStatus = string(status)
			case status == pbm.PbmComplianceStatusCompliant &&
				result.OverallComplianceStatus == string(pbm.PbmComplianceStatusNotApplicable):
				result.OverallComplianceStatus = string(status)
			}
		}
		results = append(results, result)
	}
	return results, nil
}
