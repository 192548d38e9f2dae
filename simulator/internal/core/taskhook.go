// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// TaskHook is told of a task before its work begins, and returns what is to be done instead.
type TaskHook func(task *simulator.Task, run TaskFunc) TaskFunc

type hookKey struct{}

// HookTask lets hook change the work of the first task that a call starts with StartTask.
func HookTask(ctx *simulator.Context, hook TaskHook) {
	ctx.Context = context.WithValue(ctx.Context, hookKey{}, hook)
}

func hooked(ctx *simulator.Context, task *simulator.Task, run TaskFunc) TaskFunc {
	if ctx.Context == nil {
		return run
	}
	hook, ok := ctx.Value(hookKey{}).(TaskHook)
	if !ok || hook == nil {
		return run
	}
	HookTask(ctx, nil) // not for tasks that this task starts
	return hook(task, run)
}

// Ended reports whether a task has ended, well or not.
func Ended(ctx *simulator.Context, task *simulator.Task) (ended bool) {
	ctx.WithLock(task, func() {
		ended = task.Info.State == types.TaskInfoStateSuccess || task.Info.State == types.TaskInfoStateError
	})
	return ended
}
