// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// set makes or replaces one permission. The caller holds the lock.
func (j *judge) set(entity ref, p types.Permission) {
	p.Entity = &entity
	kept := slices.DeleteFunc(j.permissions[entity], func(old types.Permission) bool { return same(old, p) })
	j.permissions[entity] = append(kept, p)
}

// same reports whether two permissions are for the same user or group.
func same(a, b types.Permission) bool {
	return a.Group == b.Group && fold(a.Principal) == fold(b.Principal)
}

// drop removes permissions. The caller holds the lock.
func (j *judge) drop(which func(ref, types.Permission) bool) {
	for entity, list := range j.permissions {
		list = slices.DeleteFunc(list, func(p types.Permission) bool { return which(entity, p) })
		if j.permissions[entity] = list; len(list) == 0 {
			delete(j.permissions, entity)
		}
	}
}

// governed reports whether an administrator would be left at the root folder.
func (j *judge) governed() bool {
	return slices.ContainsFunc(j.permissions[j.root()], func(p types.Permission) bool {
		return p.RoleId == administrator && p.Propagate
	})
}

// try makes a change, and takes it back if no administrator would be left. The caller holds the lock.
func (j *judge) try(entity ref, change func()) types.BaseMethodFault {
	before := slices.Clone(j.permissions[entity])
	change()
	if j.governed() {
		return nil
	}
	j.permissions[entity] = before
	return &types.AuthMinimumAdminPermission{}
}

// definable refuses objects that always have the permissions of their parent.
func (j *judge) definable(entity ref) types.BaseMethodFault {
	if j.entity(entity) == nil {
		return &types.ManagedObjectNotFound{Obj: entity}
	}
	if j.owner(entity) != entity {
		return &types.InvalidArgument{InvalidProperty: "entity"}
	}
	return nil
}

func (j *judge) acceptable(ctx *simulator.Context, p types.Permission) types.BaseMethodFault {
	j.lock.RLock()
	r, exists := j.role(p.RoleId), j.exists(p.RoleId)
	user := j.users[fold(p.Principal)]
	group := slices.ContainsFunc(sortedUsers(j.users), func(u *User) bool { return u.in(p.Principal) })
	j.lock.RUnlock()
	switch {
	case !exists:
		return &types.NotFound{}
	case p.RoleId == viewOnly, p.RoleId == notLoggedIn:
		return &types.InvalidArgument{InvalidProperty: "permission.roleId"}
	case p.Group && !group, !p.Group && user == nil:
		return &types.UserNotFound{Principal: p.Principal, Unresolved: true}
	}
	return j.mayGrant(ctx, r.privileges())
}

func sortedUsers(users map[string]*User) []*User {
	list := make([]*User, 0, len(users))
	for _, user := range users {
		list = append(list, user)
	}
	slices.SortFunc(list, func(a, b *User) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (j *judge) setPermissions(ctx *simulator.Context, req *types.SetEntityPermissions, _ core.Next) soap.HasFault {
	if fault := j.definable(req.Entity); fault != nil {
		return core.Fault(fault)
	}
	for _, p := range req.Permission {
		fault := j.acceptable(ctx, p)
		if fault == nil {
			j.lock.Lock()
			fault = j.try(req.Entity, func() { j.set(req.Entity, p) })
			j.changed()
		}
		if fault != nil {
			return core.Fault(fault)
		}
	}
	return &methods.SetEntityPermissionsBody{Res: &types.SetEntityPermissionsResponse{}}
}

func (j *judge) resetPermissions(ctx *simulator.Context, req *types.ResetEntityPermissions, _ core.Next) soap.HasFault {
	if fault := j.definable(req.Entity); fault != nil {
		return core.Fault(fault)
	}
	for _, p := range req.Permission {
		if fault := j.acceptable(ctx, p); fault != nil {
			return core.Fault(fault)
		}
	}
	j.lock.Lock()
	fault := j.try(req.Entity, func() {
		delete(j.permissions, req.Entity)
		for _, p := range req.Permission {
			j.set(req.Entity, p)
		}
	})
	j.changed()
	if fault != nil {
		return core.Fault(fault)
	}
	return &methods.ResetEntityPermissionsBody{Res: &types.ResetEntityPermissionsResponse{}}
}

func (j *judge) removePermission(_ *simulator.Context, req *types.RemoveEntityPermission, _ core.Next) soap.HasFault {
	if fault := j.definable(req.Entity); fault != nil {
		return core.Fault(fault)
	}
	gone := types.Permission{Principal: req.User, Group: req.IsGroup}
	j.lock.Lock()
	defer j.changed()
	is := func(p types.Permission) bool { return same(p, gone) }
	if !slices.ContainsFunc(j.permissions[req.Entity], is) {
		return core.Fault(&types.NotFound{})
	}
	fault := j.try(req.Entity, func() {
		j.drop(func(entity ref, p types.Permission) bool { return entity == req.Entity && is(p) })
	})
	if fault != nil {
		return core.Fault(fault)
	}
	return &methods.RemoveEntityPermissionBody{Res: &types.RemoveEntityPermissionResponse{}}
}

func (j *judge) mergePermissions(_ *simulator.Context, req *types.MergePermissions, _ core.Next) soap.HasFault {
	j.lock.Lock()
	defer j.changed()
	switch {
	case !j.exists(req.SrcRoleId), !j.exists(req.DstRoleId):
		return core.Fault(&types.NotFound{})
	case req.DstRoleId == viewOnly, req.DstRoleId == notLoggedIn, req.SrcRoleId == req.DstRoleId:
		return core.Fault(&types.InvalidArgument{InvalidProperty: "dstRoleId"})
	case req.SrcRoleId == administrator:
		return core.Fault(&types.AuthMinimumAdminPermission{})
	}
	for _, list := range j.permissions {
		for i := range list {
			if list[i].RoleId == req.SrcRoleId {
				list[i].RoleId = req.DstRoleId
			}
		}
	}
	return &methods.MergePermissionsBody{Res: &types.MergePermissionsResponse{}}
}

// list are the permissions that are chosen, on objects that the caller may see.
func (j *judge) list(ctx *simulator.Context, which func(types.Permission) bool) []types.Permission {
	j.lock.RLock()
	var found []types.Permission
	for _, permissions := range j.permissions {
		for _, p := range permissions {
			if which(p) {
				found = append(found, p)
			}
		}
	}
	j.lock.RUnlock()
	found = slices.DeleteFunc(found, func(p types.Permission) bool { return !Visible(ctx, *p.Entity) })
	slices.SortFunc(found, func(a, b types.Permission) int {
		return strings.Compare(a.Entity.String()+" "+a.Principal, b.Entity.String()+" "+b.Principal)
	})
	return found
}

func (j *judge) retrieveAll(ctx *simulator.Context, _ *types.RetrieveAllPermissions, _ core.Next) soap.HasFault {
	return &methods.RetrieveAllPermissionsBody{Res: &types.RetrieveAllPermissionsResponse{
		Returnval: j.list(ctx, func(types.Permission) bool { return true })}}
}

func (j *judge) retrieveOfRole(ctx *simulator.Context, req *types.RetrieveRolePermissions, _ core.Next) soap.HasFault {
	j.lock.RLock()
	exists := j.exists(req.RoleId)
	j.lock.RUnlock()
	if !exists {
		return core.Fault(&types.NotFound{})
	}
	return &methods.RetrieveRolePermissionsBody{Res: &types.RetrieveRolePermissionsResponse{
		Returnval: j.list(ctx, func(p types.Permission) bool { return p.RoleId == req.RoleId })}}
}

func (j *judge) retrieveOfEntity(
	ctx *simulator.Context, req *types.RetrieveEntityPermissions, _ core.Next,
) soap.HasFault {
	if j.entity(req.Entity) == nil {
		return core.Fault(&types.ManagedObjectNotFound{Obj: req.Entity})
	}
	j.lock.RLock()
	defer j.lock.RUnlock()
	res := &types.RetrieveEntityPermissionsResponse{}
	var above func(object ref, itself bool, depth int)
	above = func(object ref, itself bool, depth int) {
		object = j.owner(object)
		for _, p := range j.permissions[object] {
			if itself || p.Propagate {
				res.Returnval = append(res.Returnval, p)
			}
		}
		if req.Inherited && depth < deepest {
			for _, parent := range j.parents(object) {
				above(parent, false, depth+1)
			}
		}
	}
	above(req.Entity, true, 0)
	return &methods.RetrieveEntityPermissionsBody{Res: res}
}

// forgetter removes the permissions of objects that are destroyed. It is one of the registry's listeners.
type forgetter struct {
	mo.SearchIndex // only its Self is used: the registry knows its listeners by reference
	judge          *judge
}

// PutObject implements simulator.RegisterObject: what is put again has been moved, maybe.
func (f *forgetter) PutObject(_ *simulator.Context, obj mo.Reference) {
	if entity, ok := obj.(mo.Entity); ok && entity.Reference().Type != "VirtualMachine" {
		f.judge.answers.forget()
	}
}

// UpdateObject implements simulator.RegisterObject: an object that is moved inherits other permissions.
func (f *forgetter) UpdateObject(_ *simulator.Context, _ mo.Reference, changes []types.PropertyChange) {
	if slices.ContainsFunc(changes, func(c types.PropertyChange) bool { return c.Name == "parent" || c.Name == "resourcePool" }) {
		f.judge.answers.forget()
	}
}

// RemoveObject implements simulator.RegisterObject.
func (f *forgetter) RemoveObject(_ *simulator.Context, gone types.ManagedObjectReference) {
	if gone.Type == "Task" {
		return
	}
	f.judge.lock.Lock()
	delete(f.judge.permissions, gone)
	f.judge.lock.Unlock()
	f.judge.answers.forget()
}
