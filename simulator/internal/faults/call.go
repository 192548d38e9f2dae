// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/logins"
)

// around applies the rules to a SOAP call.
func (f *faults) around(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
	rule := f.rules.pick(func(rule *Rule) bool { return rule.matchesCall(ctx, call) })
	if rule == nil {
		return next()
	}
	time.Sleep(rule.delay())
	switch {
	case rule.Fault != nil:
		return rule.Fault.answer()
	case rule.Status != 0:
		words := core.NotPassedOn
		if rule.AfterWork {
			f.execute(ctx, call, rule, next)
			words = core.Broken
		}
		return core.AnswerStatus(ctx, rule.Status, words)
	case rule.Cut == "before":
		panic(http.ErrAbortHandler) // net/http's way to break a connection
	case rule.Cut == "after":
		f.execute(ctx, call, rule, next)
		panic(http.ErrAbortHandler)
	case rule.KillSessions != "":
		f.kill(ctx, rule.KillSessions)
		if ctx.Session == nil || f.sim.LoggedIn(ctx.Session.Key) {
			return next()
		}
		if rule.Empty {
			return nothing(call)
		}
		return f.withoutSession(ctx, call, next)
	case rule.Empty:
		return nothing(call)
	case rule.concernsTasks():
		return f.inTask(ctx, call, rule, next)
	}
	return next()
}

// execute executes a call whose answer is not heard.
func (f *faults) execute(ctx *simulator.Context, call *core.Call, rule *Rule, next core.Next) {
	if rule.concernsTasks() {
		f.inTask(ctx, call, rule, next)
	} else {
		next()
	}
}

// withoutSession answers a call whose session has just ended: a retrieval as the collector answers one without a session.
func (f *faults) withoutSession(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
	switch call.Name {
	case "RetrieveProperties", "RetrievePropertiesEx":
		ctx.Session = nil
		return next()
	}
	return core.FaultMessage("The session is not authenticated.", f.sim.NoSession(&call.This))
}

// retrievals are the methods that can be answered with nothing.
var retrievals = map[string]func() soap.HasFault{
	"RetrieveProperties": func() soap.HasFault {
		return &methods.RetrievePropertiesBody{Res: &types.RetrievePropertiesResponse{}}
	},
	"RetrievePropertiesEx": func() soap.HasFault {
		return &methods.RetrievePropertiesExBody{Res: &types.RetrievePropertiesExResponse{}}
	},
	"ContinueRetrievePropertiesEx": func() soap.HasFault {
		return &methods.ContinueRetrievePropertiesExBody{Res: &types.ContinueRetrievePropertiesExResponse{}}
	},
	"WaitForUpdatesEx": func() soap.HasFault {
		return &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{}}
	},
}

// nothing answers a retrieval, well and with nothing in it.
func nothing(call *core.Call) soap.HasFault { return retrievals[call.Name]() }

func (r *Rule) matchesCall(ctx *simulator.Context, call *core.Call) bool {
	p := &r.patterns
	if p.path != nil ||
		p.method != nil && !p.method.MatchString(call.Name) ||
		r.concernsTasks() && !strings.HasSuffix(call.Name, "_Task") ||
		r.Empty && retrievals[call.Name] == nil ||
		p.kind != nil && !p.kind.MatchString(call.This.Type) ||
		r.Moref != "" && r.Moref != call.This.Value {
		return false
	}
	if p.user != nil && (ctx.Session == nil || !p.user.MatchString(ctx.Session.UserName)) {
		return false
	}
	if p.name != nil {
		entity, ok := ctx.Map.Get(call.This).(mo.Entity)
		if !ok || !p.name.MatchString(entity.Entity().Name) {
			return false
		}
	}
	return p.argument == nil || anyText(reflect.ValueOf(call.Body), p.argument.MatchString)
}

func (f *faults) kill(ctx *simulator.Context, which string) {
	chosen := logins.All
	if user, ok := strings.CutPrefix(which, "user:"); ok {
		chosen = logins.ByUser(user)
	} else if which == "caller" {
		key := ""
		if ctx.Session != nil {
			key = ctx.Session.Key
		}
		chosen = logins.ByID(logins.ID(key))
	}
	logins.Terminate(f.sim, chosen)
}

func (f *Fault) answer() soap.HasFault { return core.FaultMessage(core.Message(f.worded()), f.value) }

// worded is the fault with the message that was given, or else its usual one.
func (f *Fault) worded() types.BaseMethodFault {
	if f.Message == "" {
		return f.value
	}
	return core.Worded(f.value, f.Message)
}
