// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"
	"path"
	"slices"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/places"
	"vcenter-sim/internal/vdisk"
)

// attachment is the disks of a virtual machine, as local paths of descriptors.
type attachment struct {
	tops    map[string]bool // what it writes to
	parents map[string]bool // what these and its snapshots read through
}

// Learn notes which disks a virtual machine has. It is called after anything that may change that.
func (s *Store) Learn(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	a := &attachment{tops: make(map[string]bool), parents: make(map[string]bool)}
	ctx.WithLock(vm, func() {
		if vm.Config == nil {
			return
		}
		for _, disk := range disks(vm.Config.Hardware.Device) {
			if local, ok := localBacking(ctx, disk); ok {
				a.tops[local] = true
				addParents(a.parents, local)
			}
		}
		eachSnapshot(ctx, vm, func(snapshot *simulator.VirtualMachineSnapshot) {
			for _, disk := range disks(snapshot.Config.Hardware.Device) {
				if local, ok := localBacking(ctx, disk); ok && !a.tops[local] {
					a.parents[local] = true
					addParents(a.parents, local)
				}
			}
		})
	})
	s.lock.Lock()
	for disk := range a.tops {
		s.countTop(disk, 1)
	}
	if old := s.attached[vm.Self]; old != nil && s.isRunning(vm.Self) {
		s.linger(vm.Self, old, a)
	}
	s.unlearn(vm.Self)
	s.attached[vm.Self] = a
	for _, set := range []map[string]bool{a.tops, a.parents} {
		for disk := range set {
			if s.users[disk] == nil {
				s.users[disk] = make(map[types.ManagedObjectReference]bool)
			}
			s.users[disk][vm.Self] = true
		}
	}
	s.lock.Unlock()
}

// Unlearn forgets a virtual machine that is gone.
func (s *Store) Unlearn(vm types.ManagedObjectReference) {
	s.lock.Lock()
	s.unlearn(vm)
	s.lock.Unlock()
}

func (s *Store) unlearn(vm types.ManagedObjectReference) {
	if a := s.attached[vm]; a != nil {
		for disk := range a.tops {
			s.countTop(disk, -1)
		}
		for _, set := range []map[string]bool{a.tops, a.parents} {
			for disk := range set {
				if delete(s.users[disk], vm); len(s.users[disk]) == 0 {
					delete(s.users, disk)
				}
			}
		}
	}
	delete(s.attached, vm)
}

func addParents(parents map[string]bool, local string) {
	for range 256 {
		d, err := vdisk.ReadDescriptor(local)
		if err != nil {
			return
		}
		if local = vdisk.ParentPath(local, d); local == "" || parents[local] {
			return
		}
		parents[local] = true
	}
}

// lingering is the lock of a disk that a running virtual machine has given back: its host takes some seconds to let it go.
type lingering struct {
	holder types.ManagedObjectReference
	until  time.Time
}

// linger notes the disks that a running virtual machine no longer has. The lock is held.
func (s *Store) linger(vm types.ManagedObjectReference, old, now *attachment) {
	if settings.lockRelease <= 0 || s.sim.Lenient("lingering-locks") {
		return
	}
	for disk, lock := range s.lingering {
		if time.Now().After(lock.until) {
			delete(s.lingering, disk)
		}
	}
	for _, set := range []map[string]bool{old.tops, old.parents} {
		for disk := range set {
			if _, err := os.Lstat(disk); err == nil && !now.tops[disk] && !now.parents[disk] { // else it has moved, or is merged
				s.lingering[disk] = lingering{vm, time.Now().Add(settings.lockRelease)}
			}
		}
	}
}

// lingers reports whether a disk's lock has not been let go yet. The lock is held.
func (s *Store) lingers(local string, except types.ManagedObjectReference) bool {
	lock, known := s.lingering[local]
	return known && lock.holder != except && time.Now().Before(lock.until)
}

// letGo ends the locks that linger, and counts them.
func (s *Store) letGo() map[string]int {
	s.lock.Lock()
	defer s.lock.Unlock()
	count := 0
	for _, lock := range s.lingering {
		if time.Now().Before(lock.until) {
			count++
		}
	}
	clear(s.lingering)
	return map[string]int{"let_go": count}
}

func (s *Store) isRunning(ref types.ManagedObjectReference) bool {
	vm, ok := s.sim.Map().Get(ref).(*simulator.VirtualMachine)
	return ok && places.Running(vm)
}

// user finds a running virtual machine, other than one, that has a disk open, or any that reads through it.
func (s *Store) user(local string, except types.ManagedObjectReference) (types.ManagedObjectReference, bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for vm := range s.users[local] {
		if vm != except && s.isRunning(vm) {
			return vm, true
		}
	}
	if s.lingers(local, except) {
		return s.lingering[local].holder, true
	}
	return types.ManagedObjectReference{}, false
}

// locked answers with the fault that a host gives for a disk that a running virtual machine has open.
func (s *Store) locked(p place, except types.ManagedObjectReference) types.BaseMethodFault {
	if _, used := s.user(p.local(), except); used {
		return &types.FileLocked{FileFault: types.FileFault{File: p.String()}}
	}
	return nil
}

// lockedBelow does the same for a folder, or for any file of a disk.
func (s *Store) lockedBelow(p place) types.BaseMethodFault {
	local := p.local()
	s.lock.Lock()
	defer s.lock.Unlock()
	for vm, a := range s.attached {
		if !s.isRunning(vm) {
			continue
		}
		for _, set := range []map[string]bool{a.tops, a.parents} {
			for disk := range set {
				if isFileOf(disk, local) {
					return &types.FileLocked{FileFault: types.FileFault{File: p.String()}}
				}
			}
		}
	}
	for disk := range s.lingering {
		if isFileOf(disk, local) && s.lingers(disk, types.ManagedObjectReference{}) {
			return &types.FileLocked{FileFault: types.FileFault{File: p.String()}}
		}
	}
	return nil
}

// isFileOf reports whether a path is a disk's descriptor or extent, or a folder that it lies in.
func isFileOf(disk, local string) bool {
	return disk == local || isBelow(disk, local) || vdisk.ExtentName(disk, "-flat") == local ||
		vdisk.ExtentName(disk, "-delta") == local
}

// readers counts the virtual machines, other than one, that have a disk or read through it.
func (s *Store) readers(local string, except types.ManagedObjectReference) int {
	s.lock.Lock()
	defer s.lock.Unlock()
	count := len(s.users[local])
	if s.users[local][except] {
		count--
	}
	return count
}

// holdsApart reports whether another virtual machine needs a disk and the delta on it, child, to stay apart: one that reads
// through them, or that runs. One that is off and only names one of them is not asked, and may name what is gone.
func (s *Store) holdsApart(local, child string, except types.ManagedObjectReference) bool {
	if s.sim.Lenient("shadow-consolidation") {
		return s.readers(local, except) > 0 || s.readers(child, except) > 0
	}
	return s.anyOther(except, []string{local, child}, func(other *attachment) bool {
		return other.parents[child] || other.parents[local] && !other.tops[child]
	})
}

// readsThrough reports whether another virtual machine runs on a disk or reads through it. Above are the deltas on it that one is
// asked about: who is off and only names one of them does not count.
func (s *Store) readsThrough(local string, above []string, except types.ManagedObjectReference) bool {
	if s.sim.Lenient("shadow-consolidation") {
		return s.readers(local, except) > 0
	}
	return s.anyOther(except, []string{local}, func(other *attachment) bool {
		return other.parents[local] && !slices.ContainsFunc(above, func(delta string) bool { return other.tops[delta] })
	})
}

// anyOther looks for another user of disks that runs, or for which needs says true.
func (s *Store) anyOther(except types.ManagedObjectReference, disks []string, needs func(*attachment) bool) bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, disk := range disks {
		for vm := range s.users[disk] {
			if vm != except && (s.isRunning(vm) || needs(s.attached[vm])) {
				return true
			}
		}
	}
	return false
}

// disks are the virtual disks among devices.
func disks(devices []types.BaseVirtualDevice) []*types.VirtualDisk {
	var found []*types.VirtualDisk
	for _, device := range devices {
		if disk, ok := device.(*types.VirtualDisk); ok {
			found = append(found, disk)
		}
	}
	return found
}

// fileOf is the path of a disk's file as the API writes it, or "".
func fileOf(disk *types.VirtualDisk) string {
	if backing, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		return backing.GetVirtualDeviceFileBackingInfo().FileName
	}
	return ""
}

// localBacking is the local path of a disk's descriptor.
func localBacking(ctx *simulator.Context, disk *types.VirtualDisk) (string, bool) {
	backing, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo)
	if !ok {
		return "", false
	}
	info := backing.GetVirtualDeviceFileBackingInfo()
	if info.Datastore == nil {
		return "", false
	}
	ds, ok := ctx.Map.Get(*info.Datastore).(*simulator.Datastore)
	var p object.DatastorePath
	if !ok || !p.FromString(info.FileName) {
		return "", false
	}
	return path.Join(Dir(ds), p.Path), true
}

// placeOfDisk is where a disk's descriptor lies.
func placeOfDisk(ctx *simulator.Context, disk *types.VirtualDisk) (place, bool) {
	local, ok := localBacking(ctx, disk)
	if !ok {
		return place{}, false
	}
	ds := ctx.Map.Get(*disk.Backing.(types.BaseVirtualDeviceFileBackingInfo).GetVirtualDeviceFileBackingInfo().Datastore)
	dir := Dir(ds.(*simulator.Datastore))
	return place{ds.(*simulator.Datastore), local[len(dir)+1:]}, true
}

func eachSnapshot(ctx *simulator.Context, vm *simulator.VirtualMachine, f func(*simulator.VirtualMachineSnapshot)) {
	if vm.Snapshot == nil {
		return
	}
	var walk func([]types.VirtualMachineSnapshotTree)
	walk = func(tree []types.VirtualMachineSnapshotTree) {
		for _, node := range tree {
			if snapshot, ok := ctx.Map.Get(node.Snapshot).(*simulator.VirtualMachineSnapshot); ok {
				f(snapshot)
			}
			walk(node.ChildSnapshotList)
		}
	}
	walk(vm.Snapshot.RootSnapshotList)
}
