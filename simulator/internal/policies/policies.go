// SPDX-License-Identifier: Apache-2.0

// Package policies has the storage policy API answer from a table: policy -> datastores that satisfy it.
package policies

import (
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"

	pbmpath "github.com/vmware/govmomi/pbm"
	"github.com/vmware/govmomi/pbm/methods"
	pbmsim "github.com/vmware/govmomi/pbm/simulator"
	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/reply"
)

var storage = pbm.PbmProfileResourceType{ResourceType: string(pbm.PbmProfileResourceTypeEnumSTORAGE)}

// Feature is the storage policies, their matching, their association with virtual machines and disks, and their compliance;
// the flag -policy and the control endpoint /policies fill the table.
var Feature = core.Feature{Name: "storage policies", Flags: flags, Start: start}

// wanted are the values of -policy.
var wanted []string

func flags(set *flag.FlagSet) {
	set.Func("policy", "make a storage policy that datastores satisfy, as `NAME=DATASTORE,...` or NAME=*; repeatable",
		func(text string) error {
			if name, _, ok := strings.Cut(text, "="); !ok || strings.TrimSpace(name) == "" {
				return fmt.Errorf("give NAME=DATASTORE,... as gold=LocalDS_0,LocalDS_1, or NAME=* for all datastores")
			}
			wanted = append(wanted, text)
			return nil
		})
}

type feature struct {
	sim          *core.Sim
	table        *table
	associations *associations
	created      map[string]bool // the ids that PbmCreate gave; under the table's lock
}

func start(s *core.Sim) error {
	f := &feature{
		sim:   s,
		table: &table{policies: make(map[string]*policy)}, created: make(map[string]bool),
		associations: &associations{
			Folder: mo.Folder{ManagedEntity: mo.ManagedEntity{ExtensibleManagedObject: mo.ExtensibleManagedObject{
				Self: types.ManagedObjectReference{Type: "PolicyAssociations", Value: "associations"}}}},
			known:   make(map[entity]string),
			pending: make(map[types.ManagedObjectReference]func(*simulator.Context, types.AnyType)),
		},
	}
	f.keep(s)
	if s.Settings.Restored {
		wanted = nil
	}
	for _, text := range wanted {
		name, datastores, _ := strings.Cut(text, "=")
		if _, err := f.table.set(s.Context(), name, split(datastores)); err != nil {
			return fmt.Errorf("-policy: %w", err)
		}
	}
	if registry := f.registry(); registry != nil {
		registry.Put(&complianceManager{types.ManagedObjectReference{Type: "PbmComplianceManager", Value: "complianceManager"}})
	}
	// A vCenter serves the API at both paths; oslo.vmware takes the short one, VMware's own SDKs the other.
	s.Front.HandleFunc(pbmpath.Path+"/sdk", func(w http.ResponseWriter, r *http.Request) {
		short := r.Clone(r.Context())
		short.URL.Path = pbmpath.Path
		s.Model.Service.ServeMux.ServeHTTP(w, short)
	})
	s.Map().AddHandler(f.associations)
	f.associations.listen(s)
	f.profiles(s)
	f.remember(s)
	f.associated(s)
	f.placement(s)
	f.compliance(s)
	f.rollup(s)
	f.control(s)
	return nil
}

func split(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (f *feature) registry() *simulator.Registry {
	return f.sim.Model.Service.Context.For(pbmpath.Path).Map
}

var profileManager = types.ManagedObjectReference{Type: "PbmProfileProfileManager", Value: "ProfileManager"}

// library finds one of the policies that a vCenter comes with, or that a client made with PbmCreate.
func (f *feature) library(id string) *pbm.PbmCapabilityProfile {
	manager, ok := f.registry().Get(profileManager).(*pbmsim.ProfileManager)
	if !ok {
		return nil
	}
	var body soap.HasFault
	f.registry().WithLock(f.sim.Context(), profileManager, func() {
		body = manager.PbmRetrieveContent(&pbm.PbmRetrieveContent{ProfileIds: []pbm.PbmProfileId{{UniqueId: id}}})
	})
	answer, ok := body.(*methods.PbmRetrieveContentBody)
	if !ok || answer.Res == nil || len(answer.Res.Returnval) == 0 {
		return nil
	}
	if base, ok := answer.Res.Returnval[0].(pbm.BasePbmCapabilityProfile); ok {
		return base.GetPbmCapabilityProfile()
	}
	return nil
}

// profiles is PbmProfileProfileManager.PbmQueryProfile, PbmRetrieveContent and PbmDelete, with the table's policies too.
func (f *feature) profiles(s *core.Sim) {
	core.Override(s, func(_ *simulator.Context, req *pbm.PbmQueryProfile, next core.Next) soap.HasFault {
		body, ok := next().(*methods.PbmQueryProfileBody)
		requirement := req.ProfileCategory == "" ||
			req.ProfileCategory == string(pbm.PbmProfileCategoryEnumREQUIREMENT)
		if ok && body.Res != nil && requirement && req.ResourceType == storage {
			for _, line := range f.table.list() {
				body.Res.Returnval = append(body.Res.Returnval, pbm.PbmProfileId{UniqueId: line.id})
			}
		}
		return body
	})
	core.Override(s, func(_ *simulator.Context, req *pbm.PbmRetrieveContent, next core.Next) soap.HasFault {
		all := req.ProfileIds
		others := slices.DeleteFunc(slices.Clone(all), func(id pbm.PbmProfileId) bool {
			return f.table.get(id.UniqueId) != nil
		})
		var rest []pbm.BasePbmProfile
		if len(others) > 0 || len(all) == 0 {
			req.ProfileIds = others
			body, ok := next().(*methods.PbmRetrieveContentBody)
			if !ok || body.Res == nil {
				return body
			}
			rest = body.Res.Returnval
		}
		res := new(pbm.PbmRetrieveContentResponse)
		for _, id := range all {
			if line := f.table.get(id.UniqueId); line != nil {
				res.Returnval = append(res.Returnval, line.content())
			} else {
				res.Returnval, rest = append(res.Returnval, rest[0]), rest[1:]
			}
		}
		return &methods.PbmRetrieveContentBody{Res: res}
	})
	core.Override(s, func(_ *simulator.Context, req *pbm.PbmDelete, next core.Next) soap.HasFault {
		for _, id := range req.ProfileId {
			f.table.remove(id.UniqueId)
			f.table.Lock()
			delete(f.created, id.UniqueId)
			f.table.Unlock()
		}
		return next()
	})
}

// associated is PbmProfileProfileManager.PbmQueryAssociatedProfile, -Profiles, -Entity and -Entities.
func (f *feature) associated(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, req *pbm.PbmQueryAssociatedProfile, _ core.Next) soap.HasFault {
		ids, fault := f.profilesOf(core.NewContext(ctx), req.Entity)
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.PbmQueryAssociatedProfileBody{Res: &pbm.PbmQueryAssociatedProfileResponse{Returnval: ids}}
	})
	core.Override(s, func(ctx *simulator.Context, req *pbm.PbmQueryAssociatedProfiles, _ core.Next) soap.HasFault {
		res := new(pbm.PbmQueryAssociatedProfilesResponse)
		for _, ref := range req.Entities {
			result := pbm.PbmQueryProfileResult{Object: ref}
			var fault types.BaseMethodFault
			if result.ProfileId, fault = f.profilesOf(core.NewContext(ctx), ref); fault != nil {
				result.Fault = &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: core.Message(fault)}
			}
			res.Returnval = append(res.Returnval, result)
		}
		return &methods.PbmQueryAssociatedProfilesBody{Res: res}
	})
	core.Override(s, func(_ *simulator.Context, req *pbm.PbmQueryAssociatedEntity, _ core.Next) soap.HasFault {
		res := new(pbm.PbmQueryAssociatedEntityResponse)
		for _, e := range f.associations.entities(req.Profile.UniqueId) {
			if req.EntityType == "" || req.EntityType == e.kind {
				res.Returnval = append(res.Returnval, pbm.PbmServerObjectRef{ObjectType: e.kind, Key: e.key})
			}
		}
		return &methods.PbmQueryAssociatedEntityBody{Res: res}
	})
	core.Override(s, func(_ *simulator.Context, req *pbm.PbmQueryAssociatedEntities, _ core.Next) soap.HasFault {
		res := new(pbm.PbmQueryAssociatedEntitiesResponse)
		for _, id := range req.Profiles {
			for _, e := range f.associations.entities(id.UniqueId) {
				res.Returnval = append(res.Returnval, pbm.PbmQueryProfileResult{
					Object: pbm.PbmServerObjectRef{ObjectType: e.kind, Key: e.key}, ProfileId: []pbm.PbmProfileId{id}})
			}
		}
		return &methods.PbmQueryAssociatedEntitiesBody{Res: res}
	})
}

func (f *feature) profilesOf(ctx *simulator.Context, ref pbm.PbmServerObjectRef,
) ([]pbm.PbmProfileId, types.BaseMethodFault) {
	entities, fault := expand(ctx, []pbm.PbmServerObjectRef{ref})
	if fault != nil {
		return nil, fault
	}
	var ids []pbm.PbmProfileId
	for _, e := range entities {
		if id := f.associations.profile(e); id != "" && !slices.Contains(ids, pbm.PbmProfileId{UniqueId: id}) {
			ids = append(ids, pbm.PbmProfileId{UniqueId: id})
		}
	}
	return ids, nil
}

// control fills the table.
//
//	GET    /policies                                            [{"name": ..., "id": ..., "datastores": [...]}]
//	POST   /policies {"name": NAME, "datastores": [NAME, ...]}  makes one, or gives it other datastores; "*" is all of them
//	DELETE /policies?name=NAME
func (f *feature) control(s *core.Sim) {
	type line struct {
		Name       string   `json:"name"`
		ID         string   `json:"id"`
		Datastores []string `json:"datastores"`
	}
	s.Control.HandleFunc("GET /policies", func(w http.ResponseWriter, _ *http.Request) {
		lines := []line{}
		for _, p := range f.table.list() {
			lines = append(lines, line{p.name, p.id, f.datastoresOf(p)})
		}
		reply.Result(w, lines, nil)
	})
	s.Control.HandleFunc("POST /policies", func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Name       string
			Datastores []string
		}
		if reply.Read(w, r, &request) {
			id, err := f.table.set(s.Context(), request.Name, request.Datastores)
			reply.Result(w, map[string]string{"id": id}, err)
		}
	})
	s.Control.HandleFunc("DELETE /policies", func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("name")
		for _, p := range f.table.list() {
			if p.name == name {
				f.table.remove(p.id)
				reply.Result(w, nil, nil)
				return
			}
		}
		reply.Result(w, nil, fmt.Errorf("there is no policy %q", name))
	})
}

func (f *feature) datastoresOf(p *policy) []string {
	if p.all {
		return []string{everywhere}
	}
	list := []string{}
	for _, datastore := range places.Datastores(f.sim.Context(), nil) {
		if p.datastores[datastore.Self] {
			list = append(list, places.Name(datastore))
		}
	}
	return list
}
