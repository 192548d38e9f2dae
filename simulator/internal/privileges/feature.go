// SPDX-License-Identifier: Apache-2.0

// Package privileges decides who may do what: users, roles, permissions on objects, and a check of every method and property
// against the privilege that the API's reference names.
package privileges

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/collector"
	"vcenter-sim/internal/core"
)

var given []flagUser

// Feature checks privileges. The user of -username may do everything.
var Feature = core.Feature{
	Name: "privileges",
	Flags: func(set *flag.FlagSet) {
		given = nil
		set.Func("user", "one more user, as `NAME:PASSWORD[:ROLE]`: with a role on everything, or without any permission; "+
			"repeatable", func(text string) error {
			user, err := parseUser(text)
			if err == nil {
				given = append(given, user)
			}
			return err
		})
	},
	Start: start,
}

func start(s *core.Sim) error {
	content := s.Model.ServiceContent
	j := &judge{
		sim: s, manager: *content.AuthorizationManager, users: make(map[string]*User), roles: systemRoles(),
		permissions: make(map[ref][]types.Permission), usage: &usage{count: make(map[use]*count)},
	}
	j.answers.forget()
	judges.Store(s.Map(), j)
	s.OnStop(func() { judges.Delete(s.Map()) })
	j.govern()
	for _, user := range given {
		if err := j.welcome(user); err != nil {
			return err
		}
	}
	session := s.Map().Get(*content.SessionManager).(*simulator.SessionManager)
	session.ValidLogin = func(req *types.Login) bool { return j.valid(req.UserName, req.Password) }
	f := &forgetter{judge: j}
	f.Self = ref{Type: "Forgetter", Value: "permissions"}
	s.Map().AddHandler(f)
	j.answer()
	collector.AddGuard(s, Property)
	s.Around(j.filter)
	s.Around(j.check)
	j.serve()
	s.Keep("privileges", core.Keep{Save: j.save, Load: j.load})
	j.describe()
	return nil
}

// govern has the user of -username be the administrator.
func (j *judge) govern() {
	user, password := j.sim.Settings.User, j.sim.Settings.Password
	j.users[fold(user)] = &User{Name: user, Password: password}
	j.set(j.root(), types.Permission{Principal: user, RoleId: administrator, Propagate: true})
}

func (j *judge) welcome(user flagUser) error {
	j.users[fold(user.Name)] = &user.User
	if user.role == "" {
		return nil
	}
	r := j.roleNamed(user.role)
	if r == nil {
		return fmt.Errorf("-user %s: there is no role %q, the roles are %v", user.Name, user.role, j.roleNames())
	}
	j.set(j.root(), types.Permission{Principal: user.Name, RoleId: r.id, Propagate: true})
	return nil
}

func (j *judge) roleNames() []string {
	var names []string
	for _, r := range j.roles {
		names = append(names, r.name)
	}
	return names
}

// describe sets the properties of the AuthorizationManager that never change, and its roles.
func (j *judge) describe() {
	manager := j.registry().Get(j.manager).(*simulator.AuthorizationManager)
	manager.PrivilegeList = nil
	for _, id := range known {
		group, name := id, id
		if at := lastDot(id); at > 0 {
			group, name = id[:at], id[at+1:]
		}
		manager.PrivilegeList = append(manager.PrivilegeList,
			types.AuthorizationPrivilege{PrivId: id, Name: name, PrivGroupName: group})
	}
	j.publish(j.sim.Context())
}

func lastDot(id string) int {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i] == '.' {
			return i
		}
	}
	return -1
}

func (j *judge) answer() {
	s := j.sim
	s.Around(loginOnly(j))
	core.Override(s, j.addRole)
	core.Override(s, j.updateRole)
	core.Override(s, j.removeRole)
	core.Override(s, j.mergePermissions)
	core.Override(s, j.setPermissions)
	core.Override(s, j.resetPermissions)
	core.Override(s, j.removePermission)
	core.Override(s, j.retrieveAll)
	core.Override(s, j.retrieveOfRole)
	core.Override(s, j.retrieveOfEntity)
	core.Override(s, j.hasOnEntity)
	core.Override(s, j.hasOnEntities)
	core.Override(s, j.userHasOnEntities)
	core.Override(s, j.fetchOnEntities)
	core.Override(s, j.retrieveUserGroups)
}

// kept is what is saved with the vCenter's state.
type kept struct {
	Users       []*User            `json:"users"`
	Roles       []keptRole         `json:"roles"`
	Permissions []types.Permission `json:"permissions"`
}

type keptRole struct {
	ID         int32    `json:"id"`
	Name       string   `json:"name"`
	Privileges []string `json:"privileges"`
}

func (j *judge) save() any {
	j.lock.RLock()
	defer j.lock.RUnlock()
	k := kept{Users: sortedUsers(j.users)}
	for _, r := range j.roles {
		if !r.system {
			k.Roles = append(k.Roles, keptRole{r.id, r.name, r.privileges()})
		}
	}
	for _, list := range j.permissions {
		k.Permissions = append(k.Permissions, list...)
	}
	return k
}

func (j *judge) load(text []byte) error {
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return err
	}
	j.lock.Lock()
	for _, user := range k.Users {
		if _, given := j.users[fold(user.Name)]; !given {
			j.users[fold(user.Name)] = user
		}
	}
	for _, r := range k.Roles {
		made := &role{id: r.ID, name: r.Name, info: &types.Description{Label: r.Name, Summary: r.Name}}
		made.grant(r.Privileges)
		j.roles = append(j.roles, made)
	}
	for _, p := range k.Permissions {
		if p.Entity != nil {
			j.set(*p.Entity, p)
		}
	}
	j.govern()
	j.changed()
	j.publish(j.sim.Context())
	return nil
}

// inventoryPath finds an entity by its path from the root folder ("/DC0/vm"), or nil.
func (j *judge) inventoryPath(path string) mo.Entity {
	names := splitPath(path)
	at := j.entity(j.root())
	for _, name := range names {
		next := j.childNamed(at, name)
		if next == nil {
			return nil
		}
		at = next
	}
	return at
}

func (j *judge) childNamed(parent mo.Entity, name string) mo.Entity {
	var found mo.Entity
	for _, entity := range j.registry().All("") {
		e := entity.Entity()
		if e.Parent != nil && *e.Parent == parent.Reference() && e.Name == name {
			found = entity
		}
	}
	return found
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
