// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/inventory"
	"vcenter-sim/internal/storage"
)

// unsaved is more references than are given between a save and the next one. A client that still waits for a task of before must
// not be told of another one that has its reference.
const unsaved = 100_000

// Saved is a state that was saved.
type Saved struct {
	dir         string
	description description
	records     map[ref]*record
}

// Open reads a saved state.
func Open(dir string) (*Saved, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Saved{dir: dir, records: make(map[ref]*record)}
	text, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no saved state (there is no state.json in it)", dir)
	}
	if err == nil {
		err = json.Unmarshal(text, &s.description)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "state.json"), err)
	}
	if s.description.Format != format {
		return nil, fmt.Errorf("%s was saved in format %d; this program reads format %d", dir, s.description.Format, format)
	}
	files, err := os.ReadDir(filepath.Join(dir, "objects"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".json") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "objects", file.Name()))
		if err != nil {
			return nil, err
		}
		r := &record{}
		if err := json.Unmarshal(text, r); err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		s.records[ref{Type: r.Type, Value: r.Value}] = r
	}
	return s, nil
}

// Options are those of the inventory that was saved.
func (s *Saved) Options() inventory.Options { return s.description.Options }

// Bare are the options of an inventory in which the saved one finds its place: hosts and networks, no machines.
func (s *Saved) Bare() inventory.Options {
	bare := s.description.Options
	bare.Machines, bare.Datastores, bare.CapacityOf = 0, 1, nil
	return bare
}

// Restore makes a bare inventory what was saved, before any feature looks at it. Dir is the folder of its files.
func (s *Saved) Restore(model *simulator.Model, dir string) error {
	if err := empty(dir); err != nil {
		return err
	}
	var err error
	if s.description.Files != "" {
		err = moveFiles(s.description.Files, dir)
	} else {
		err = copyFiles(filepath.Join(s.dir, "files"), dir)
	}
	if err != nil {
		return err
	}
	clear(inventory.Used)
	if err := s.addHosts(model); err != nil {
		return err
	}
	if err := s.apply(model.Service.Context, false); err != nil {
		return err
	}
	counter, tasks := s.description.Counter, s.description.Tasks
	if s.description.Files != "" { // the process ended unexpectedly, and may have given more numbers than it had saved
		counter, tasks = counter+unsaved, tasks+unsaved
	}
	ownField(model.Map(), "counter").SetInt(counter)
	core.SetTaskNumber(tasks)
	return nil
}

// Finish undoes what features did to the inventory when they started, and gives them back what they keep.
func (s *Saved) Finish(sim *core.Sim) error {
	ctx := sim.Context()
	if err := s.apply(ctx, true); err != nil {
		return err
	}
	for name, keep := range sim.Kept() {
		if text, known := s.description.Kept[name]; known {
			if err := keep.Load(text); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if store := storage.Of(sim); store != nil {
		for _, entity := range ctx.Map.All("VirtualMachine") {
			store.Learn(ctx, entity.(*simulator.VirtualMachine))
		}
		for _, entity := range ctx.Map.All("Datastore") {
			store.Changed(ctx, entity.(*simulator.Datastore))
		}
	}
	return nil
}

// apply makes all objects what they were. Once more, it leaves machines alone: no feature sets anything of theirs when it
// starts, and they are what takes long.
func (s *Saved) apply(ctx *simulator.Context, again bool) error {
	for _, obj := range ctx.Map.AllReference("") {
		self := obj.Reference()
		if _, known := kept[self.Type]; known && s.records[self] == nil {
			ctx.Map.Remove(ctx, self)
		}
	}
	for self, r := range s.records {
		obj := ctx.Map.Get(self)
		var err error
		switch {
		case obj == nil:
			err = s.make(ctx, self, r)
		case again && (self.Type == "VirtualMachine" || self.Type == "VirtualMachineSnapshot"):
		default:
			ctx.WithLock(obj, func() { err = r.decode(obj) })
		}
		if err != nil {
			return err
		}
	}
	relate(ctx)
	return nil
}

// make makes an object that a bare inventory does not have.
func (s *Saved) make(ctx *simulator.Context, self ref, r *record) error {
	create := kept[self.Type].make
	if create == nil {
		return s.unknown(self)
	}
	obj := create()
	if err := r.decode(obj); err != nil {
		return err
	}
	entity, ok := obj.(mo.Entity)
	if !ok {
		ctx.Map.Put(obj)
		return nil
	}
	config, overall, role := entity.Entity().ConfigStatus, entity.Entity().OverallStatus, entity.Entity().EffectiveRole
	ctx.Map.Put(obj) // says that all is well
	entity.Entity().ConfigStatus, entity.Entity().OverallStatus, entity.Entity().EffectiveRole = config, overall, role
	return nil
}

// unknown says that a saved object finds no place, and what to do.
func (s *Saved) unknown(self ref) error {
	return fmt.Errorf("%s holds %s, which an inventory of the same flags does not have: another version of this program saved it, "+
		"or %s was added later; begin without -state-load, and save the state anew", s.dir, self, self.Value)
}

// relate sets the lists of children and machines by what the children and machines say: the lists may have been written a
// moment earlier or later, if the simulator ended unexpectedly.
func relate(ctx *simulator.Context) {
	lists := make(map[*[]ref]map[ref]bool)
	in := func(list *[]ref, obj ref) {
		if lists[list] == nil {
			lists[list] = make(map[ref]bool)
		}
		lists[list][obj] = true
	}
	for _, entity := range ctx.Map.All("") {
		if list := childrenOf(ctx, entity.Entity().Parent); list != nil {
			in(list, entity.Reference())
		}
		for _, list := range machinesOf(ctx, entity) {
			in(list, entity.Reference())
		}
	}
	for _, entity := range ctx.Map.All("") {
		self := entity.Reference()
		if list := childrenOf(ctx, &self); list != nil {
			settle(list, lists[list])
		}
		if list := machineList(entity); list != nil {
			settle(list, lists[list])
		}
	}
}

// settle makes a list hold what it should, and leaves the order alone.
func settle(list *[]ref, should map[ref]bool) {
	var settled []ref
	for _, obj := range *list {
		if should[obj] {
			settled = append(settled, obj)
			delete(should, obj)
		}
	}
	for obj := range should {
		settled = append(settled, obj)
	}
	*list = settled
}

func childrenOf(ctx *simulator.Context, parent *ref) *[]ref {
	if parent == nil {
		return nil
	}
	switch folder := ctx.Map.Get(*parent).(type) {
	case *simulator.Folder:
		return &folder.ChildEntity
	case *simulator.StoragePod:
		return &folder.ChildEntity
	}
	return nil
}

func machinesOf(ctx *simulator.Context, entity mo.Entity) []*[]ref {
	vm, ok := entity.(*simulator.VirtualMachine)
	if !ok {
		return nil
	}
	places := append([]ref(nil), vm.Datastore...)
	if vm.Runtime.Host != nil {
		places = append(places, *vm.Runtime.Host)
	}
	if vm.ResourcePool != nil {
		places = append(places, *vm.ResourcePool)
	}
	var lists []*[]ref
	for _, place := range places {
		if at, ok := ctx.Map.Get(place).(mo.Entity); ok {
			if list := machineList(at); list != nil {
				lists = append(lists, list)
			}
		}
	}
	return lists
}

func machineList(entity mo.Entity) *[]ref {
	switch place := entity.(type) {
	case *simulator.HostSystem:
		return &place.Vm
	case *simulator.ResourcePool:
		return &place.Vm
	case *simulator.Datastore:
		return &place.Vm
	}
	return nil
}
