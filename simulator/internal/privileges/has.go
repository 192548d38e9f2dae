// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// availability tells which of some privileges a user has on an entity. Of an object that is none, the root folder counts.
func (j *judge) availability(user string, entity ref, ids []string) types.EntityPrivilege {
	if j.entity(entity) == nil {
		entity = j.root()
	}
	answer := types.EntityPrivilege{Entity: entity}
	for _, id := range ids {
		answer.PrivAvailability = append(answer.PrivAvailability,
			types.PrivilegeAvailability{PrivId: id, IsGranted: j.has(user, entity, id)})
	}
	return answer
}

// ask is what the four methods have in common: entities that exist, and privileges that are known.
func (j *judge) ask(ctx *simulator.Context, entities []ref, ids []string) types.BaseMethodFault {
	for _, entity := range entities {
		if ctx.Map.Get(entity) == nil {
			return &types.ManagedObjectNotFound{Obj: entity}
		}
	}
	for _, id := range ids {
		if !isKnown(id) {
			return &types.InvalidArgument{InvalidProperty: "privId"}
		}
	}
	return nil
}

// sessionUser finds the user of a session, by its key: of the caller's own, if it is empty.
func sessionUser(ctx *simulator.Context, key string) (string, types.BaseMethodFault) {
	if key == "" || key == ctx.Session.Key {
		return ctx.Session.UserName, nil
	}
	for _, session := range ctx.Map.SessionManager().SessionList {
		if session.Key == key {
			return session.UserName, nil
		}
	}
	return "", &types.InvalidArgument{InvalidProperty: "sessionId"}
}

func (j *judge) hasOnEntities(ctx *simulator.Context, req *types.HasPrivilegeOnEntities, _ core.Next) soap.HasFault {
	user, fault := sessionUser(ctx, req.SessionId)
	if fault == nil {
		fault = j.ask(ctx, req.Entity, req.PrivId)
	}
	if fault != nil {
		return core.Fault(fault)
	}
	res := &types.HasPrivilegeOnEntitiesResponse{}
	for _, entity := range req.Entity {
		res.Returnval = append(res.Returnval, j.availability(user, entity, req.PrivId))
	}
	return &methods.HasPrivilegeOnEntitiesBody{Res: res}
}

func (j *judge) hasOnEntity(ctx *simulator.Context, req *types.HasPrivilegeOnEntity, _ core.Next) soap.HasFault {
	user, fault := sessionUser(ctx, req.SessionId)
	if fault == nil {
		fault = j.ask(ctx, []ref{req.Entity}, req.PrivId)
	}
	if fault != nil {
		return core.Fault(fault)
	}
	res := &HasPrivilegeOnEntityResponse{}
	for _, id := range req.PrivId {
		res.Returnval = append(res.Returnval, j.has(user, req.Entity, id))
	}
	return &hasPrivilegeBody{Res: res}
}

// HasPrivilegeOnEntityResponse is the API's: the library's leaves out what is false. Its name is the element's.
type HasPrivilegeOnEntityResponse struct {
	Returnval []bool `xml:"returnval"`
}

type hasPrivilegeBody struct {
	Res    *HasPrivilegeOnEntityResponse `xml:"urn:vim25 HasPrivilegeOnEntityResponse,omitempty"`
	Fault_ *soap.Fault                   `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *hasPrivilegeBody) Fault() *soap.Fault { return b.Fault_ }

func (j *judge) userHasOnEntities(
	ctx *simulator.Context, req *types.HasUserPrivilegeOnEntities, _ core.Next,
) soap.HasFault {
	if fault := j.ask(ctx, req.Entities, req.PrivId); fault != nil {
		return core.Fault(fault)
	}
	res := &types.HasUserPrivilegeOnEntitiesResponse{}
	for _, entity := range req.Entities {
		res.Returnval = append(res.Returnval, j.availability(req.UserName, entity, req.PrivId))
	}
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: res}
}

func (j *judge) fetchOnEntities(
	ctx *simulator.Context, req *types.FetchUserPrivilegeOnEntities, _ core.Next,
) soap.HasFault {
	if fault := j.ask(ctx, req.Entities, nil); fault != nil {
		return core.Fault(fault)
	}
	res := &types.FetchUserPrivilegeOnEntitiesResponse{}
	for _, entity := range req.Entities {
		res.Returnval = append(res.Returnval, types.UserPrivilegeResult{
			Entity: entity, Privileges: j.all(req.UserName, j.subject(ctx, entity))})
	}
	return &methods.FetchUserPrivilegeOnEntitiesBody{Res: res}
}
