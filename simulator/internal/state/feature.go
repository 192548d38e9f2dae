// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/control"
	"vcenter-sim/internal/core"
	"vcenter-sim/internal/inventory"
)

// Flags are where to load from and save to.
type Flags struct {
	// Load is the folder of a saved state to begin with, or "".
	Load string
	// Save is the folder to save the state to at the end, or "".
	Save string
	// Follow is a folder that is kept up to date all the time, for a supervisor that starts the vCenter again.
	Follow string
	// Reload has the vCenter started again from a saved state, once this process has ended.
	Reload func(dir string) error

	reloads chan struct{}
}

// Reloads is closed when the vCenter is to be loaded anew.
func (f *Flags) Reloads() <-chan struct{} { return f.reloads }

// Declare declares the flags.
func (f *Flags) Declare(set *flag.FlagSet) {
	set.StringVar(&f.Load, "state-load", "", "begin with the state that was saved in `FOLDER`; flags of the inventory do not apply")
	set.StringVar(&f.Save, "state-save", "", "save the state in `FOLDER` at the end; what was saved there is replaced")
	set.StringVar(&f.Follow, "state-follow", "", "keep the state in `FOLDER` up to date (what -supervise uses)")
}

// Check finds folders that cannot be used, before any work is done, and makes them independent of the working directory.
func (f *Flags) Check() error {
	for _, dir := range []*string{&f.Load, &f.Save, &f.Follow} {
		if *dir == "" {
			continue
		}
		absolute, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = absolute
	}
	if f.Save != "" {
		return mayReplace(f.Save)
	}
	return nil
}

// Start serves the control endpoint, and keeps the state saved as the flags say.
func (f *Flags) Start(s *core.Sim, options inventory.Options) error {
	f.reloads = make(chan struct{})
	reload := sync.OnceFunc(func() { close(f.reloads) })
	s.Control.HandleFunc("POST /state", onFolder(func(dir string) error { return Save(s, options, dir) }))
	s.Control.HandleFunc("POST /state/load", onFolder(func(dir string) error {
		_, err := Open(dir)
		if err == nil {
			err = f.Reload(dir)
		}
		if err == nil {
			f.Save = ""                                  // what is to be loaded may be there
			time.AfterFunc(100*time.Millisecond, reload) // after the answer
		}
		return err
	}))
	started := time.Now()
	s.Control.HandleFunc("GET /process", func(w http.ResponseWriter, _ *http.Request) {
		control.Answer(w, map[string]any{"pid": os.Getpid(), "started": started, "restored": s.Settings.Restored})
	})
	if f.Save != "" {
		s.OnStop(func() {
			if f.Save == "" {
				return
			}
			if err := Save(s, options, f.Save); err != nil {
				log.Printf("-state-save: %v", err)
			}
		})
	}
	if f.Follow == "" {
		return nil
	}
	w, err := newWriter(s, options, f.Follow, s.Settings.DataDir)
	if err != nil {
		return err
	}
	if s.Settings.Restored { // the files have moved here; should this process end now, the next one must know
		if err := w.describe(); err != nil {
			return err
		}
	}
	follow(s, w)
	return nil
}

// onFolder does something with the folder that a request names.
func onFolder(do func(dir string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Directory string `json:"directory"`
		}
		err := control.Decode(r.Body, &request)
		if err == nil && !filepath.IsAbs(request.Directory) {
			err = errors.New("directory: give an absolute path: {\"directory\": \"/...\"}")
		}
		if err == nil {
			err = do(request.Directory)
		}
		if err != nil {
			control.Refuse(w, http.StatusBadRequest, err)
			return
		}
		control.Answer(w, request)
	}
}

// follower writes what changes: soon after it has changed, and before a client is answered that may have learnt of it.
type follower struct {
	mo.SearchIndex
	writer *writer

	writing sync.Mutex // held from taking the changes until they are written
	lock    sync.Mutex
	changed map[ref]bool
	wake    chan struct{}
}

const (
	soon = 50 * time.Millisecond
	// share is how often the time that a look at all objects takes is waited for before the next one.
	share = 20
	// patience is how long an answer waits for the changes before it to be written.
	patience = time.Second
)

func follow(s *core.Sim, w *writer) {
	f := &follower{writer: w, changed: make(map[ref]bool), wake: make(chan struct{}, 1)}
	f.Self = ref{Type: "StateFollower", Value: "state"}
	s.Map().AddHandler(f)
	s.Around(func(_ *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		answer := next()
		f.settle(strings.HasPrefix(call.Name, "Pbm"))
		return answer
	})
	s.WrapHTTP(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			if rest := strings.HasPrefix(r.URL.Path, "/rest/") || strings.HasPrefix(r.URL.Path, "/api/"); rest && r.Method != http.MethodGet {
				f.settle(true) // a short answer leaves when the handler returns
			}
		})
	})
	stop, stopped := make(chan struct{}), make(chan struct{})
	s.OnStop(func() {
		close(stop)
		<-stopped
	})
	go f.run(stop, stopped)
}

func (f *follower) run(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	select {
	case <-stop:
		return
	case <-f.writer.sim.Serving():
	}
	all := time.NewTimer(0)
	for {
		select {
		case <-stop:
			return
		case <-all.C: // the library changes objects without a word
			begin := time.Now()
			f.write(f.writer.writeAll)
			all.Reset(max(time.Second, share*time.Since(begin)))
		case <-f.wake:
			select {
			case <-stop:
				return
			case <-time.After(soon):
			}
			f.write(f.writeChanged)
		}
	}
}

func (f *follower) write(what func() error) {
	f.writing.Lock()
	defer f.writing.Unlock()
	if err := what(); err != nil {
		log.Printf("-state-follow: %v", err)
	}
}

func (f *follower) writeChanged() error { return f.writer.writeSome(f.take()) }

// settle returns when all changes up to now are on disk; with tables, also what features keep. What cannot be written yet, because
// somebody has locked it for long, is not waited for longer than patience.
func (f *follower) settle(tables bool) {
	written := make(chan struct{})
	go func() {
		defer close(written)
		f.write(func() error {
			if f.lock.Lock(); len(f.changed) == 0 && !tables {
				f.lock.Unlock()
				return nil
			}
			f.lock.Unlock()
			return f.writeChanged()
		})
	}()
	select {
	case <-written:
	case <-time.After(patience):
	}
}

func (f *follower) note(objects ...ref) {
	f.lock.Lock()
	for _, obj := range objects {
		f.changed[obj] = true
	}
	f.lock.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *follower) take() map[ref]bool {
	f.lock.Lock()
	defer f.lock.Unlock()
	taken := f.changed
	f.changed = make(map[ref]bool)
	return taken
}

// PutObject implements simulator.RegisterObject.
func (f *follower) PutObject(_ *simulator.Context, obj mo.Reference) { f.note(obj.Reference()) }

// RemoveObject implements simulator.RegisterObject.
func (f *follower) RemoveObject(_ *simulator.Context, self types.ManagedObjectReference) {
	f.note(self)
}

// lasting reports whether a change is to be written: tasks are not kept, and lists of machines are made again from the machines.
func lasting(change types.PropertyChange) bool {
	return change.Name != "recentTask" && change.Name != "vm"
}

// UpdateObject implements simulator.RegisterObject.
func (f *follower) UpdateObject(_ *simulator.Context, obj mo.Reference, changes []types.PropertyChange) {
	task, ok := obj.(*mo.Task)
	if !ok {
		if slices.ContainsFunc(changes, lasting) {
			f.note(core.Ref(obj))
		}
		return
	}
	if task.Info.State == types.TaskInfoStateSuccess || task.Info.State == types.TaskInfoStateError {
		if task.Info.Entity != nil {
			f.note(*task.Info.Entity)
		}
		if made, ok := task.Info.Result.(ref); ok {
			f.note(made)
		}
	}
}
