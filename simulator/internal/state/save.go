// SPDX-License-Identifier: Apache-2.0

// Package state saves a simulated vCenter and loads it again: the same references, uuids, machines, snapshots, disks.
//
// A saved state is a folder: state.json (what it is, the counters, what features keep), objects/ with a file for each object of the
// inventory, and files/ with the files of the datastores. Sessions, tasks, events and views are not part of it: they do not
// survive a vCenter's restart either.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/inventory"
)

const format = 1

// description is state.json.
type description struct {
	Format  int                        `json:"format"`
	Saved   time.Time                  `json:"saved"`
	Options inventory.Options          `json:"options"`
	Counter int64                      `json:"counter"`         // the number that the last reference got
	Tasks   int64                      `json:"tasks"`           // the same for tasks
	Files   string                     `json:"files,omitempty"` // where the files are; "" is files/ beside it
	Kept    map[string]json.RawMessage `json:"kept"`            // by feature
}

// writer writes one folder, again and again, and each time only what has changed.
type writer struct {
	sim     *core.Sim
	options inventory.Options
	dir     string
	files   string // what description.Files says

	lock    sync.Mutex
	digests map[ref]uint64
	own     uint64 // digest of state.json without its time
}

func newWriter(s *core.Sim, options inventory.Options, dir, files string) (*writer, error) {
	w := &writer{sim: s, options: options, dir: dir, files: files, digests: make(map[ref]uint64)}
	return w, os.MkdirAll(filepath.Join(dir, "objects"), 0o700)
}

var seed = maphash.MakeSeed()

// writeAll writes all objects, and removes those that are gone.
func (w *writer) writeAll() error {
	w.lock.Lock()
	defer w.lock.Unlock()
	alive := make(map[ref]bool)
	for _, obj := range w.sim.Map().AllReference("") {
		self := core.Ref(obj)
		if _, known := kept[self.Type]; known {
			alive[self] = true
			if err := w.write(self); err != nil {
				return err
			}
		}
	}
	for self := range w.digests {
		if !alive[self] {
			if err := w.write(self); err != nil {
				return err
			}
		}
	}
	return w.describe()
}

// writeSome writes the objects named.
func (w *writer) writeSome(objects map[ref]bool) error {
	w.lock.Lock()
	defer w.lock.Unlock()
	for self := range objects {
		if _, known := kept[self.Type]; known {
			if err := w.write(self); err != nil {
				return err
			}
		}
	}
	return w.describe()
}

func (w *writer) write(self ref) error {
	file := filepath.Join(w.dir, "objects", self.Type+"-"+self.Value+".json")
	obj := w.sim.Map().Get(self)
	if obj == nil {
		delete(w.digests, self)
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	var text []byte
	var err error
	w.sim.Context().WithLock(obj, func() { text, err = encode(obj) })
	if err != nil {
		return err
	}
	if digest := maphash.Bytes(seed, text); w.digests[self] != digest {
		if err = replace(file, text); err == nil {
			w.digests[self] = digest
		}
	}
	return err
}

func (w *writer) describe() error {
	d := description{
		Format: format, Options: w.options, Counter: counter(w.sim.Map()), Tasks: core.TaskNumber(), Files: w.files,
		Kept: make(map[string]json.RawMessage),
	}
	for name, keep := range w.sim.Kept() {
		text, err := json.Marshal(keep.Save())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		d.Kept[name] = text
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if digest := maphash.Bytes(seed, text); digest == w.own {
		return nil
	} else {
		w.own = digest
	}
	d.Saved = time.Now()
	if text, err = json.MarshalIndent(d, "", "  "); err != nil {
		return err
	}
	return replace(filepath.Join(w.dir, "state.json"), text)
}

// counter is the number from which the library makes references.
func counter(registry *simulator.Registry) int64 {
	return atomic.LoadInt64(ownField(registry, "counter").Addr().Interface().(*int64))
}

// Save writes the whole state into a folder. What was there is replaced in the end, in one step.
func Save(s *core.Sim, options inventory.Options, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := mayReplace(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".saving-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	w, err := newWriter(s, options, fresh, "")
	if err == nil {
		err = w.writeAll()
	}
	if err == nil {
		err = copyFiles(s.Settings.DataDir, filepath.Join(fresh, "files"))
	}
	if err != nil {
		return err
	}
	old := fresh + ".old"
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(fresh, dir); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// mayReplace refuses to overwrite what is no saved state.
func mayReplace(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "state.json")); err != nil {
		return fmt.Errorf("%s holds something else than a saved state: name an empty folder, or one that does not exist", dir)
	}
	return nil
}
