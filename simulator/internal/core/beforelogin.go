// SPDX-License-Identifier: Apache-2.0

package core

import (
	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The methods that need no session, under their own names (see beforeLogin).

func (d *dispatcher) Login(ctx *simulator.Context, req *types.Login) soap.HasFault {
	return d.Dispatch(ctx, req)
}

func (d *dispatcher) LoginByToken(ctx *simulator.Context, req *types.LoginByToken) soap.HasFault {
	return d.Dispatch(ctx, req)
}

func (d *dispatcher) LoginExtensionByCertificate(
	ctx *simulator.Context, req *types.LoginExtensionByCertificate,
) soap.HasFault {
	return d.Dispatch(ctx, req)
}

func (d *dispatcher) CloneSession(ctx *simulator.Context, req *types.CloneSession) soap.HasFault {
	return d.Dispatch(ctx, req)
}

func (d *dispatcher) RetrieveServiceContent(
	ctx *simulator.Context, req *types.RetrieveServiceContent,
) soap.HasFault {
	return d.Dispatch(ctx, req)
}

func (d *dispatcher) PbmRetrieveServiceContent(
	ctx *simulator.Context, req *pbm.PbmRetrieveServiceContent,
) soap.HasFault {
	return d.Dispatch(ctx, req)
}

func (d *dispatcher) RetrieveProperties(ctx *simulator.Context, req *types.RetrieveProperties) soap.HasFault {
	return d.Dispatch(ctx, req)
}

func (d *dispatcher) RetrievePropertiesEx(ctx *simulator.Context, req *types.RetrievePropertiesEx) soap.HasFault {
	return d.Dispatch(ctx, req)
}

// trackSessions remembers who is logged in, because the library keeps that to itself and HTTP endpoints need it.
func (s *Sim) trackSessions() {
	s.Around(func(ctx *simulator.Context, call *Call, next Next) soap.HasFault {
		result := next()
		if ctx.Session == nil || result == nil || result.Fault() != nil {
			return result
		}
		s.sessionsLock.Lock()
		defer s.sessionsLock.Unlock()
		switch call.Name {
		case "Login", "LoginByToken", "LoginExtensionByCertificate", "CloneSession", "ImpersonateUser":
			s.sessions[ctx.Session.Key] = ctx.Session.UserName
		case "Logout":
			delete(s.sessions, ctx.Session.Key)
		}
		return result
	})
}

// LoggedIn reports whether a session key (the value of the cookie vmware_soap_session) belongs to a session that lives.
func (s *Sim) LoggedIn(key string) bool {
	s.sessionsLock.Lock()
	user, known := s.sessions[key]
	s.sessionsLock.Unlock()
	if !known {
		return false
	}
	answer := s.Map().SessionManager().SessionIsActive(s.Context(), &types.SessionIsActive{SessionID: key, UserName: user})
	body, ok := answer.(*methods.SessionIsActiveBody)
	return ok && body.Res != nil && body.Res.Returnval
}

// UserOf is the user of a session that lives, by its key, or "".
func (s *Sim) UserOf(key string) string {
	if !s.LoggedIn(key) {
		return ""
	}
	s.sessionsLock.Lock()
	defer s.sessionsLock.Unlock()
	return s.sessions[key]
}

// Sessions lists the keys of the sessions that live.
func (s *Sim) Sessions() []string {
	s.sessionsLock.Lock()
	keys := make([]string, 0, len(s.sessions))
	for key := range s.sessions {
		keys = append(keys, key)
	}
	s.sessionsLock.Unlock()
	alive := keys[:0]
	for _, key := range keys {
		if s.LoggedIn(key) {
			alive = append(alive, key)
		}
	}
	return alive
}
