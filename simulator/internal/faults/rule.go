// SPDX-License-Identifier: Apache-2.0

// Package faults makes calls fail on demand, as calls to a vCenter fail: by a fault, inside a task, by a delay, by a
// connection that breaks, by a session that is gone.
package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/control"
	"vcenter-sim/internal/core"
)

// Rule says which calls fail, and how. Of the rules that match a call, the first one that is not used up applies, alone.
type Rule struct {
	ID string `json:"id"`

	// Which calls. What is not given matches all; Method, Type and User must match as a whole, the others somewhere.
	Method   string `json:"method,omitempty"`   // regular expression: CreateVM_Task, Pbm.*, or PUT with Path
	Type     string `json:"type,omitempty"`     // regular expression: VirtualMachine
	Moref    string `json:"moref,omitempty"`    // vm-42
	Name     string `json:"name,omitempty"`     // regular expression for the inventory object's name
	Argument string `json:"argument,omitempty"` // regular expression for any text in the request: a name, a path
	User     string `json:"user,omitempty"`     // regular expression for the session's user
	Path     string `json:"path,omitempty"`     // regular expression: a transfer's URL path; the rule is for transfers only

	// How often.
	Skip        int      `json:"skip,omitempty"`        // let the first matching calls pass
	Count       int      `json:"count,omitempty"`       // apply so often at most; 0 is for ever
	Probability *float64 `json:"probability,omitempty"` // apply to a part of the matching calls, 0 to 1
	Seed        int64    `json:"seed,omitempty"`        // of the probability's random numbers

	// What happens. Delays go together with all others.
	DelayMS      int    `json:"delay_ms,omitempty"`
	Fault        *Fault `json:"fault,omitempty"`
	TaskFault    *Fault `json:"task_fault,omitempty"`
	AfterWork    bool   `json:"after_work,omitempty"` // with TaskFault, or with Status: the work is done all the same
	TaskDelayMS  int    `json:"task_delay_ms,omitempty"`
	TaskHang     bool   `json:"task_hang,omitempty"` // until released
	Cut          string `json:"cut,omitempty"`       // before or after the call is executed; during a transfer
	AfterBytes   int64  `json:"after_bytes,omitempty"`
	KillSessions string `json:"kill_sessions,omitempty"` // caller, all, or user:NAME
	Empty        bool   `json:"empty,omitempty"`         // a retrieval is answered with nothing; goes with KillSessions
	Status       int    `json:"status,omitempty"`        // the HTTP status, as Envoy answers in the vCenter's place

	Matched int `json:"matched"` // calls that matched
	Hits    int `json:"hits"`    // calls to which it was applied

	patterns patterns
	random   *rand.Rand
	release  chan struct{}
}

// Fault is a fault of the API by its type's name, with some of its fields.
type Fault struct {
	Type    string          `json:"type"`
	Fields  json.RawMessage `json:"fields,omitempty"`
	Message string          `json:"message,omitempty"`

	value types.BaseMethodFault
}

type patterns struct {
	method, kind, name, argument, user, path *regexp.Regexp
}

// newRule reads a rule and refuses one that cannot work.
func newRule(text []byte) (*Rule, error) {
	rule := &Rule{release: make(chan struct{})}
	if err := control.Decode(strings.NewReader(string(text)), rule); err != nil {
		return nil, err
	}
	if rule.ID != "" || rule.Matched != 0 || rule.Hits != 0 {
		return nil, errors.New("id, matched and hits are given by the simulator: leave them out")
	}
	for _, check := range []func() error{rule.compile, rule.checkNumbers, rule.checkEffects, rule.checkScope} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	rule.random = rand.New(rand.NewSource(rule.Seed))
	return rule, nil
}

func (r *Rule) compile() error {
	for _, p := range []struct {
		field, text string
		whole       bool
		target      **regexp.Regexp
	}{
		{"method", r.Method, true, &r.patterns.method},
		{"type", r.Type, true, &r.patterns.kind},
		{"name", r.Name, false, &r.patterns.name},
		{"argument", r.Argument, false, &r.patterns.argument},
		{"user", r.User, true, &r.patterns.user},
		{"path", r.Path, false, &r.patterns.path},
	} {
		if p.text == "" {
			continue
		}
		text := p.text
		if p.whole {
			text = "^(?:" + text + ")$"
		}
		compiled, err := regexp.Compile(text)
		if err != nil {
			return fmt.Errorf("%s: %q is no regular expression: %w", p.field, p.text, err)
		}
		*p.target = compiled
	}
	return nil
}

func (r *Rule) checkNumbers() error {
	for field, number := range map[string]int{
		"skip": r.Skip, "count": r.Count, "delay_ms": r.DelayMS, "task_delay_ms": r.TaskDelayMS, "after_bytes": int(r.AfterBytes),
	} {
		if number < 0 {
			return fmt.Errorf("%s: %d is negative", field, number)
		}
	}
	if p := r.Probability; p != nil && (*p < 0 || *p > 1) {
		return fmt.Errorf("probability: %g is not between 0 and 1", *p)
	}
	return nil
}

func (r *Rule) checkEffects() error {
	ends := 0
	// A call that is executed and not answered may have a task, as any other.
	unheard := r.Cut == "after" || r.Status != 0 && r.AfterWork
	for _, given := range []bool{
		r.Fault != nil, r.TaskFault != nil && !unheard, r.Cut != "", r.KillSessions != "", r.Status != 0,
		r.Empty && r.KillSessions == "",
	} {
		if given {
			ends++
		}
	}
	switch {
	case ends > 1:
		return errors.New("give one of fault, task_fault, cut, kill_sessions, status and empty, and one rule for each")
	case ends == 0 && r.DelayMS == 0 && r.TaskDelayMS == 0 && !r.TaskHang:
		return errors.New("nothing happens: give one of fault, task_fault, cut, kill_sessions, status, empty, delay_ms, " +
			"task_delay_ms, task_hang")
	case r.AfterWork && r.TaskFault == nil && r.Status == 0:
		return errors.New("after_work: it belongs to task_fault or to status")
	case (r.TaskHang || r.TaskDelayMS > 0) && ends == 1 && r.TaskFault == nil && !unheard:
		return errors.New("task_hang and task_delay_ms: a call that fails has no task; give them alone, with task_fault, with " +
			"cut after or with status and after_work")
	case r.KillSessions != "" && r.KillSessions != "caller" && r.KillSessions != "all" &&
		!strings.HasPrefix(r.KillSessions, "user:"):
		return fmt.Errorf("kill_sessions: %q is none of caller, all, user:NAME", r.KillSessions)
	}
	for field, fault := range map[string]*Fault{"fault": r.Fault, "task_fault": r.TaskFault} {
		if fault != nil {
			if err := fault.build(); err != nil {
				return fmt.Errorf("%s: %w", field, err)
			}
		}
	}
	return nil
}

// checkScope keeps apart what can happen to SOAP calls and to transfers.
func (r *Rule) checkScope() error {
	if r.Status != 0 && (r.Status < 400 || http.StatusText(r.Status) == "") {
		return fmt.Errorf("status: %d is no HTTP error", r.Status)
	}
	if r.Path == "" {
		switch {
		case r.Cut == "during" || r.AfterBytes != 0:
			return errors.New("cut during and after_bytes are for transfers: give path, as \"^/folder/\"")
		case r.Cut != "" && r.Cut != "before" && r.Cut != "after":
			return fmt.Errorf("cut: %q is neither before nor after the call is executed", r.Cut)
		}
		return nil
	}
	switch {
	case r.Type != "" || r.Moref != "" || r.Name != "" || r.Argument != "" || r.User != "":
		return errors.New("path makes the rule one for transfers: of type, moref, name, argument and user give none")
	case r.Fault != nil || r.TaskFault != nil || r.TaskHang || r.TaskDelayMS > 0 || r.KillSessions != "":
		return errors.New("path makes the rule one for transfers: give status, cut or delay_ms")
	case r.Cut != "" && r.Cut != "before" && r.Cut != "during" && r.Cut != "after":
		return fmt.Errorf("cut: %q is none of before, during, after", r.Cut)
	case r.AfterBytes != 0 && r.Cut != "during":
		return errors.New("after_bytes: it belongs to cut during")
	case r.AfterWork || r.Empty:
		return errors.New("path makes the rule one for transfers: after_work and empty are for calls")
	}
	return nil
}

// build makes the fault that is named.
func (f *Fault) build() error {
	var kind = func(name string) (value types.BaseMethodFault, ok bool) {
		if value = core.NewFault(name); value != nil {
			return value, true
		}
		found, ok := types.TypeFunc()(name)
		if !ok {
			return nil, false
		}
		value, ok = newOf(found).(types.BaseMethodFault)
		return value, ok
	}
	value, ok := kind(f.Type)
	if !ok {
		value, ok = kind("pbm:" + f.Type)
	}
	if !ok {
		return fmt.Errorf("type: %q is no fault of the API (one is NoDiskSpace)", f.Type)
	}
	if len(f.Fields) > 0 {
		decoder := types.NewJSONDecoder(strings.NewReader(string(f.Fields)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(value); err != nil {
			return fmt.Errorf("fields of %s: %w", f.Type, control.Explain(err))
		}
	}
	f.value = value
	return nil
}

func (r *Rule) delay() time.Duration     { return time.Duration(r.DelayMS) * time.Millisecond }
func (r *Rule) taskDelay() time.Duration { return time.Duration(r.TaskDelayMS) * time.Millisecond }

func (r *Rule) concernsTasks() bool { return r.TaskFault != nil || r.TaskHang || r.TaskDelayMS > 0 }
