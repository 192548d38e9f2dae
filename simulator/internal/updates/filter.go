// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"hash/maphash"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"

	"vcenter-sim/internal/collector"
)

// filter is one PropertyFilter. Its members and nodes belong to whoever evaluates its collection; the notes to the engine.
type filter struct {
	mo.PropertyFilter

	engine     *engine
	collection *collection
	named      map[string]*types.TraversalSpec

	started bool
	members map[ref]int // how many traversals, or object specifications, select the object
	nodes   map[nodeKey]*node
	pending pending

	kinds map[string]wanted
	told  map[ref]map[string]uint64 // digests of the values that the client knows
	noted *notes
}

// node is one traversal from one object.
type node struct {
	filter  *filter
	obj     ref
	spec    *types.TraversalSpec
	count   int // how often it is reached
	targets map[ref]bool
}

type nodeKey struct {
	obj  ref
	spec *types.TraversalSpec
}

// notes are what a filter was told and has not looked at.
type notes struct {
	names   map[ref][]string // properties that changed
	dirty   map[*node]bool   // traversals to read anew
	touched map[*node]*refs  // traversals that may have won or lost some objects
	gone    map[ref]bool     // objects that are no more
}

func newNotes() *notes {
	return &notes{
		names: make(map[ref][]string), dirty: make(map[*node]bool), touched: make(map[*node]*refs), gone: make(map[ref]bool),
	}
}

func (n *notes) property(obj ref, name string) {
	if names := n.names[obj]; !slices.Contains(names, name) {
		n.names[obj] = append(names, name)
	}
}

func (n *notes) touch(at *node, obj ref) {
	touched := n.touched[at]
	if touched == nil {
		touched = &refs{has: make(map[ref]bool)}
		n.touched[at] = touched
	}
	if !touched.has[obj] {
		touched.has[obj] = true
		touched.order = append(touched.order, obj)
	}
}

// refs are different objects, in order.
type refs struct {
	order []ref
	has   map[ref]bool
}

// notes returns the filter's notes for writing, and wakes who waits. The engine is locked.
func (f *filter) notes() *notes {
	f.collection.wake()
	return f.noted
}

// Lock does nothing: a filter looks after itself, and a call must not wait for another one that waits for updates.
func (f *filter) Lock() {}

// Unlock see Lock.
func (f *filter) Unlock() {}

// DestroyPropertyFilter implements PropertyFilter.DestroyPropertyFilter.
func (f *filter) DestroyPropertyFilter(ctx *simulator.Context, _ *types.DestroyPropertyFilter) soap.HasFault {
	f.collection.remove(f)
	if pc, ok := ctx.Session.Get(f.collection.key.obj).(*simulator.PropertyCollector); ok {
		f.engine.lock.Lock()
		pc.Filter = slices.DeleteFunc(slices.Clone(pc.Filter), func(known ref) bool { return known == f.Self })
		f.engine.lock.Unlock()
	}
	ctx.Session.Remove(ctx, f.Self)
	return &methods.DestroyPropertyFilterBody{Res: &types.DestroyPropertyFilterResponse{}}
}

// learn collects the names of traversals: a selection may name one that is written further down.
func (f *filter) learn(set []types.BaseSelectionSpec) {
	for _, selection := range set {
		if traversal, ok := selection.(*types.TraversalSpec); ok {
			if traversal.Name != "" {
				f.named[traversal.Name] = traversal
			}
			f.learn(traversal.SelectSet)
		}
	}
}

// check finds a selection that names no traversal.
func (f *filter) check(set []types.BaseSelectionSpec) types.BaseMethodFault {
	for _, selection := range set {
		if traversal, ok := selection.(*types.TraversalSpec); ok {
			if fault := f.check(traversal.SelectSet); fault != nil {
				return fault
			}
		} else if name := selection.GetSelectionSpec().Name; f.named[name] == nil {
			return &types.InvalidArgument{InvalidProperty: "selectSet " + name}
		}
	}
	return nil
}

// restart forgets all, so that the next evaluation tells everything.
func (f *filter) restart() {
	f.engine.lock.Lock()
	defer f.engine.lock.Unlock()
	f.forget()
	f.started, f.pending, f.noted = false, pending{}, newNotes()
	f.members, f.nodes, f.kinds = make(map[ref]int), make(map[nodeKey]*node), make(map[string]wanted)
	f.told = make(map[ref]map[string]uint64)
}

// forget leaves the engine's lists. The engine is locked.
func (f *filter) forget() {
	for obj := range f.members {
		if w := f.engine.watches[obj]; w != nil {
			delete(w.members, f)
			f.engine.tidy(obj)
		}
	}
	for _, n := range f.nodes {
		for target := range n.targets {
			if w := f.engine.watches[target]; w != nil {
				delete(w.sources, n)
				f.engine.tidy(target)
			}
		}
		if w := f.engine.watches[n.obj]; w != nil {
			delete(w.nodes, n)
			f.engine.tidy(n.obj)
		}
	}
}

// evaluate turns the notes into changes to tell.
func (f *filter) evaluate(ctx *simulator.Context) {
	if !f.started {
		f.started = true
		for i := range f.Spec.ObjectSet {
			start := &f.Spec.ObjectSet[i]
			if _, value := collector.Managed(ctx, start.Obj); !value.IsValid() {
				continue
			}
			if !isTrue(start.Skip) {
				f.join(ctx, start.Obj)
			}
			f.expand(ctx, start.Obj, start.SelectSet)
		}
	}
	f.engine.lock.Lock()
	noted := f.noted
	f.noted = newNotes()
	f.engine.lock.Unlock()

	for obj := range noted.gone {
		f.drop(ctx, obj)
	}
	for n := range noted.dirty {
		if f.nodes[nodeKey{n.obj, n.spec}] == n {
			f.retarget(ctx, n)
		}
	}
	for n, touched := range noted.touched {
		if f.nodes[nodeKey{n.obj, n.spec}] != n {
			continue
		}
		for _, obj := range touched.order {
			if !noted.gone[obj] {
				f.recheck(ctx, n, obj)
			}
		}
	}
	for obj, names := range noted.names {
		if f.members[obj] > 0 {
			f.modify(ctx, obj, names)
		}
	}
}

// join makes an object a member, or one by one more way.
func (f *filter) join(ctx *simulator.Context, obj ref) {
	f.members[obj]++
	if f.members[obj] > 1 || !f.wanted(ctx, obj).any {
		return
	}
	f.engine.lock.Lock()
	f.engine.at(obj).members[f] = true
	f.engine.lock.Unlock()
	f.pending.add(obj, types.ObjectUpdateKindEnter)
}

func (f *filter) part(obj ref) {
	if f.members[obj]--; f.members[obj] > 0 {
		return
	}
	f.leave(obj)
}

func (f *filter) leave(obj ref) {
	delete(f.members, obj)
	delete(f.told, obj)
	f.engine.lock.Lock()
	if w := f.engine.watches[obj]; w != nil {
		delete(w.members, f)
		f.engine.tidy(obj)
	}
	f.engine.lock.Unlock()
	if f.kinds[obj.Type].any {
		f.pending.add(obj, types.ObjectUpdateKindLeave)
	}
}

// wanted is what the filter asks of an object's type.
func (f *filter) wanted(ctx *simulator.Context, obj ref) wanted {
	w, known := f.kinds[obj.Type]
	if !known {
		_, value := collector.Managed(ctx, obj)
		if !value.IsValid() {
			return wanted{}
		}
		w = wantedOf(&f.Spec, obj.Type, value.Type())
		f.kinds[obj.Type] = w
	}
	return w
}

// expand follows traversals from an object.
func (f *filter) expand(ctx *simulator.Context, obj ref, set []types.BaseSelectionSpec) {
	for _, selection := range set {
		traversal := f.traversal(selection)
		key := nodeKey{obj, traversal}
		if n := f.nodes[key]; n != nil {
			n.count++
			continue
		}
		_, value := collector.Managed(ctx, obj)
		if !value.IsValid() || !collector.IsA(obj.Type, value.Type(), traversal.Type) {
			continue
		}
		n := &node{filter: f, obj: obj, spec: traversal, count: 1, targets: make(map[ref]bool)}
		f.nodes[key] = n
		f.engine.lock.Lock()
		f.engine.at(obj).nodes[n] = true
		f.engine.lock.Unlock()
		f.retarget(ctx, n)
	}
}

// contract takes back one expand.
func (f *filter) contract(ctx *simulator.Context, obj ref, set []types.BaseSelectionSpec) {
	for _, selection := range set {
		n := f.nodes[nodeKey{obj, f.traversal(selection)}]
		if n == nil {
			continue
		}
		if n.count--; n.count == 0 {
			f.cut(ctx, n)
		}
	}
}

// cut takes a traversal away with all that it leads to.
func (f *filter) cut(ctx *simulator.Context, n *node) {
	delete(f.nodes, nodeKey{n.obj, n.spec})
	for target := range n.targets {
		f.unlink(ctx, n, target)
	}
	f.engine.lock.Lock()
	if w := f.engine.watches[n.obj]; w != nil {
		delete(w.nodes, n)
		f.engine.tidy(n.obj)
	}
	f.engine.lock.Unlock()
}

func (f *filter) traversal(selection types.BaseSelectionSpec) *types.TraversalSpec {
	if traversal, ok := selection.(*types.TraversalSpec); ok {
		return traversal
	}
	return f.named[selection.GetSelectionSpec().Name]
}

// retarget reads a traversal's property anew.
func (f *filter) retarget(ctx *simulator.Context, n *node) {
	obj, value := collector.Managed(ctx, n.obj)
	if !value.IsValid() {
		return
	}
	var targets []ref
	ctx.WithLock(obj, func() { targets = collector.References(value, n.spec.Path) })
	now := make(map[ref]bool, len(targets))
	for _, target := range targets {
		if now[target] = true; !n.targets[target] {
			f.link(ctx, n, target)
		}
	}
	for target := range n.targets {
		if !now[target] {
			f.unlink(ctx, n, target)
		}
	}
}

func (f *filter) link(ctx *simulator.Context, n *node, target ref) {
	if _, value := collector.Managed(ctx, target); !value.IsValid() {
		return
	}
	n.targets[target] = true
	f.engine.lock.Lock()
	f.engine.at(target).sources[n] = true
	f.engine.lock.Unlock()
	if !isTrue(n.spec.Skip) {
		f.join(ctx, target)
	}
	f.expand(ctx, target, n.spec.SelectSet)
}

func (f *filter) unlink(ctx *simulator.Context, n *node, target ref) {
	delete(n.targets, target)
	f.engine.lock.Lock()
	if w := f.engine.watches[target]; w != nil {
		delete(w.sources, n)
		f.engine.tidy(target)
	}
	f.engine.lock.Unlock()
	f.contract(ctx, target, n.spec.SelectSet)
	if !isTrue(n.spec.Skip) {
		f.part(target)
	}
}

// recheck finds out whether one object still is, or has become, a target of a traversal.
func (f *filter) recheck(ctx *simulator.Context, n *node, obj ref) {
	is := f.engine.leadsTo(ctx, n, obj)
	switch {
	case is && !n.targets[obj]:
		f.link(ctx, n, obj)
	case !is && n.targets[obj]:
		f.unlink(ctx, n, obj)
	}
}

// leadsTo reports whether a traversal leads to an object, without reading the whole list that it goes by.
func (e *engine) leadsTo(ctx *simulator.Context, n *node, obj ref) bool {
	e.lock.Lock()
	view, known := e.views[n.obj], e.lists[n.obj]
	listed := known != nil && known.members[obj]
	e.lock.Unlock()
	if known != nil {
		return n.spec.Path == "view" && listed
	}
	if view != nil {
		return n.spec.Path == "view" && view.has(ctx, obj)
	}
	found := ctx.Map.Get(obj)
	if found == nil {
		return false
	}
	switch n.spec.Path {
	case "childEntity", "vm":
		return slices.Contains(relationsOf(found), relation{n.obj, n.spec.Path})
	}
	source, value := collector.Managed(ctx, n.obj)
	if !value.IsValid() {
		return false
	}
	is := false
	ctx.WithLock(source, func() { is = slices.Contains(collector.References(value, n.spec.Path), obj) })
	return is
}

// drop takes away an object that is no more.
func (f *filter) drop(ctx *simulator.Context, obj ref) {
	f.engine.lock.Lock()
	var nodes, sources []*node
	if w := f.engine.watches[obj]; w != nil {
		for n := range w.nodes {
			if n.filter == f {
				nodes = append(nodes, n)
			}
		}
		for n := range w.sources {
			if n.filter == f {
				sources = append(sources, n)
			}
		}
	}
	f.engine.lock.Unlock()
	for _, n := range sources {
		f.unlink(ctx, n, obj)
	}
	for _, n := range nodes {
		if f.nodes[nodeKey{n.obj, n.spec}] == n {
			f.cut(ctx, n)
		}
	}
	if f.members[obj] > 0 {
		f.leave(obj)
	}
}

// modify notes what is to be told about a member.
func (f *filter) modify(ctx *simulator.Context, obj ref, names []string) {
	w := f.wanted(ctx, obj)
	for _, name := range names {
		if paths := w.reported(name, f.PartialUpdates); len(paths) > 0 {
			f.pending.add(obj, types.ObjectUpdateKindModify, paths...)
		}
	}
}

// tell makes the update of an object, with the values of now. There is none if nothing of it was asked for, or it is gone.
func (f *filter) tell(ctx *simulator.Context, obj ref, c *change) (types.ObjectUpdate, bool) {
	update := types.ObjectUpdate{Obj: obj, Kind: c.kind}
	if c.kind == types.ObjectUpdateKindLeave {
		return update, true
	}
	set := f.Spec.PropSet
	if c.kind == types.ObjectUpdateKindModify && !slices.Contains(c.paths, everything) {
		set = []types.PropertySpec{{Type: obj.Type, PathSet: c.paths}}
	}
	found := collector.Collect(ctx, f.engine.sim, set, types.ObjectSpec{Obj: obj})
	if len(found) == 0 {
		return update, false
	}
	content := found[0]
	told := make(map[string]bool)
	for _, property := range content.PropSet {
		told[property.Name] = true
		update.ChangeSet = append(update.ChangeSet, types.PropertyChange{
			Name: property.Name, Op: types.PropertyChangeOpAssign, Val: property.Val})
	}
	update.MissingSet = content.MissingSet
	for _, missing := range content.MissingSet {
		told[missing.Path] = true
	}
	if c.kind == types.ObjectUpdateKindModify {
		for _, path := range c.paths { // what has no value any more
			if path != everything && !told[path] {
				update.ChangeSet = append(update.ChangeSet, types.PropertyChange{Name: path, Op: types.PropertyChangeOpAssign})
			}
		}
	}
	if c.kind == types.ObjectUpdateKindModify {
		update.ChangeSet = slices.DeleteFunc(update.ChangeSet, func(change types.PropertyChange) bool {
			return f.engine.silent(obj.Type, change.Name)
		})
	}
	f.dropKnown(&update)
	return update, c.kind == types.ObjectUpdateKindEnter || len(update.ChangeSet) > 0
}

var digestSeed = maphash.MakeSeed()

// dropKnown leaves out the values that the client knows. With partial updates, where a value may have been told by its parts,
// it cannot.
func (f *filter) dropKnown(update *types.ObjectUpdate) {
	if f.PartialUpdates {
		return
	}
	told := f.told[update.Obj]
	if told == nil || update.Kind == types.ObjectUpdateKindEnter {
		told = make(map[string]uint64, len(update.ChangeSet))
		f.told[update.Obj] = told
	}
	update.ChangeSet = slices.DeleteFunc(update.ChangeSet, func(change types.PropertyChange) bool {
		digest := uint64(0)
		if change.Val != nil {
			text, err := xml.Marshal(f.engine.audible(update.Obj.Type, change.Name, change.Val))
			if err != nil {
				return false
			}
			digest = maphash.Bytes(digestSeed, text)
		}
		before := told[change.Name]
		told[change.Name] = digest
		return update.Kind == types.ObjectUpdateKindModify && digest == before
	})
}
