// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

var retention time.Duration

func flags(set *flag.FlagSet) {
	set.DurationVar(&retention, "task-retention", 10*time.Minute,
		"forget a task so long after it has ended (`DURATION`, as 90s or 10m); 0 for never")
}

type ref = types.ManagedObjectReference

// ended are the tasks that have ended, in that order. Their objects vanish some time later, as a vCenter's do ("completed within
// the past 10 minutes", TaskManager.recentTask); the task history keeps what they said.
type ended struct {
	lock  sync.Mutex
	tasks []endedTask
	known map[ref]bool
}

type endedTask struct {
	task, entity ref
	at           time.Time
}

// forgetTasks removes tasks that have ended some time ago.
func forgetTasks(s *core.Sim) error {
	if retention < 0 {
		return fmt.Errorf("invalid value %q for flag -task-retention: give a duration, as 90s or 10m, or 0 for never", retention)
	}
	if retention == 0 {
		return nil
	}
	e := &ended{known: make(map[ref]bool)}
	s.OnTask(e.tell)
	stop := make(chan struct{})
	s.OnStop(func() { close(stop) })
	go func() {
		select {
		case <-stop:
			return
		case <-s.Serving():
		}
		ticker := time.NewTicker(min(max(retention/10, 10*time.Millisecond), 10*time.Second))
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case now := <-ticker.C:
				forget(s.Context(), e.take(now.Add(-retention)))
			}
		}
	}()
	return nil
}

// tell hears what tasks say. The task is locked.
func (e *ended) tell(_ *simulator.Context, info types.TaskInfo) {
	if info.State != types.TaskInfoStateSuccess && info.State != types.TaskInfoStateError {
		return
	}
	e.lock.Lock()
	defer e.lock.Unlock()
	if e.known[info.Task] {
		return
	}
	e.known[info.Task] = true
	one := endedTask{task: info.Task, at: time.Now()}
	if info.Entity != nil {
		one.entity = *info.Entity
	}
	e.tasks = append(e.tasks, one)
}

// take takes the tasks that had ended at a time.
func (e *ended) take(before time.Time) []endedTask {
	e.lock.Lock()
	defer e.lock.Unlock()
	n := 0
	for n < len(e.tasks) && e.tasks[n].at.Before(before) {
		delete(e.known, e.tasks[n].task)
		n++
	}
	taken := slices.Clone(e.tasks[:n])
	e.tasks = slices.Delete(e.tasks, 0, n)
	return taken
}

// forget removes tasks, from the lists of recent ones first.
func forget(ctx *simulator.Context, tasks []endedTask) {
	if len(tasks) == 0 {
		return
	}
	gone := make(map[ref]bool, len(tasks))
	entities := make(map[ref]bool)
	for _, one := range tasks {
		gone[one.task], entities[one.entity] = true, true
	}
	service := ctx.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance)
	manager := ctx.Map.Get(*service.Content.TaskManager).(*simulator.TaskManager)
	manager.Lock()
	ctx.Update(manager, without(manager.RecentTask, gone))
	manager.Unlock()
	for entity := range entities {
		if object, ok := ctx.Map.Get(entity).(mo.Entity); ok {
			ctx.WithLock(object, func() { ctx.Update(object, without(object.Entity().RecentTask, gone)) })
		}
	}
	for task := range gone {
		ctx.Map.Remove(ctx, task)
	}
}

func without(tasks []ref, gone map[ref]bool) []types.PropertyChange {
	kept := slices.DeleteFunc(slices.Clone(tasks), func(task ref) bool { return gone[task] })
	return []types.PropertyChange{{Name: "recentTask", Val: kept}}
}
