// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"log"
	"runtime/debug"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// TaskFunc does a task's work. It runs in a goroutine and a context of its own, with no lock held: it locks what it changes.
type TaskFunc func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault)

// StartTask starts a task on an entity and returns its reference. The name is the method's as TaskInfo shows it, with
// "_Task" ("CreateVM_Task"). A fault ends up in TaskInfo.error; a panic does too, as a SystemError, and ends nothing else.
func StartTask(
	ctx *simulator.Context, entity types.ManagedObjectReference, name string, run TaskFunc,
) types.ManagedObjectReference {
	own := NewContext(ctx)
	task := NewTask(own, entity, name)
	run = hooked(own, task, run)
	go func() {
		simulatedTaskDelay()
		result, fault := supervised(own, name, run)
		FinishTask(own, task, result, fault)
	}()
	return task.Self
}

// NewTask puts a running task into the inventory, which somebody ends with FinishTask, or which hangs.
func NewTask(ctx *simulator.Context, entity types.ManagedObjectReference, name string) *simulator.Task {
	id := name
	if n := len(name) - len("_Task"); n > 0 && name[n:] == "_Task" {
		id = name[:n]
	}
	description := DescriptionID(entity.Type, name)
	if _, ok := ctx.Map.Get(entity).(mo.Entity); !ok { // TaskInfo.entity is a ManagedEntity, and VirtualDiskManager is none
		entity = *RootFolder(ctx)
	}
	task := simulator.CreateTask(entity, id, nil)
	task.Info.Name, task.Info.DescriptionId = name, description
	if object, ok := ctx.Map.Get(entity).(mo.Entity); ok {
		task.Info.EntityName = object.Entity().Name
	}
	if ctx.Session != nil {
		task.Info.Reason = &types.TaskReasonUser{UserName: ctx.Session.UserName}
	}
	now := time.Now()
	task.Info.QueueTime, task.Info.StartTime = now, &now
	task.Info.State = types.TaskInfoStateRunning
	// The key is a part of the info that listeners see at once, so the reference is made before the task is put.
	task.Self = types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-%d", nextTaskNumber())}
	task.Info.Key, task.Info.Task = task.Self.Value, task.Self
	ctx.Map.Put(task)
	return task
}

// RootFolder is the entity of a task that is about none.
func RootFolder(ctx *simulator.Context) *types.ManagedObjectReference {
	root := ctx.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content.RootFolder
	return &root
}

// FinishTask ends a task with a result, or with a fault in TaskInfo.error.
// A task that has ended (it was cancelled) stays as it is.
func FinishTask(ctx *simulator.Context, task *simulator.Task, result types.AnyType, fault types.BaseMethodFault) {
	if Ended(ctx, task) {
		return
	}
	changes := []types.PropertyChange{{Name: "info.completeTime", Val: time.Now()}}
	if fault != nil {
		changes = append(changes,
			types.PropertyChange{Name: "info.error", Val: types.LocalizedMethodFault{
				Fault: plain(fault), LocalizedMessage: Message(fault)}},
			types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateError})
	} else {
		changes = append(changes,
			types.PropertyChange{Name: "info.result", Val: result},
			types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateSuccess})
	}
	ctx.Map.AtomicUpdate(ctx, task, changes)
}

func supervised(ctx *simulator.Context, name string, run TaskFunc) (result types.AnyType, fault types.BaseMethodFault) {
	defer func() {
		if cause := recover(); cause != nil {
			log.Printf("%s: %v\n%s", name, cause, debug.Stack())
			result, fault = nil, &types.SystemError{Reason: fmt.Sprint(cause)}
		}
	}()
	return run(ctx)
}
