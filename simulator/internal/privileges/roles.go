// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"maps"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// The ids of a vCenter's own roles.
const (
	administrator  int32 = -1
	viewOnly       int32 = -3
	notLoggedIn    int32 = -4
	noAccess       int32 = -5
	firstOfClients int32 = 101
)

// role is a set of privileges under a name.
type role struct {
	id      int32
	name    string
	system  bool
	info    types.BaseDescription
	granted map[string]bool
}

// visibility is what a user may do with an object that lies above one of its own.
var visibility = &role{id: viewOnly, name: "View", granted: map[string]bool{anonymous: true, view: true}}

func (r *role) has(privilege string) bool {
	return r.id == administrator || r.granted[privilege]
}

func (r *role) privileges() []string {
	if r.id == administrator {
		return known
	}
	return slices.Sorted(maps.Keys(r.granted))
}

// known are all privileges: those that the reference names, and those that the library's administrator has.
var known = func() []string {
	all := slices.Clone(reference.privileges)
	for _, r := range esx.RoleList {
		all = append(all, r.Privilege...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}()

func isKnown(privilege string) bool {
	_, found := slices.BinarySearch(known, privilege)
	return found
}

func systemRoles() []*role {
	var list []*role
	for _, r := range esx.RoleList {
		made := &role{id: r.RoleId, name: r.Name, system: true, info: r.Info, granted: make(map[string]bool)}
		for _, privilege := range r.Privilege {
			made.granted[privilege] = true
		}
		list = append(list, made)
	}
	return list
}

// role finds a role by its id; one that is gone grants nothing. The caller holds the lock.
func (j *judge) role(id int32) *role {
	for _, r := range j.roles {
		if r.id == id {
			return r
		}
	}
	return &role{id: noAccess}
}

func (j *judge) exists(id int32) bool {
	return slices.ContainsFunc(j.roles, func(r *role) bool { return r.id == id })
}

func (j *judge) roleNamed(name string) *role {
	for _, r := range j.roles {
		if r.name == name {
			return r
		}
	}
	return nil
}

// add makes a role of a client's. Such a role always has the three System privileges. The caller holds the lock.
func (j *judge) add(name string, privileges []string) *role {
	r := &role{id: firstOfClients, name: name, info: &types.Description{Label: name, Summary: name}}
	for _, other := range j.roles {
		r.id = max(r.id, other.id+1)
	}
	r.grant(privileges)
	j.roles = append(j.roles, r)
	return r
}

func (r *role) grant(privileges []string) {
	r.granted = map[string]bool{anonymous: true, view: true, read: true}
	for _, privilege := range privileges {
		r.granted[privilege] = true
	}
}

// publish sets AuthorizationManager.roleList and privilegeList.
func (j *judge) publish(ctx *simulator.Context) {
	j.lock.RLock()
	list := make([]types.AuthorizationRole, 0, len(j.roles))
	for _, r := range j.roles {
		list = append(list, types.AuthorizationRole{
			RoleId: r.id, System: r.system, Name: r.name, Info: r.info, Privilege: r.privileges()})
	}
	j.lock.RUnlock()
	manager := ctx.Map.Get(j.manager)
	ctx.Map.AtomicUpdate(ctx, manager, []types.PropertyChange{{Name: "roleList", Val: list}})
}

func (j *judge) addRole(ctx *simulator.Context, req *types.AddAuthorizationRole, _ core.Next) soap.HasFault {
	if fault := j.mayGrant(ctx, req.PrivIds); fault != nil {
		return core.Fault(fault)
	}
	j.lock.Lock()
	var fault types.BaseMethodFault
	var made *role
	switch {
	case req.Name == "":
		fault = &types.InvalidName{Name: req.Name}
	case j.roleNamed(req.Name) != nil:
		fault = &types.AlreadyExists{Name: req.Name}
	case slices.ContainsFunc(req.PrivIds, func(id string) bool { return !isKnown(id) }):
		fault = &types.InvalidArgument{InvalidProperty: "privIds"}
	default:
		made = j.add(req.Name, req.PrivIds)
	}
	j.changed()
	if fault != nil {
		return core.Fault(fault)
	}
	j.publish(ctx)
	return &methods.AddAuthorizationRoleBody{Res: &types.AddAuthorizationRoleResponse{Returnval: made.id}}
}

func (j *judge) updateRole(ctx *simulator.Context, req *types.UpdateAuthorizationRole, _ core.Next) soap.HasFault {
	if fault := j.mayGrant(ctx, req.PrivIds); fault != nil {
		return core.Fault(fault)
	}
	j.lock.Lock()
	fault := j.change(req)
	j.changed()
	if fault != nil {
		return core.Fault(fault)
	}
	j.publish(ctx)
	return &methods.UpdateAuthorizationRoleBody{Res: &types.UpdateAuthorizationRoleResponse{}}
}

func (j *judge) change(req *types.UpdateAuthorizationRole) types.BaseMethodFault {
	other := j.roleNamed(req.NewName)
	r := j.role(req.RoleId)
	switch {
	case !j.exists(req.RoleId), slices.ContainsFunc(req.PrivIds, func(id string) bool { return !isKnown(id) }):
		return &types.NotFound{}
	case r.system:
		return &types.InvalidArgument{InvalidProperty: "roleId"}
	case req.NewName == "":
		return &types.InvalidName{Name: req.NewName}
	case other != nil && other != r:
		return &types.AlreadyExists{Name: req.NewName}
	}
	changed := *r
	changed.name, changed.info = req.NewName, &types.Description{Label: req.NewName, Summary: req.NewName}
	if len(req.PrivIds) > 0 {
		changed.grant(req.PrivIds)
	}
	j.roles[slices.Index(j.roles, r)] = &changed
	return nil
}

func (j *judge) removeRole(ctx *simulator.Context, req *types.RemoveAuthorizationRole, _ core.Next) soap.HasFault {
	j.lock.Lock()
	var fault types.BaseMethodFault
	r := j.role(req.RoleId)
	used := j.uses(req.RoleId)
	switch {
	case !j.exists(req.RoleId):
		fault = &types.NotFound{}
	case r.system:
		fault = &types.InvalidArgument{InvalidProperty: "roleId"}
	case req.FailIfUsed && used:
		fault = &types.RemoveFailed{}
	default:
		j.roles = slices.DeleteFunc(j.roles, func(each *role) bool { return each == r })
		j.drop(func(_ ref, p types.Permission) bool { return p.RoleId == r.id })
	}
	j.changed()
	if fault != nil {
		return core.Fault(fault)
	}
	j.publish(ctx)
	return &methods.RemoveAuthorizationRoleBody{Res: &types.RemoveAuthorizationRoleResponse{}}
}

func (j *judge) uses(id int32) bool {
	for _, permissions := range j.permissions {
		if slices.ContainsFunc(permissions, func(p types.Permission) bool { return p.RoleId == id }) {
			return true
		}
	}
	return false
}

// mayGrant refuses to let a user hand out privileges that it does not have itself.
func (j *judge) mayGrant(ctx *simulator.Context, privileges []string) types.BaseMethodFault {
	if !asks(ctx) {
		return nil
	}
	var missing []demand
	for _, privilege := range privileges {
		if isKnown(privilege) && !j.has(ctx.Session.UserName, j.root(), privilege) {
			missing = append(missing, demand{j.root(), privilege})
		}
	}
	if missing == nil {
		return nil
	}
	return j.fault(missing)
}
