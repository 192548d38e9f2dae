// SPDX-License-Identifier: Apache-2.0

package core

import (
	"reflect"
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// innerTasks stands between the inventory and the library's TaskManager, and keeps from it the tasks of the library that are
// only a part of one of ours: a client sees one task for one call.
type innerTasks struct {
	mo.SearchIndex // empty; see dispatcher
	manager        *simulator.TaskManager

	lock   sync.Mutex
	hidden map[types.ManagedObjectReference]int // entities on which inner tasks begin now
	ended  map[types.ManagedObjectReference]chan struct{}

	prepare   []func(*simulator.Context, *simulator.Task)
	listeners []func(*simulator.Context, types.TaskInfo)
}

// PrepareTask has f change each task, the library's and those that clients never see among them, before anybody else looks at
// it. The task is locked then.
func (s *Sim) PrepareTask(f func(ctx *simulator.Context, task *simulator.Task)) {
	s.inner.prepare = append(s.inner.prepare, f)
}

// OnTask has f told what each task that clients know says, when it is made and whenever that changes. The task is locked then.
func (s *Sim) OnTask(f func(ctx *simulator.Context, info types.TaskInfo)) {
	s.inner.listeners = append(s.inner.listeners, f)
}

func (i *innerTasks) tell(ctx *simulator.Context, info types.TaskInfo) {
	for _, f := range i.listeners {
		f(ctx, info)
	}
}

func newInnerTasks(registry *simulator.Registry) *innerTasks {
	i := &innerTasks{
		manager: registry.Get(registry.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content.TaskManager.Reference()).(*simulator.TaskManager),
		hidden:  make(map[types.ManagedObjectReference]int),
		ended:   make(map[types.ManagedObjectReference]chan struct{}),
	}
	i.Self = types.ManagedObjectReference{Type: "InnerTasks", Value: "inner-tasks"}
	registry.RemoveHandler(i.manager)
	registry.AddHandler(i)
	return i
}

// PutObject implements simulator.RegisterObject.
func (i *innerTasks) PutObject(ctx *simulator.Context, obj mo.Reference) {
	task, ok := obj.(*simulator.Task)
	if !ok || task.Info.Entity == nil {
		return
	}
	inner := false
	ctx.WithLock(task, func() {
		i.lock.Lock()
		if inner = i.hidden[*task.Info.Entity] > 0; inner {
			i.ended[task.Self] = make(chan struct{})
		}
		i.lock.Unlock()
		for _, f := range i.prepare {
			f(ctx, task)
		}
		if !inner {
			i.tell(ctx, task.Info)
		}
	})
	if !inner {
		i.list(ctx, task)
	}
}

// list puts a task into recentTask of the TaskManager, and of the entity: that soon, as whoever makes the task has locked it.
func (i *innerTasks) list(ctx *simulator.Context, task *simulator.Task) {
	i.manager.Lock()
	ctx.Update(i.manager, withRecent(i.manager.RecentTask, task.Self))
	i.manager.Unlock()
	if entity, ok := ctx.Map.Get(*task.Info.Entity).(mo.Entity); ok {
		own := NewContext(ctx)
		go own.WithLock(entity, func() { own.Update(entity, withRecent(entity.Entity().RecentTask, task.Self)) })
	}
}

func withRecent(tasks []types.ManagedObjectReference, task types.ManagedObjectReference) []types.PropertyChange {
	const most = 200 // a vCenter's limit
	tasks = append(slices.Clone(tasks), task)
	return []types.PropertyChange{{Name: "recentTask", Val: tasks[max(0, len(tasks)-most):]}}
}

// UpdateObject implements simulator.RegisterObject.
func (i *innerTasks) UpdateObject(ctx *simulator.Context, obj mo.Reference, _ []types.PropertyChange) {
	task, ok := obj.(*mo.Task)
	if !ok {
		return
	}
	i.lock.Lock()
	ended, inner := i.ended[task.Self]
	i.lock.Unlock()
	if !inner {
		i.tell(ctx, task.Info)
	} else if state := task.Info.State; state == types.TaskInfoStateSuccess || state == types.TaskInfoStateError {
		select {
		case <-ended:
		default:
			close(ended)
		}
	}
}

// RemoveObject implements simulator.RegisterObject.
func (i *innerTasks) RemoveObject(ctx *simulator.Context, ref types.ManagedObjectReference) {
	i.manager.RemoveObject(ctx, ref)
}

// Inner runs a task of the library's on an entity as a part of one of ours: clients are not told of it. The context given to
// start, which calls the library's method, holds no locks.
func (s *Sim) Inner(
	ctx *simulator.Context, entity types.ManagedObjectReference, start func(*simulator.Context) soap.HasFault,
) (types.TaskInfo, types.BaseMethodFault) {
	i := s.inner
	i.count(entity, 1)
	answer := start(NewContext(ctx))
	i.count(entity, -1)
	if fault := answer.Fault(); fault != nil {
		if vim, ok := fault.VimFault().(types.BaseMethodFault); ok {
			return types.TaskInfo{}, vim
		}
		return types.TaskInfo{}, &types.SystemError{Reason: fault.String}
	}
	ref := reflect.ValueOf(answer).Elem().FieldByName("Res").Elem().FieldByName("Returnval").
		Interface().(types.ManagedObjectReference)
	task := ctx.Map.Get(ref).(*simulator.Task)
	i.lock.Lock()
	ended, inner := i.ended[ref]
	i.lock.Unlock()
	if inner {
		<-ended
	} else {
		task.Wait()
	}
	info := task.Info
	i.lock.Lock()
	delete(i.ended, ref)
	i.lock.Unlock()
	ctx.Map.Remove(NewContext(ctx), ref)
	if info.Error != nil {
		return info, info.Error.Fault
	}
	return info, nil
}

func (i *innerTasks) count(entity types.ManagedObjectReference, change int) {
	i.lock.Lock()
	defer i.lock.Unlock()
	if i.hidden[entity] += change; i.hidden[entity] == 0 {
		delete(i.hidden, entity)
	}
}
