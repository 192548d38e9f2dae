// SPDX-License-Identifier: Apache-2.0

// Package guard mends the library's tasks: none ends the process, each bears its method's name, and they are forgotten in the end.
package guard

import (
	"context"
	"fmt"
	"log"
	"reflect"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature lets a panic in one of the library's tasks end that task only. (Methods, and tasks that core.StartTask starts, are
// guarded where they are called.) It also names these tasks as a vCenter does, by their methods: pyVmomi trips over a
// TaskInfo.name that is no method's.
var Feature = core.Feature{Name: "guard", Flags: flags, Start: start}

func start(s *core.Sim) error {
	s.PrepareTask(prepare)
	s.Around(name)
	return forgetTasks(s)
}

type nameKey struct{}

// pendingName is the name of a method whose task has not begun.
type pendingName struct {
	name string
	used atomic.Bool
}

func name(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
	if strings.HasSuffix(call.Name, "_Task") && ctx.Context != nil {
		ctx.Context = context.WithValue(ctx.Context, nameKey{}, &pendingName{name: call.Name})
	}
	return next()
}

// contextOf is the context that the library keeps with a task, or nil.
func contextOf(task *simulator.Task) *simulator.Context {
	field := reflect.ValueOf(task).Elem().FieldByName("ctx")
	if !field.IsValid() || field.Kind() != reflect.Pointer || field.IsNil() {
		return nil
	}
	return (*simulator.Context)(unsafe.Pointer(field.Pointer()))
}

// nameOf finds the method that has started a task: by the context that the library keeps with the task. It is "" for a task
// that is only a part of another one.
func nameOf(ctx *simulator.Context) string {
	if ctx == nil || ctx.Context == nil {
		return ""
	}
	if pending, ok := ctx.Value(nameKey{}).(*pendingName); ok && !pending.used.Swap(true) {
		return pending.name
	}
	return ""
}

// prepare names a task of the library's, and guards it.
func prepare(ctx *simulator.Context, task *simulator.Task) {
	if task.Execute == nil {
		return
	}
	own := contextOf(task)
	if name := nameOf(own); name != "" {
		task.Info.Name, task.Info.DescriptionId = name, core.DescriptionID(task.Info.Entity.Type, name)
	}
	if own != nil && own.Session != nil {
		task.Info.Reason = &types.TaskReasonUser{UserName: own.Session.UserName}
	}
	if _, entity := ctx.Map.Get(*task.Info.Entity).(mo.Entity); !entity { // TaskInfo.entity is a ManagedEntity
		task.Info.Entity, task.Info.EntityName = core.RootFolder(ctx), "Datacenters"
	}
	run, name := task.Execute, task.Info.Name
	task.Execute = func(task *simulator.Task) (result types.AnyType, fault types.BaseMethodFault) {
		defer func() {
			if cause := recover(); cause != nil {
				log.Printf("%s: %v\n%s", name, cause, debug.Stack())
				result, fault = nil, &types.SystemError{Reason: fmt.Sprint(cause)}
			}
		}()
		return run(task)
	}
}
