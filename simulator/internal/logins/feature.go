// SPDX-License-Identifier: Apache-2.0

package logins

import (
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/control"
	"vcenter-sim/internal/core"
)

var (
	timeout   time.Duration
	limit     int
	noSession string
)

// locales are those of a vCenter that is installed in English.
var locales = []string{"en"}

// Feature ends sessions that nobody uses, and lets a test end any.
var Feature = core.Feature{
	Name: "logins",
	Flags: func(set *flag.FlagSet) {
		set.StringVar(&noSession, "no-session-fault", core.NoSessionFaults[0],
			"the `FAULT` that a caller without a session gets: one of "+strings.Join(core.NoSessionFaults, ", ")+" (9.1)")
		set.IntVar(&limit, "session-limit", 2000, "answer a login beyond this `NUMBER` of sessions with status 503; 0 for no limit")
		set.DurationVar(&timeout, "session-timeout", 30*time.Minute,
			"end a session that is not used for so long (`DURATION`, as 90s or 30m); 0 for never")
	},
	Start: start,
}

func start(s *core.Sim) error {
	if timeout < 0 {
		return fmt.Errorf("invalid value %q for flag -session-timeout: give a duration, as 90s or 30m, or 0 for never", timeout)
	}
	if !slices.Contains(core.NoSessionFaults, noSession) {
		return fmt.Errorf("invalid value %q for flag -no-session-fault: give one of %s", noSession,
			strings.Join(core.NoSessionFaults, ", "))
	}
	if limit < 0 {
		return fmt.Errorf("invalid value \"%d\" for flag -session-limit: give a number of sessions, or 0 for no limit", limit)
	}
	if noSession != core.NoSessionFaults[0] {
		s.NoSessionFault = noSession
	}
	manager := s.Map().SessionManager()
	manager.DefaultLocale, manager.MessageLocaleList, manager.SupportedLocaleList = "en", locales, locales
	l := of(s)
	l.timeout = timeout
	s.Around(l.watch)
	s.Around(l.refuseTooMany)
	stop := make(chan struct{})
	s.OnStop(func() { close(stop) })
	go l.expire(stop)

	s.Control.HandleFunc("GET /sessions", func(w http.ResponseWriter, _ *http.Request) { control.Answer(w, List(s)) })
	s.Control.HandleFunc("DELETE /sessions", func(w http.ResponseWriter, r *http.Request) {
		chosen := All
		if user := r.URL.Query().Get("user"); user != "" {
			chosen = ByUser(user)
		}
		control.Answer(w, Terminate(s, chosen))
	})
	s.Control.HandleFunc("DELETE /sessions/{id}", func(w http.ResponseWriter, r *http.Request) {
		gone := Terminate(s, ByID(r.PathValue("id")))
		if len(gone) == 0 {
			control.Refuse(w, http.StatusNotFound, fmt.Errorf("no session %q: GET /sessions lists them", r.PathValue("id")))
			return
		}
		control.Answer(w, gone)
	})
	return nil
}

// refuseTooMany answers a login beyond the limit as a vCenter that has no session left.
func (l *logins) refuseTooMany(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
	switch call.Name {
	case "Login", "LoginByToken", "LoginExtensionByCertificate", "CloneSession", "ImpersonateUser":
		if limit > 0 && len(List(l.sim)) >= limit {
			return core.AnswerStatus(ctx, http.StatusServiceUnavailable, "Service Unavailable")
		}
	}
	return next()
}

// watch knows which sessions have a call in progress: a long poll keeps its session alive.
func (l *logins) watch(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
	if ctx.Session == nil {
		return next()
	}
	key := ctx.Session.Key
	answer := l.counted(key, next)
	if answer == nil || answer.Fault() != nil {
		return answer
	}
	switch request := call.Body.(type) {
	case *types.Logout:
		l.end(key)
	case *types.TerminateSession:
		for _, ended := range request.SessionId {
			l.end(ended)
		}
	}
	return answer
}

func (l *logins) counted(key string, next core.Next) soap.HasFault {
	l.lock.Lock()
	a := l.active[key]
	if a == nil {
		a = &activity{}
		l.active[key] = a
	}
	a.running++
	l.lock.Unlock()
	defer func() { // also if the connection is cut on purpose
		l.lock.Lock()
		a.running--
		a.last = time.Now()
		gone := l.gone[key]
		if gone && a.running == 0 {
			delete(l.active, key)
		}
		l.lock.Unlock()
		if gone {
			l.tell(key)
		}
	}()
	return next()
}

// expire ends sessions that are idle for too long.
func (l *logins) expire(stop <-chan struct{}) {
	if l.timeout == 0 {
		return
	}
	select {
	case <-stop:
		return
	case <-l.sim.Serving():
	}
	ticker := time.NewTicker(min(max(l.timeout/10, 10*time.Millisecond), time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-ticker.C:
			Terminate(l.sim, func(session Session) bool { return l.idle(session, now) })
		}
	}
}

func (l *logins) idle(session Session, now time.Time) bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	last := session.LastActive
	if a := l.active[session.key]; a != nil {
		if a.running > 0 {
			return false
		}
		if a.last.After(last) {
			last = a.last
		}
	}
	return now.Sub(last) > l.timeout
}
