// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/control"
	"vcenter-sim/internal/core"
)

// grants is what a test says about users, roles and permissions.
type grants struct {
	// Users are added, or replace those of the same name.
	Users []*User `json:"users"`
	// Roles are the privileges of each role, by name; a role of that name is replaced.
	Roles map[string][]string `json:"roles"`
	// Permissions are set on objects; those that were there stay, except for the same user on the same object.
	Permissions []grant `json:"permissions"`
}

type grant struct {
	// Entity is an inventory path ("/", "/DC0", "/DC0/vm/folder") or a reference's value ("datastore-52").
	Entity string `json:"entity"`
	// Every is a type, in place of one entity: all objects of it, as they are now.
	Every string `json:"every"`
	// User or Group is whom the permission is for.
	User  string `json:"user"`
	Group string `json:"group"`
	// Role is a role's name.
	Role string `json:"role"`
	// Propagate has the permission count for what is below the object; so it is if nothing is said.
	Propagate *bool `json:"propagate"`
}

func (j *judge) serve() {
	s := j.sim
	s.Control.HandleFunc("POST /privileges", func(w http.ResponseWriter, r *http.Request) {
		var g grants
		err := control.Decode(r.Body, &g)
		if err == nil {
			err = j.take(&g)
		}
		if err != nil {
			control.Refuse(w, http.StatusBadRequest, err)
			return
		}
		j.publish(s.Context())
		control.Answer(w, j.save())
	})
	s.Control.HandleFunc("GET /privileges", func(w http.ResponseWriter, _ *http.Request) { control.Answer(w, j.save()) })
	s.Control.HandleFunc("GET /privileges/used", j.usage.serve)
	s.Control.HandleFunc("DELETE /privileges/used", j.usage.serve)
}

func (j *judge) take(g *grants) error {
	for name, privileges := range g.Roles {
		for _, privilege := range privileges {
			if !isKnown(privilege) {
				return fmt.Errorf("roles.%s: there is no privilege %q", name, privilege)
			}
		}
	}
	j.lock.Lock()
	defer j.changed()
	for _, user := range g.Users {
		if user.Name == "" || user.Password == "" {
			return errors.New("users: give each a name and a password")
		}
		j.users[fold(user.Name)] = user
	}
	for _, name := range sortedNames(g.Roles) {
		old := j.roleNamed(name)
		switch {
		case old == nil:
			j.add(name, g.Roles[name])
		case old.system:
			return fmt.Errorf("roles.%s: it is one of the vCenter's own roles, which cannot be changed", name)
		default:
			changed := *old
			changed.grant(g.Roles[name])
			for i := range j.roles {
				if j.roles[i] == old {
					j.roles[i] = &changed
				}
			}
		}
	}
	for i, each := range g.Permissions {
		if err := j.grant(each); err != nil {
			return fmt.Errorf("permissions[%d]: %w", i, err)
		}
	}
	return nil
}

func (j *judge) grant(g grant) error {
	entities, err := j.findAll(g)
	if err != nil {
		return err
	}
	r := j.roleNamed(g.Role)
	if r == nil {
		return fmt.Errorf("there is no role %q, the roles are %s", g.Role, strings.Join(j.roleNames(), ", "))
	}
	p := types.Permission{Principal: g.User, RoleId: r.id, Propagate: g.Propagate == nil || *g.Propagate}
	if g.Group != "" {
		p.Principal, p.Group = g.Group, true
	} else if j.users[fold(g.User)] == nil {
		return fmt.Errorf("there is no user %q", g.User)
	}
	for _, entity := range entities {
		j.set(entity, p)
	}
	return nil
}

// findAll finds the objects of a grant. Those that always have the permissions of their parent are refused.
func (j *judge) findAll(g grant) ([]ref, error) {
	var entities []ref
	if g.Every != "" {
		for _, entity := range j.registry().All(g.Every) {
			entities = append(entities, entity.Reference())
		}
		if entities == nil || g.Entity != "" {
			return nil, fmt.Errorf("every: give the type of objects that there are, as Datacenter, and no entity")
		}
	} else {
		entity, err := j.find(g.Entity)
		if err != nil {
			return nil, err
		}
		entities = []ref{entity}
	}
	for _, entity := range entities {
		if j.owner(entity) != entity {
			return nil, fmt.Errorf("%s always has the permissions of its parent: name that", entity.Value)
		}
	}
	return entities, nil
}

func (j *judge) find(name string) (ref, error) {
	if strings.HasPrefix(name, "/") {
		if entity := j.inventoryPath(name); entity != nil {
			return entity.Reference(), nil
		}
		return ref{}, fmt.Errorf("there is no %q in the inventory", name)
	}
	for _, entity := range j.registry().All("") {
		if entity.Reference().Value == name {
			return entity.Reference(), nil
		}
	}
	return ref{}, fmt.Errorf("there is no object %q: give an inventory path, as /DC0, or a reference, as datastore-52", name)
}

func splitPath(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// loginOnly stands around Login.
func loginOnly(j *judge) core.Around {
	return func(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		if req, ok := call.Body.(*types.Login); ok {
			return j.login(ctx, req, next)
		}
		return next()
	}
}
