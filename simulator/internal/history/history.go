// SPDX-License-Identifier: Apache-2.0

// Package history is TaskManager.CreateCollectorForTasks. The library's collectors read tasks that run, and the list of
// collectors, without a lock; these here hold copies of what the tasks say.
package history

import (
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature lets clients look back at tasks: by state, time and entity.
var Feature = core.Feature{Name: "task history", Start: start}

const (
	remembered     = 1000
	mostCollectors = 32 // a vCenter's limit for one session
	defaultPage    = 10
)

type ref = types.ManagedObjectReference

type history struct {
	lock       sync.Mutex       // held while a collector's own is taken, never the other way round
	tasks      []types.TaskInfo // the oldest first
	collectors map[ref]*TaskHistoryCollector
}

func start(s *core.Sim) error {
	h := &history{collectors: make(map[ref]*TaskHistoryCollector)}
	s.OnTask(h.tell)
	core.Override(s, func(ctx *simulator.Context, req *types.CreateCollectorForTasks, _ core.Next) soap.HasFault {
		return h.create(ctx, req)
	})
	s.Around(keepEvents)
	return nil
}

// keepEvents keeps the list of collectors of events, which the library reads under the EventManager's lock, from being changed
// meanwhile by HistoryCollector.DestroyCollector.
func keepEvents(ctx *simulator.Context, call *core.Call, next core.Next) (answer soap.HasFault) {
	if call.Name != "DestroyCollector" {
		return next()
	}
	own := core.NewContext(ctx)
	own.WithLock(own.Map.EventManager(), func() { answer = next() })
	return answer
}

func (h *history) create(ctx *simulator.Context, req *types.CreateCollectorForTasks) soap.HasFault {
	c := &TaskHistoryCollector{history: h, size: defaultPage}
	c.Filter = req.Filter
	h.lock.Lock()
	defer h.lock.Unlock()
	for known := range h.collectors { // of sessions that have ended
		if h.collectors[known].session.Get(known) == nil {
			delete(h.collectors, known)
		}
	}
	if len(h.collectors) >= mostCollectors {
		return core.FaultMessage("Too many task collectors to create", &types.InvalidState{})
	}
	c.session = ctx.Session.Registry
	c.fill(ctx, h.tasks)
	c.Self = ctx.Session.Put(c).Reference()
	h.collectors[c.Self] = c
	return &methods.CreateCollectorForTasksBody{Res: &types.CreateCollectorForTasksResponse{Returnval: c.Self}}
}

// tell remembers what a task says now. The task is locked.
func (h *history) tell(ctx *simulator.Context, info types.TaskInfo) {
	h.lock.Lock()
	i := slices.IndexFunc(h.tasks, func(known types.TaskInfo) bool { return known.Key == info.Key })
	if i >= 0 && h.tasks[i].State == info.State {
		h.tasks[i] = info
		h.lock.Unlock()
		return // latestPage tells tasks that are new, or whose state has changed
	}
	if i >= 0 {
		h.tasks[i] = info
	} else if h.tasks = append(h.tasks, info); len(h.tasks) > remembered {
		h.tasks = slices.Delete(h.tasks, 0, len(h.tasks)-remembered)
	}
	var collectors []*TaskHistoryCollector
	for _, c := range h.collectors {
		collectors = append(collectors, c)
	}
	h.lock.Unlock()
	for _, c := range collectors {
		c.learn(ctx, info)
	}
}

// TaskHistoryCollector is one client's look at the history.
type TaskHistoryCollector struct {
	mo.TaskHistoryCollector

	history *history
	session *simulator.Registry

	lock sync.Mutex
	size int
	page []types.TaskInfo // the oldest first
	at   int              // the reading position: before page[at]
}

// fill takes the tasks that match.
func (c *TaskHistoryCollector) fill(ctx *simulator.Context, tasks []types.TaskInfo) {
	c.page, c.at = nil, 0
	for _, info := range tasks {
		if matches(ctx, c.Filter.(types.TaskFilterSpec), &info) {
			c.page = append(c.page, info)
		}
	}
	c.LatestPage = c.latest()
}

// latest is the newest tasks, the newest first.
func (c *TaskHistoryCollector) latest() []types.TaskInfo {
	newest := slices.Clone(c.page[max(0, len(c.page)-c.size):])
	slices.Reverse(newest)
	return newest
}

// learn takes what a task says now.
func (c *TaskHistoryCollector) learn(ctx *simulator.Context, info types.TaskInfo) {
	c.lock.Lock()
	i := slices.IndexFunc(c.page, func(known types.TaskInfo) bool { return known.Key == info.Key })
	switch {
	case i >= 0:
		c.page[i] = info
	case matches(ctx, c.Filter.(types.TaskFilterSpec), &info):
		if c.page = append(c.page, info); len(c.page) > remembered {
			c.page, c.at = slices.Delete(c.page, 0, 1), max(0, c.at-1)
		}
	default:
		c.lock.Unlock()
		return
	}
	latest := c.latest()
	c.lock.Unlock()
	ctx.Map.AtomicUpdate(core.NewContext(ctx), c, []types.PropertyChange{{Name: "latestPage", Val: latest}})
}

// ReadNextTasks answers with tasks after the reading position, which moves on.
func (c *TaskHistoryCollector) ReadNextTasks(_ *simulator.Context, req *types.ReadNextTasks) soap.HasFault {
	if req.MaxCount <= 0 {
		return core.Fault(&types.InvalidArgument{InvalidProperty: "maxCount"})
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	read := slices.Clone(c.page[c.at:min(len(c.page), c.at+int(req.MaxCount))])
	c.at += len(read)
	return &methods.ReadNextTasksBody{Res: &types.ReadNextTasksResponse{Returnval: read}}
}

// ReadPreviousTasks answers with tasks before the reading position, the nearest first; the position moves back.
func (c *TaskHistoryCollector) ReadPreviousTasks(_ *simulator.Context, req *types.ReadPreviousTasks) soap.HasFault {
	if req.MaxCount <= 0 {
		return core.Fault(&types.InvalidArgument{InvalidProperty: "maxCount"})
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	read := slices.Clone(c.page[max(0, c.at-int(req.MaxCount)):c.at])
	slices.Reverse(read)
	c.at -= len(read)
	return &methods.ReadPreviousTasksBody{Res: &types.ReadPreviousTasksResponse{Returnval: read}}
}

// RewindCollector moves the reading position to the oldest task.
func (c *TaskHistoryCollector) RewindCollector(*simulator.Context, *types.RewindCollector) soap.HasFault {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.at = 0
	return &methods.RewindCollectorBody{Res: &types.RewindCollectorResponse{}}
}

// ResetCollector moves the reading position after the newest task.
func (c *TaskHistoryCollector) ResetCollector(*simulator.Context, *types.ResetCollector) soap.HasFault {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.at = len(c.page)
	return &methods.ResetCollectorBody{Res: &types.ResetCollectorResponse{}}
}

// SetCollectorPageSize says how many tasks latestPage holds.
func (c *TaskHistoryCollector) SetCollectorPageSize(
	ctx *simulator.Context, req *types.SetCollectorPageSize,
) soap.HasFault {
	if req.MaxCount < 0 || req.MaxCount > remembered {
		return core.Fault(&types.InvalidArgument{InvalidProperty: "maxCount"})
	}
	c.lock.Lock()
	if c.size = int(req.MaxCount); c.size == 0 {
		c.size = defaultPage
	}
	latest := c.latest()
	c.lock.Unlock()
	ctx.Update(c, []types.PropertyChange{{Name: "latestPage", Val: latest}})
	return &methods.SetCollectorPageSizeBody{Res: &types.SetCollectorPageSizeResponse{}}
}

// DestroyCollector ends the look.
func (c *TaskHistoryCollector) DestroyCollector(ctx *simulator.Context, req *types.DestroyCollector) soap.HasFault {
	ctx.Session.Remove(ctx, req.This)
	c.history.lock.Lock()
	delete(c.history.collectors, req.This)
	c.history.lock.Unlock()
	return &methods.DestroyCollectorBody{Res: &types.DestroyCollectorResponse{}}
}

// matches reports whether a filter lets a task through.
func matches(ctx *simulator.Context, spec types.TaskFilterSpec, info *types.TaskInfo) bool {
	if len(spec.State) > 0 && !slices.Contains(spec.State, info.State) {
		return false
	}
	if span := spec.Time; span != nil {
		if span.BeginTime != nil && info.QueueTime.Before(*span.BeginTime) ||
			span.EndTime != nil && info.QueueTime.After(*span.EndTime) {
			return false
		}
	}
	entity := spec.Entity
	if entity == nil {
		return true
	}
	self := info.Entity != nil && *info.Entity == entity.Entity
	switch entity.Recursion {
	case types.TaskFilterSpecRecursionOptionSelf:
		return self
	case types.TaskFilterSpecRecursionOptionChildren:
		return !self && below(ctx, info.Entity, entity.Entity)
	}
	return self || below(ctx, info.Entity, entity.Entity)
}

// below reports whether an entity is somewhere in another one.
func below(ctx *simulator.Context, entity *ref, above ref) bool {
	for entity != nil {
		object, ok := ctx.Map.Get(*entity).(mo.Entity)
		if !ok {
			return false
		}
		if entity = object.Entity().Parent; entity != nil && *entity == above {
			return true
		}
	}
	return false
}
