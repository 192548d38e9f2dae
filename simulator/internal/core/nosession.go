// SPDX-License-Identifier: Apache-2.0

package core

import (
	"github.com/vmware/govmomi/vim25/types"
)

// AuthenticationRequired is a fault of vCenter 9.1 that the library does not know: the caller has not logged in.
type AuthenticationRequired struct {
	types.RuntimeFault

	Authenticate []AuthenticationRequiredChallenge `xml:"authenticate" json:"authenticate"`
}

// AuthenticationRequiredChallenge says how the caller may log in.
type AuthenticationRequiredChallenge struct {
	types.DynamicData

	Scheme           string `xml:"scheme" json:"scheme"`
	Realm            string `xml:"realm,omitempty" json:"realm,omitempty"`
	Error            string `xml:"error,omitempty" json:"error,omitempty"`
	ErrorDescription string `xml:"errorDescription,omitempty" json:"errorDescription,omitempty"`
}

// SessionNotFound is a fault of vCenter 9.1 that the library does not know: the caller's session has ended.
type SessionNotFound struct {
	types.RuntimeFault
}

// NewFault makes a fault that the library does not know, or nil.
func NewFault(name string) types.BaseMethodFault {
	switch name {
	case "AuthenticationRequired":
		return &AuthenticationRequired{Authenticate: []AuthenticationRequiredChallenge{{Scheme: "Bearer"}}}
	case "SessionNotFound":
		return &SessionNotFound{}
	}
	return nil
}

// NoSessionFaults are the names of the faults by which a vCenter says that the caller has no session: the first one until 9.0.
var NoSessionFaults = []string{"NotAuthenticated", "AuthenticationRequired", "SessionNotFound", "InvalidToken"}

// NoSession is the fault that a caller without a session gets, about an object.
func (s *Sim) NoSession(obj *types.ManagedObjectReference) types.BaseMethodFault {
	switch s.NoSessionFault {
	case "", "NotAuthenticated":
		return &types.NotAuthenticated{NoPermission: types.NoPermission{Object: obj, PrivilegeId: "System.View"}}
	case "InvalidToken":
		return &types.InvalidToken{}
	}
	return NewFault(s.NoSessionFault)
}
