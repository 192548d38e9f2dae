// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// inTask lets a task fail, last or hang.
func (f *faults) inTask(ctx *simulator.Context, call *core.Call, rule *Rule, next core.Next) soap.HasFault {
	if rule.TaskFault != nil && !rule.AfterWork { // the work is never begun
		own := core.NewContext(ctx)
		task := core.NewTask(own, call.This, call.Name)
		go func() {
			rule.wait(own, task)
			core.FinishTask(own, task, nil, rule.TaskFault.worded())
		}()
		return core.TaskAnswer(call.Name, task.Self)
	}
	hooked := false
	core.HookTask(ctx, func(task *simulator.Task, run core.TaskFunc) core.TaskFunc {
		hooked = true
		return func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
			if !rule.wait(ctx, task) {
				return nil, &types.RequestCanceled{}
			}
			result, fault := run(ctx)
			if fault == nil && rule.TaskFault != nil {
				return nil, rule.TaskFault.worded()
			}
			return result, fault
		}
	})
	answer := next()
	if ref := core.TaskRef(answer); !hooked && ref != nil {
		standIn(ctx, call, rule, ref)
	}
	return answer
}

// wait holds a task up, as the rule says. It reports whether the task is still wanted: a client may cancel it meanwhile.
func (r *Rule) wait(ctx *simulator.Context, task *simulator.Task) bool {
	time.Sleep(r.taskDelay())
	for r.TaskHang && !core.Ended(ctx, task) {
		select {
		case <-r.release:
			return !core.Ended(ctx, task)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return !core.Ended(ctx, task)
}

// standIn puts a task of ours in the place of one of the library's, which has begun and cannot be held up. It ends as
// the library's does, later.
func standIn(ctx *simulator.Context, call *core.Call, rule *Rule, ref *types.ManagedObjectReference) {
	own := core.NewContext(ctx)
	inner, ok := own.Map.Get(*ref).(*simulator.Task)
	if !ok {
		return
	}
	task := core.NewTask(own, call.This, call.Name)
	*ref = task.Self
	go func() {
		rule.wait(own, task)
		inner.Wait()
		if rule.TaskFault != nil {
			core.FinishTask(own, task, nil, rule.TaskFault.worded())
			return
		}
		var info types.TaskInfo
		own.WithLock(inner, func() { info = inner.Info })
		var fault types.BaseMethodFault
		if info.Error != nil {
			fault, _ = info.Error.Fault.(types.BaseMethodFault)
		}
		core.FinishTask(own, task, info.Result, fault)
	}()
}
