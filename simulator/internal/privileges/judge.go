// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// The privileges that each role made by a client has.
const (
	anonymous = "System.Anonymous"
	view      = "System.View"
	read      = "System.Read"
)

type ref = types.ManagedObjectReference

// judge knows who may do what on which object.
type judge struct {
	sim     *core.Sim
	manager ref

	lock        sync.RWMutex
	users       map[string]*User // by folded name
	roles       []*role
	permissions map[ref][]types.Permission

	answers answers

	usage *usage
}

var judges sync.Map // *simulator.Registry -> *judge

// of finds the judge of a registry, or nil: then everybody may do everything.
func of(registry *simulator.Registry) *judge {
	if found, ok := judges.Load(registry); ok {
		return found.(*judge)
	}
	return nil
}

// asks reports whether a user makes a call: calls from inside have no session, or one without a user.
func asks(ctx *simulator.Context) bool { return ctx.Session != nil && ctx.Session.UserName != "" }

// in is the judge of a call in either API: entities live in the vSphere API's registry. It is nil if no user asked.
func in(ctx *simulator.Context) *judge {
	if !asks(ctx) {
		return nil
	}
	if ctx.Map.Path != vim25.Path {
		return of(ctx.For(vim25.Path).Map)
	}
	return of(ctx.Map)
}

// changed ends a change that was made under the lock.
func (j *judge) changed() {
	j.lock.Unlock()
	j.answers.forget()
}

func (j *judge) registry() *simulator.Registry { return j.sim.Map() }

func (j *judge) root() ref { return j.sim.Model.ServiceContent.RootFolder }

func (j *judge) entity(object ref) mo.Entity {
	entity, _ := j.registry().Get(object).(mo.Entity)
	return entity
}

// owner is the object whose permissions count for an object of a complex entity, as AuthorizationManager describes them: the
// folders of a datacenter, the root resource pool of a compute resource, and the host of a stand-alone one always have the
// permissions of their parent, also those that do not propagate.
func (j *judge) owner(object ref) ref {
	entity := j.entity(object)
	if entity == nil || entity.Entity().Parent == nil {
		return object
	}
	parent := *entity.Entity().Parent
	switch {
	case object.Type == "Folder" && parent.Type == "Datacenter",
		object.Type == "ResourcePool" && reference.isA(parent.Type, "ComputeResource"),
		object.Type == "HostSystem" && parent.Type == "ComputeResource":
		return parent
	}
	return object
}

// parents are the objects from which an object inherits permissions: a virtual machine from its folder and its resource pool
// at once.
func (j *judge) parents(object ref) []ref {
	entity := j.entity(object)
	if entity == nil {
		return nil
	}
	var list []ref
	if parent := entity.Entity().Parent; parent != nil {
		list = append(list, *parent)
	}
	if vm, ok := entity.(*simulator.VirtualMachine); ok && vm.ResourcePool != nil {
		list = append(list, *vm.ResourcePool)
	}
	return list
}

// rolesOn are the roles that a user has on an object. The nearest permission counts: one on the object itself, else the nearest
// one above that propagates. The caller holds the lock.
func (j *judge) rolesOn(user *User, object ref) []*role {
	if found, any := j.inherited(user, object, true, 0); any {
		return found
	}
	if j.leadsTo(user, object) {
		return []*role{visibility}
	}
	return nil
}

const deepest = 64 // levels of the inventory; a circle ends here

func (j *judge) inherited(user *User, object ref, itself bool, depth int) (roles []*role, any bool) {
	object = j.owner(object)
	if found, any := j.defined(user, object, itself); any {
		return found, true
	}
	if depth == deepest {
		return nil, false
	}
	for _, parent := range j.parents(object) {
		found := j.answers.below(user.Name, parent, func() (below, bool) {
			roles, any := j.inherited(user, parent, false, depth+1)
			return below{roles, any}, j.settled(parent)
		})
		roles, any = append(roles, found.roles...), any || found.any
	}
	return roles, any
}

// settled reports whether an object is in its place. A virtual machine may not be, while it is made.
func (j *judge) settled(object ref) bool {
	for range deepest {
		entity := j.entity(object)
		if entity == nil || object.Type == "VirtualMachine" {
			return false
		}
		if object == j.root() {
			return true
		}
		if entity.Entity().Parent == nil {
			return false
		}
		object = *entity.Entity().Parent
	}
	return false
}

// defined are the roles that permissions on the object itself give a user: the permission for the user if there is one, else
// those for its groups together.
func (j *judge) defined(user *User, object ref, itself bool) (roles []*role, any bool) {
	for _, p := range j.permissions[object] {
		if !itself && !p.Propagate {
			continue
		}
		if !p.Group && fold(p.Principal) == fold(user.Name) {
			return []*role{j.role(p.RoleId)}, true
		}
	}
	for _, p := range j.permissions[object] {
		if (itself || p.Propagate) && p.Group && user.in(p.Principal) {
			roles, any = append(roles, j.role(p.RoleId)), true
		}
	}
	return roles, any
}

func (u *User) in(group string) bool {
	return slices.ContainsFunc(u.Groups, func(each string) bool { return fold(each) == fold(group) })
}

// concerns reports whether a permission is for a user.
func (u *User) concerns(p types.Permission) bool {
	if p.Group {
		return u.in(p.Principal)
	}
	return fold(p.Principal) == fold(u.Name)
}

// leadsTo reports whether an object lies above one that the user has a permission on: it is visible then, and no more.
func (j *judge) leadsTo(user *User, object ref) bool {
	for below, permissions := range j.permissions {
		if below == object || !slices.ContainsFunc(permissions, func(p types.Permission) bool {
			return user.concerns(p) && p.RoleId != noAccess
		}) {
			continue
		}
		if j.above(object, below, 0) {
			return true
		}
	}
	return false
}

func (j *judge) above(object, below ref, depth int) bool {
	if depth == deepest {
		return false
	}
	return slices.ContainsFunc(j.parents(below), func(parent ref) bool {
		return parent == object || j.above(object, parent, depth+1)
	})
}

// has reports whether a user has a privilege on an object.
func (j *judge) has(name string, object ref, privilege string) bool {
	if privilege == anonymous {
		return true
	}
	j.lock.RLock()
	defer j.lock.RUnlock()
	user := j.users[fold(name)]
	if user == nil {
		return false
	}
	return slices.ContainsFunc(j.rolesOn(user, object), func(r *role) bool { return r.has(privilege) })
}

// hasAny reports whether there is a permission for the user at all.
func (j *judge) hasAny(name string) bool {
	j.lock.RLock()
	defer j.lock.RUnlock()
	user := j.users[fold(name)]
	if user == nil {
		return false
	}
	for _, permissions := range j.permissions {
		if slices.ContainsFunc(permissions, user.concerns) {
			return true
		}
	}
	return false
}

// unlimited reports whether a user may do everything everywhere, as the administrator may, so that nothing needs to be looked at.
func (j *judge) unlimited(name string) bool {
	return j.answers.unlimited(name, func() bool { return j.everything(name) })
}

func (j *judge) everything(name string) bool {
	j.lock.RLock()
	defer j.lock.RUnlock()
	user := j.users[fold(name)]
	if user == nil {
		return false
	}
	for object, permissions := range j.permissions {
		for _, p := range permissions {
			if user.concerns(p) && (p.RoleId != administrator || object == j.root() && !p.Propagate) {
				return false
			}
		}
	}
	roles, _ := j.defined(user, j.root(), false)
	return slices.ContainsFunc(roles, func(r *role) bool { return r.id == administrator })
}

// all are the privileges that a user has on an object, sorted.
func (j *judge) all(name string, object ref) []string {
	j.lock.RLock()
	defer j.lock.RUnlock()
	user := j.users[fold(name)]
	if user == nil {
		return nil
	}
	var list []string
	for _, r := range j.rolesOn(user, object) {
		list = append(list, r.privileges()...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// subject is the managed entity whose permissions count for an object that is none: of a snapshot its virtual machine, of a
// host's manager the host, of the service's managers the root folder.
func (j *judge) subject(ctx *simulator.Context, object ref) ref {
	switch found := ctx.Map.Get(object).(type) {
	case mo.Entity:
		return object
	case *simulator.VirtualMachineSnapshot:
		return found.Vm
	case *simulator.HostDatastoreSystem:
		return found.Host.Self
	case *simulator.HostStorageSystem:
		return found.Host.Self
	case *simulator.HostNetworkSystem:
		return found.Host.Self
	case *simulator.Task:
		if found.Info.Entity != nil && j.entity(*found.Info.Entity) != nil {
			return *found.Info.Entity
		}
	}
	if j.entity(object) != nil { // the storage policy API's registry does not have it
		return object
	}
	return j.root()
}
