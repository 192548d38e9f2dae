// SPDX-License-Identifier: Apache-2.0

// Package storage gives the simulated vCenter true storage: datastores that fill up, disks with content, and methods that do
// to both what a vCenter does.
//
// The files of a datastore lie in its folder; what they cost is a rule (vdisk.CostOf). A volume sums it up, and after every
// operation the datastore's summary says so: capacity - freeSpace is the sum over the files, always, and GET /space of the
// control endpoint proves it.
package storage

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/vdisk"
)

// Store knows the files of all datastores.
type Store struct {
	sim *core.Sim

	lock    sync.Mutex
	volumes map[string]*volume // by folder
	// attached holds, by virtual machine, the descriptors of the disks that it writes to and of those that these read through.
	attached map[types.ManagedObjectReference]*attachment
	tops     map[string]int // how many virtual machines write to a disk

	// users are, by disk, those that write to it or read through it.
	users map[string]map[types.ManagedObjectReference]bool
	// mounted are the datastores that have a folder: one export is several datastores in several datacenters.
	mounted map[string][]types.ManagedObjectReference
	// lingering are locks, by disk, whose holders have given the disks back.
	lingering map[string]lingering

	claimsLock sync.Mutex
	claims     map[string]bool // names that somebody is about to use
	working    keyedLocks
	leases     leases

	instances *instances
}

// volume is the files of one datastore.
type volume struct {
	dir         string
	files       map[string]vdisk.Cost
	used        int64
	reserved    []*reservation
	uncommitted int64
}

// reservation is space for a file, or for a folder's, that is not measured yet.
type reservation struct {
	local string
	left  int64
}

// covers says whether a file is what the space was reserved for, or a part of it.
func (r *reservation) covers(file string) bool {
	return file == r.local || isBelow(file, r.local) ||
		file == vdisk.ExtentName(r.local, "-flat") || file == vdisk.ExtentName(r.local, "-delta")
}

func (v *volume) reservedBytes() (bytes int64) {
	for _, r := range v.reserved {
		bytes += r.left
	}
	return bytes
}

// settle takes what a file was found to have grown by off what is reserved for it: else it would count twice until the
// operation ends, and another one would be told that a datastore is full which is not.
func (v *volume) settle(file string, grown int64) {
	for _, r := range v.reserved {
		if taken := min(grown, r.left); taken > 0 && r.covers(file) {
			r.left -= taken
			grown -= taken
		}
	}
}

// Of finds the store of a simulated vCenter, for features that need it. It is there once Feature has started.
func Of(s *core.Sim) *Store {
	storesLock.Lock()
	defer storesLock.Unlock()
	return stores[s]
}

var (
	storesLock sync.Mutex
	stores     = make(map[*core.Sim]*Store)
)

func newStore(s *core.Sim) *Store {
	store := &Store{
		sim: s, volumes: make(map[string]*volume), attached: make(map[types.ManagedObjectReference]*attachment),
		tops: make(map[string]int), users: make(map[string]map[types.ManagedObjectReference]bool), claims: make(map[string]bool),
		lingering: make(map[string]lingering), mounted: make(map[string][]types.ManagedObjectReference),
	}
	store.instances = followInstances(s.Map())
	storesLock.Lock()
	stores[s] = store
	storesLock.Unlock()
	return store
}

// Dir is the folder of a datastore's files.
func Dir(ds *simulator.Datastore) string { return path.Clean(ds.Summary.Url) }

// volume finds a datastore's volume, and measures its files when it is first asked for. The lock is held.
func (s *Store) volume(dir string) *volume {
	v := s.volumes[dir]
	if v == nil {
		v = &volume{dir: dir, files: make(map[string]vdisk.Cost)}
		s.volumes[dir] = v
		for file, cost := range measure(dir) {
			s.set(v, file, cost)
		}
	}
	return v
}

// measure walks the files of a folder.
func measure(dir string) map[string]vdisk.Cost {
	costs := make(map[string]vdisk.Cost)
	_ = filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			costs[file] = vdisk.CostOf(file, info)
		}
		return nil
	})
	return costs
}

func (s *Store) set(v *volume, file string, cost vdisk.Cost) {
	old := v.files[file]
	v.used += cost.Used - old.Used
	v.settle(file, cost.Used-old.Used)
	if s.tops[old.Disk] > 0 {
		v.uncommitted -= old.Uncommitted
	}
	if s.tops[cost.Disk] > 0 {
		v.uncommitted += cost.Uncommitted
	}
	if cost == (vdisk.Cost{}) {
		delete(v.files, file)
	} else {
		v.files[file] = cost
	}
}

// countTop notes that a virtual machine writes to a disk (+1), or no longer does (-1): what the disks in use may still take
// is a volume's uncommitted space. The lock is held.
func (s *Store) countTop(disk string, change int) {
	before := s.tops[disk]
	if s.tops[disk] += change; s.tops[disk] == 0 {
		delete(s.tops, disk)
	}
	if (before > 0) == (before+change > 0) {
		return
	}
	for dir := path.Dir(disk); dir != path.Dir(dir); dir = path.Dir(dir) {
		v := s.volumes[dir]
		if v == nil {
			continue
		}
		for _, suffix := range []string{"-flat", "-delta"} {
			if cost := v.files[vdisk.ExtentName(disk, suffix)]; cost.Disk == disk {
				v.uncommitted += int64(change) * cost.Uncommitted
			}
		}
	}
}

// Touch measures files again, after something was done to them. Folders stand for all that is in them.
func (s *Store) Touch(ctx *simulator.Context, ds *simulator.Datastore, files ...string) {
	s.lock.Lock()
	v := s.volume(Dir(ds))
	for _, file := range files {
		s.touch(v, path.Clean(file))
	}
	s.lock.Unlock()
	s.Changed(ctx, ds)
}

func (s *Store) touch(v *volume, file string) {
	info, err := os.Lstat(file)
	if err == nil && !info.IsDir() {
		s.set(v, file, vdisk.CostOf(file, info))
		return
	}
	for known := range v.files { // gone, or a folder
		if known == file || isBelow(known, file) {
			s.set(v, known, vdisk.Cost{})
		}
	}
	if err == nil {
		for found, cost := range measure(file) {
			s.set(v, found, cost)
		}
	}
}

func isBelow(file, dir string) bool {
	return len(file) > len(dir) && file[:len(dir)] == dir && file[len(dir)] == '/'
}

// Reserve takes space for a file that is about to be written, or says that there is not enough. What is returned gives back
// what the files, once measured, did not take.
func (s *Store) Reserve(at place, bytes int64) (func(), types.BaseMethodFault) {
	s.lock.Lock()
	defer s.lock.Unlock()
	v := s.volume(Dir(at.ds))
	if bytes > at.ds.Summary.Capacity-v.used-v.reservedBytes() {
		return func() {}, &types.NoDiskSpace{FileFault: types.FileFault{File: at.String()}, Datastore: places.Name(at.ds)}
	}
	made := &reservation{local: at.local(), left: bytes}
	v.reserved = append(v.reserved, made)
	return func() {
		s.lock.Lock()
		v.reserved = slices.DeleteFunc(v.reserved, func(r *reservation) bool { return r == made })
		s.lock.Unlock()
	}, nil
}
