// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// check refuses what the session's user may not do.
func (j *judge) check(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
	if !asks(ctx) || ctx.Map.Get(call.This) == nil && ctx.Session.Get(call.This) == nil {
		return next() // needs no session, or the object is gone
	}
	user := ctx.Session.UserName
	needs, known := j.demandsOf(ctx, call)
	if !known && !j.unlimited(user) {
		root := j.root()
		return core.FaultMessage(fmt.Sprintf("The simulator does not know which privilege %s.%s needs "+
			"(simulator/internal/privileges/demands.go).", call.This.Type, call.Name), &types.NoPermission{Object: &root})
	}
	var missing []demand
	for _, need := range needs {
		granted := j.has(user, need.object, need.privilege)
		j.usage.note(use{User: user, Method: call.Name, Privilege: need.privilege, Object: need.object.Type}, granted)
		if !granted {
			missing = append(missing, need)
		}
	}
	if missing != nil {
		return core.Fault(j.fault(missing))
	}
	return next()
}

// fault is NoPermission for what is missing: the first of it in the older fields, and as of vSphere 7.0 U3 all of it.
func (j *judge) fault(missing []demand) *types.NoPermission {
	first := missing[0]
	fault := &types.NoPermission{Object: &first.object, PrivilegeId: first.privilege}
	if !j.since("7.0.3.2") {
		return fault
	}
	at := make(map[ref]int)
	for _, need := range missing {
		i, listed := at[need.object]
		if !listed {
			i = len(fault.MissingPrivileges)
			at[need.object] = i
			fault.MissingPrivileges = append(fault.MissingPrivileges, types.NoPermissionEntityPrivileges{Entity: need.object})
		}
		fault.MissingPrivileges[i].PrivilegeIds = append(fault.MissingPrivileges[i].PrivilegeIds, need.privilege)
	}
	return fault
}

// since reports whether the vCenter's API is of a version, as 8.0.2, or later.
func (j *judge) since(version string) bool { return !older(j.sim.Settings.APIVersion, version) }

func older(version, than string) bool {
	if version == "" {
		return false
	}
	a, b := strings.Split(version, "."), strings.Split(than, ".")
	for i := range b {
		if i >= len(a) {
			return true
		}
		x, _ := strconv.Atoi(a[i])
		y, _ := strconv.Atoi(b[i])
		if x != y {
			return x < y
		}
	}
	return false
}

// Visible reports whether the caller may see an object at all (System.View).
func Visible(ctx *simulator.Context, object ref) bool { return newReader(ctx).visible(object) }

// Denied is the fault if the caller lacks a privilege on an object, else nil.
func Denied(ctx *simulator.Context, object ref, privilege string) types.BaseMethodFault {
	j := in(ctx)
	if j == nil {
		return nil
	}
	return j.deny(ctx, object, privilege)
}

func (j *judge) deny(ctx *simulator.Context, object ref, privilege string) types.BaseMethodFault {
	subject := j.subject(ctx, object)
	if j.has(ctx.Session.UserName, subject, privilege) {
		return nil
	}
	return j.fault([]demand{{subject, privilege}})
}

// Property is the fault if the caller may not read a property of an object, else nil.
func Property(ctx *simulator.Context, object ref, path string) *types.NoPermission {
	return newReader(ctx).property(object, path)
}

// Allows tells an HTTP endpoint whether a user has a privilege on an object.
func Allows(s *core.Sim, user string, object types.ManagedObjectReference, method, privilege string) bool {
	j := of(s.Map())
	if j == nil {
		return true
	}
	granted := j.has(user, object, privilege)
	j.usage.note(use{User: user, Method: method, Privilege: privilege, Object: object.Type}, granted)
	return granted
}
