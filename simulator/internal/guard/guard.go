// SPDX-License-Identifier: Apache-2.0

// Package guard mends the library's tasks: none ends the process, and each bears its method's name.
package guard

import (
	"fmt"
	"log"
	"runtime/debug"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature lets a panic in one of the library's tasks end that task only. (Methods, and tasks that core.StartTask starts, are
// guarded where they are called.) It also names these tasks as a vCenter does, by their methods: pyVmomi trips over a
// TaskInfo.name that is no method's.
var Feature = core.Feature{Name: "guard", Start: start}

func start(s *core.Sim) error {
	g := &guard{}
	g.Self = types.ManagedObjectReference{Type: "TaskGuard", Value: "guard"}
	s.Map().AddHandler(g)
	s.Around(name)
	return nil
}

func name(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
	answer := next()
	if ref := core.TaskRef(answer); ref != nil && ctx.Map.Path == vim25.Path {
		if task, ok := ctx.Map.Get(*ref).(*simulator.Task); ok {
			core.NewContext(ctx).WithLock(task, func() {
				if task.Info.Name != call.Name && strings.HasSuffix(call.Name, "_Task") {
					task.Info.Name = call.Name
				}
			})
		}
	}
	return answer
}

// guard is told of each task before its work begins: the library puts it into the inventory first.
type guard struct {
	mo.SearchIndex
}

// PutObject implements simulator.RegisterObject.
func (*guard) PutObject(_ *simulator.Context, obj mo.Reference) {
	task, ok := obj.(*simulator.Task)
	if !ok || task.Execute == nil {
		return
	}
	run := task.Execute
	task.Execute = func(task *simulator.Task) (result types.AnyType, fault types.BaseMethodFault) {
		defer func() {
			if cause := recover(); cause != nil {
				log.Printf("%s: %v\n%s", task.Info.Name, cause, debug.Stack())
				result, fault = nil, &types.SystemError{Reason: fmt.Sprint(cause)}
			}
		}()
		return run(task)
	}
}

// UpdateObject implements simulator.RegisterObject.
func (*guard) UpdateObject(*simulator.Context, mo.Reference, []types.PropertyChange) {}

// RemoveObject implements simulator.RegisterObject.
func (*guard) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}
