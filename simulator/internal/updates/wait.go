// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

const (
	// maxObjectUpdates is what one answer holds at most, as at a vCenter, where WaitOptions.maxObjectUpdates can only lower it.
	maxObjectUpdates = 100
	// gather is waited for after the first change, because changes come in groups.
	gather = 3 * time.Millisecond
)

type collectorKey struct {
	session string
	obj     ref
}

// collection is the state of one PropertyCollector of one session.
type collection struct {
	engine *engine
	key    collectorKey

	evaluation sync.Mutex // held by the call that works out an answer
	version    int
	previous   string           // the version for which the last answer was asked
	last       *types.UpdateSet // the last answer, in case it is lost

	// Guarded by the engine's lock.
	filters []*filter
	changed chan struct{} // closed when there is a note
	cancels chan struct{} // closed by CancelWaitForUpdates
	ended   error         // why there will be no more updates
	end     chan struct{}
}

// fault is an error that carries one of the API's faults.
type fault struct{ types.BaseMethodFault }

func (f fault) Error() string { return core.Message(f.BaseMethodFault) }

// collection finds, or makes, the state of a collector.
func (e *engine) collection(ctx *simulator.Context, obj ref) *collection {
	e.lock.Lock()
	defer e.lock.Unlock()
	key := collectorKey{ctx.Session.Key, obj}
	c := e.collectors[key]
	if c == nil {
		c = &collection{
			engine: e, key: key, changed: make(chan struct{}), cancels: make(chan struct{}), end: make(chan struct{}),
		}
		e.collectors[key] = c
	}
	return c
}

// wake lets waiting calls look. The engine is locked.
func (c *collection) wake() {
	select {
	case <-c.changed:
	default:
		close(c.changed)
	}
}

func (c *collection) add(f *filter) {
	c.engine.lock.Lock()
	defer c.engine.lock.Unlock()
	c.filters = append(c.filters, f)
	c.wake()
}

func (c *collection) remove(f *filter) {
	c.evaluation.Lock() // its lists belong to the evaluation
	defer c.evaluation.Unlock()
	c.engine.lock.Lock()
	defer c.engine.lock.Unlock()
	c.filters = slices.DeleteFunc(c.filters, func(known *filter) bool { return known == f })
	f.forget()
}

// close ends the collector and all calls that wait on it.
func (c *collection) close(reason types.BaseMethodFault) {
	c.engine.lock.Lock()
	if c.ended == nil {
		c.ended = fault{reason}
		close(c.end)
	}
	delete(c.engine.collectors, c.key)
	filters := slices.Clone(c.filters)
	c.engine.lock.Unlock()
	for _, f := range filters {
		c.remove(f)
	}
}

// cancel ends the calls that wait now.
func (c *collection) cancel() {
	c.engine.lock.Lock()
	defer c.engine.lock.Unlock()
	close(c.cancels)
	c.cancels = make(chan struct{})
}

// wait answers WaitForUpdatesEx. A zero limit waits for ever; a negative one does not wait. Without changes there is no set.
func (c *collection) wait(ctx *simulator.Context, version string, limit time.Duration, most int) (*types.UpdateSet, error) {
	var timer <-chan time.Time
	if limit > 0 {
		timer = time.After(limit)
	}
	c.engine.lock.Lock()
	cancelled := c.cancels
	c.engine.lock.Unlock()
	gone := core.Connection(ctx).Done()
	for {
		set, changed, err := c.look(ctx, version, most)
		if set != nil || err != nil || limit < 0 {
			return set, err
		}
		select {
		case <-changed:
			time.Sleep(gather)
		case <-timer:
			return nil, nil
		case <-cancelled:
			return nil, fault{&types.RequestCanceled{}}
		case <-c.end:
			return nil, c.ended
		case <-gone:
			return nil, nil
		}
	}
}

// look works out what there is to tell now. If nothing, it returns what is closed at the next change.
func (c *collection) look(ctx *simulator.Context, version string, most int) (*types.UpdateSet, <-chan struct{}, error) {
	c.evaluation.Lock()
	defer c.evaluation.Unlock()
	c.engine.lock.Lock()
	if c.ended != nil {
		c.engine.lock.Unlock()
		return nil, nil, c.ended
	}
	c.changed = make(chan struct{})
	changed, filters := c.changed, slices.Clone(c.filters)
	c.engine.lock.Unlock()

	switch {
	case version == "":
		for _, f := range filters {
			f.restart()
		}
	case version == strconv.Itoa(c.version) && c.last != nil:
	case version == c.previous && c.last != nil: // the client did not get the last answer
		return c.last, nil, nil
	default:
		return nil, nil, fault{&types.InvalidCollectorVersion{}}
	}
	for _, f := range filters {
		f.evaluate(ctx)
	}
	set := page(ctx, filters, most)
	if len(set.FilterSet) == 0 && version != "" {
		return nil, changed, nil
	}
	c.previous = version
	c.version++
	set.Version = strconv.Itoa(c.version)
	c.last = set
	return set, nil, nil
}

// page fills one answer.
func page(ctx *simulator.Context, filters []*filter, most int) *types.UpdateSet {
	set := &types.UpdateSet{}
	left := most
	for _, f := range filters {
		update := types.PropertyFilterUpdate{Filter: f.Self}
		for !f.pending.empty() {
			if left == 0 {
				set.Truncated = types.NewBool(true)
				break
			}
			obj, c := f.pending.take()
			if c == nil {
				break
			}
			if told, ok := f.tell(ctx, obj, c); ok {
				update.ObjectSet = append(update.ObjectSet, told)
				left--
			}
		}
		if len(update.ObjectSet) > 0 {
			set.FilterSet = append(set.FilterSet, update)
		}
	}
	return set
}
