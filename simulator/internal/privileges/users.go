// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// User may log in. What it may do follows from permissions.
type User struct {
	Name     string `json:"name"`
	Password string `json:"password"`
	// Groups are the groups whose permissions count for the user.
	Groups []string `json:"groups,omitempty"`
}

// flagUser is what the flag -user says.
type flagUser struct {
	User
	role string
}

// parseUser reads NAME:PASSWORD[:ROLE].
func parseUser(text string) (flagUser, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return flagUser{}, fmt.Errorf("give NAME:PASSWORD or NAME:PASSWORD:ROLE")
	}
	user := flagUser{User: User{Name: parts[0], Password: parts[1]}}
	if len(parts) == 3 {
		user.role = parts[2]
	}
	return user, nil
}

// fold is a user's name as it is compared: names are not case-sensitive, and DOMAIN\name and name@domain are one.
func fold(name string) string {
	if domain, user, found := strings.Cut(name, `\`); found {
		name = user + "@" + domain
	}
	return strings.ToLower(name)
}

func (j *judge) user(name string) *User {
	j.lock.RLock()
	defer j.lock.RUnlock()
	return j.users[fold(name)]
}

// valid reports whether a password is a user's.
func (j *judge) valid(name, password string) bool {
	user := j.user(name)
	return user != nil && subtle.ConstantTimeCompare([]byte(user.Password), []byte(password)) == 1
}

// Valid reports whether a user exists and has the password: for HTTP endpoints that take them.
func Valid(s *core.Sim, name, password string) bool {
	j := of(s.Map())
	return j != nil && j.valid(name, password)
}

// login refuses a user without any permission, as a vCenter does: NoPermission for System.View on the root folder.
func (j *judge) login(ctx *simulator.Context, req *types.Login, next core.Next) soap.HasFault {
	if ctx.Session == nil && j.valid(req.UserName, req.Password) && !j.hasAny(req.UserName) {
		root := j.root()
		return core.Fault(j.fault([]demand{{root, view}}))
	}
	return next()
}

// retrieveUserGroups implements UserDirectory.RetrieveUserGroups for the users that there are. Groups have no members that it
// could list.
func (j *judge) retrieveUserGroups(
	_ *simulator.Context, req *types.RetrieveUserGroups, _ core.Next,
) soap.HasFault {
	matches := func(name string) bool {
		if req.ExactMatch {
			return fold(name) == fold(req.SearchStr)
		}
		return strings.Contains(strings.ToLower(name), strings.ToLower(req.SearchStr))
	}
	res := &types.RetrieveUserGroupsResponse{}
	add := func(name string, group bool) {
		if matches(name) {
			res.Returnval = append(res.Returnval,
				&types.UserSearchResult{Principal: name, FullName: name, Group: group})
		}
	}
	j.lock.RLock()
	defer j.lock.RUnlock()
	var groups []string
	for _, user := range j.users {
		groups = append(groups, user.Groups...)
		if req.FindUsers {
			add(user.Name, false)
		}
	}
	slices.Sort(groups)
	if req.FindGroups {
		for _, group := range slices.Compact(groups) {
			add(group, true)
		}
	}
	slices.SortFunc(res.Returnval, func(a, b types.BaseUserSearchResult) int {
		return strings.Compare(a.GetUserSearchResult().Principal, b.GetUserSearchResult().Principal)
	})
	return &methods.RetrieveUserGroupsBody{Res: res}
}
