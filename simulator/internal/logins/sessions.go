// SPDX-License-Identifier: Apache-2.0

// Package logins ends sessions: on demand, by time-out, and for everything that hangs on them.
package logins

import (
	"crypto/sha256"
	"encoding/hex"
	"sort"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Session is a session that lives.
type Session struct {
	ID         string    `json:"id"`
	User       string    `json:"user"`
	Login      time.Time `json:"login"`
	LastActive time.Time `json:"last_active"`
	UserAgent  string    `json:"user_agent"`
	key        string
}

// ID names a session without giving it away: its key lets in whoever has it.
func ID(key string) string {
	if key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:4])
}

type logins struct {
	sim *core.Sim

	lock    sync.Mutex
	ended   []func(key string)
	active  map[string]*activity
	gone    map[string]bool // keys of sessions that have ended
	timeout time.Duration
}

type activity struct {
	running int
	last    time.Time
}

var known sync.Map // *core.Sim -> *logins

func of(s *core.Sim) *logins {
	found, _ := known.LoadOrStore(s, &logins{sim: s, active: make(map[string]*activity), gone: make(map[string]bool)})
	return found.(*logins)
}

// OnEnd has f called with the key of each session that has ended, however it did.
func OnEnd(s *core.Sim, f func(key string)) {
	l := of(s)
	l.lock.Lock()
	defer l.lock.Unlock()
	l.ended = append(l.ended, f)
}

// List tells which sessions live.
func List(s *core.Sim) []Session {
	view := simulator.Session{Registry: simulator.NewRegistry(), Map: s.Map()}
	manager, ok := view.Get(*s.Model.ServiceContent.SessionManager).(*simulator.SessionManager)
	if !ok {
		return nil
	}
	list := make([]Session, 0, len(manager.SessionList))
	for _, session := range manager.SessionList {
		list = append(list, Session{
			ID: ID(session.Key), User: session.UserName, Login: session.LoginTime, LastActive: session.LastActiveTime,
			UserAgent: session.UserAgent, key: session.Key,
		})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Login.Before(list[j].Login) })
	return list
}

// Terminate ends the sessions chosen, as though nobody had used them for too long, and lists them.
func Terminate(s *core.Sim, chosen func(Session) bool) []Session {
	ctx := s.Context()
	ctx.Session = &simulator.Session{Registry: simulator.NewRegistry(), Map: s.Map()}
	gone := make([]Session, 0)
	for _, session := range List(s) {
		if !chosen(session) {
			continue
		}
		s.Map().SessionManager().TerminateSession(ctx, &types.TerminateSession{SessionId: []string{session.key}})
		of(s).end(session.key)
		gone = append(gone, session)
	}
	return gone
}

// ByUser chooses a user's sessions.
func ByUser(name string) func(Session) bool { return func(s Session) bool { return s.User == name } }

// ByID chooses the session of an ID.
func ByID(id string) func(Session) bool { return func(s Session) bool { return s.ID == id } }

// All chooses all sessions.
func All(Session) bool { return true }

func (l *logins) end(key string) {
	l.lock.Lock()
	delete(l.active, key)
	l.gone[key] = true
	l.lock.Unlock()
	l.tell(key)
}

// tell has all that hangs on a session ended. Once more after a call that was in progress as the session ended: it may have
// made something since.
func (l *logins) tell(key string) {
	l.lock.Lock()
	listeners := l.ended
	l.lock.Unlock()
	for _, f := range listeners {
		f(key)
	}
}
