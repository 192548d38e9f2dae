// SPDX-License-Identifier: Apache-2.0

// Package updates is the PropertyCollector's half that tells changes: WaitForUpdatesEx and what belongs to it.
//
// Each object knows the filters that look at it, so an update costs what changed: whoever changes an object leaves a note
// with each of those filters (engine), and the call that waits turns the notes into the changes to tell (filter), reading
// the values only then. The size of the inventory matters to the first answer only.
package updates

import (
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// engine hears of all changes of the inventory. It is one of the registry's handlers, and the only one of this package.
type engine struct {
	mo.SearchIndex // the library expects one of the API's types first

	sim        *core.Sim
	tellsAll   bool       // also what the API's reference does not promise to tell
	lock       sync.Mutex // never held while an object's lock is waited for: those who change objects come here with them
	watches    map[ref]*watch
	collectors map[collectorKey]*collection
	views      map[ref]*containerView
	lists      map[ref]*list
}

// watch is what the engine knows about who looks at one object.
type watch struct {
	members map[*filter]bool // filters to which the object belongs
	nodes   map[*node]bool   // traversals that go on from the object
	sources map[*node]bool   // traversals that lead to the object
}

func newEngine(s *core.Sim) *engine {
	e := &engine{
		sim: s, tellsAll: s.Lenient("notices"),
		watches: make(map[ref]*watch), collectors: make(map[collectorKey]*collection),
		views: make(map[ref]*containerView), lists: make(map[ref]*list),
	}
	e.Self = ref{Type: "UpdateEngine", Value: "updates"}
	return e
}

// at finds, or makes, the watch of an object. The engine is locked.
func (e *engine) at(obj ref) *watch {
	w := e.watches[obj]
	if w == nil {
		w = &watch{members: make(map[*filter]bool), nodes: make(map[*node]bool), sources: make(map[*node]bool)}
		e.watches[obj] = w
	}
	return w
}

// tidy forgets a watch in which nobody is interested any more. The engine is locked.
func (e *engine) tidy(obj ref) {
	if w := e.watches[obj]; w != nil && len(w.members)+len(w.nodes)+len(w.sources) == 0 {
		delete(e.watches, obj)
	}
}

// PutObject implements simulator.RegisterObject: an object was made, or moved to another parent.
func (e *engine) PutObject(ctx *simulator.Context, obj mo.Reference) {
	if _, entity := obj.(mo.Entity); !entity {
		return // nothing leads to it that would not tell by itself
	}
	e.lock.Lock()
	if w := e.watches[core.Ref(obj)]; w != nil { // moved, without a word
		e.note(w, core.Ref(obj), everything)
	}
	e.relate(ctx, obj)
	e.lock.Unlock()
	e.updateViews(ctx, obj)
}

// UpdateObject implements simulator.RegisterObject.
func (e *engine) UpdateObject(ctx *simulator.Context, obj mo.Reference, changes []types.PropertyChange) {
	self := core.Ref(obj)
	e.lock.Lock()
	moved := false
	watched := e.watches[self]
	for i := range changes {
		name := changes[i].Name
		moved = moved || movesObject(name)
		if watched != nil {
			e.note(watched, self, name)
		}
	}
	if task, ok := obj.(*mo.Task); ok {
		e.taskChanged(task)
	}
	if moved {
		if whole := ctx.Map.Get(self); whole != nil {
			obj = whole
		}
		e.relate(ctx, obj)
	}
	e.lock.Unlock()
	if moved {
		e.updateViews(ctx, obj)
	}
}

// RemoveObject implements simulator.RegisterObject.
func (e *engine) RemoveObject(ctx *simulator.Context, self ref) {
	e.lock.Lock()
	if obj := ctx.Map.Get(self); obj != nil {
		e.relate(ctx, obj)
	}
	if w := e.watches[self]; w != nil {
		for f := range w.members {
			f.notes().gone[self] = true
		}
		for n := range w.sources {
			n.filter.notes().gone[self] = true
		}
		for n := range w.nodes {
			n.filter.notes().gone[self] = true
		}
	}
	e.lock.Unlock()
	e.dropFromViews(ctx, self)
}

// note tells all who look at an object that a property of it has changed. The engine is locked.
func (e *engine) note(w *watch, self ref, name string) {
	if e.silent(self.Type, name) {
		return
	}
	for f := range w.members {
		f.notes().property(self, name)
	}
	for n := range w.nodes {
		if related(name, n.spec.Path) && !e.silent(self.Type, n.spec.Path) {
			n.filter.notes().dirty[n] = true
		}
	}
}

// taskChanged looks anew at what a task was about and what it has made, now that it has ended: the library changes objects
// without a word. Filters tell only what is not as it was.
func (e *engine) taskChanged(task *mo.Task) {
	if task.Info.State != types.TaskInfoStateSuccess && task.Info.State != types.TaskInfoStateError {
		return
	}
	about := make([]ref, 0, 2)
	if task.Info.Entity != nil {
		about = append(about, *task.Info.Entity)
	}
	if made, ok := task.Info.Result.(ref); ok {
		about = append(about, made)
	}
	for _, obj := range about {
		if w := e.watches[obj]; w != nil {
			e.note(w, obj, everything)
		}
	}
}

// relate looks anew at the traversals that lead, or led, to an object. The engine is locked.
func (e *engine) relate(ctx *simulator.Context, obj mo.Reference) {
	self := core.Ref(obj)
	if w := e.watches[self]; w != nil {
		for n := range w.sources {
			n.filter.notes().touch(n, self)
		}
	}
	for _, relation := range relationsOf(obj) {
		w := e.watches[relation.obj]
		if w == nil {
			continue
		}
		for n := range w.nodes {
			if n.spec.Path == relation.path {
				n.filter.notes().touch(n, self)
			}
		}
		for f := range w.members { // the library changes these lists without a word
			f.notes().property(relation.obj, relation.path)
		}
	}
}

// relation is an object and its property that lists another object.
type relation struct {
	obj  ref
	path string
}

// relationsOf finds what lists an object, by the object's own properties.
func relationsOf(obj mo.Reference) []relation {
	var list []relation
	if entity, ok := obj.(mo.Entity); ok {
		if parent := entity.Entity().Parent; parent != nil {
			list = append(list, relation{*parent, "childEntity"})
		}
	}
	vm, ok := obj.(*simulator.VirtualMachine)
	if !ok {
		return list
	}
	if vm.Runtime.Host != nil {
		list = append(list, relation{*vm.Runtime.Host, "vm"})
	}
	if vm.ResourcePool != nil {
		list = append(list, relation{*vm.ResourcePool, "vm"})
	}
	for _, datastore := range vm.Datastore {
		list = append(list, relation{datastore, "vm"})
	}
	return list
}

// movesObject reports whether a property is one of those by which relationsOf goes.
func movesObject(name string) bool {
	switch name {
	case "parent", "resourcePool", "datastore", "runtime", "runtime.host":
		return true
	}
	return false
}
