// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"
	"path"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/places"
	"vcenter-sim/internal/vdisk"
)

// Settle brings everything up to date that follows from a virtual machine's devices and files: the datastores that it is on,
// their space, the file layout, the storage summary, and who has which disk open.
func (s *Store) Settle(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	s.Learn(ctx, vm)
	dc := datacenterOf(ctx, vm.Self)
	home, fault := parse(ctx, dc, vm.Config.Files.VmPathName)
	if dc == nil || fault != nil {
		return
	}
	l := &layouter{store: s, ctx: ctx, vm: vm, keys: make(map[string]int32), usage: make(map[types.ManagedObjectReference]*usage)}
	ctx.WithLock(vm, func() {
		l.before = append(l.before, vm.Datastore...)
		l.homeFiles(home)
		l.disks()
		l.snapshots()
		if !s.sim.Lenient("media-datastores") {
			l.media(dc)
		}
	})
	for _, ds := range l.order {
		s.Touch(ctx, ds, l.files[ds.Self]...)
	}
	ctx.WithLock(vm, l.publish)
	l.relink()
}

type usage struct{ committed, uncommitted, unshared int64 }

// layouter collects the files of a virtual machine.
type layouter struct {
	store *Store
	ctx   *simulator.Context
	vm    *simulator.VirtualMachine

	layout   types.VirtualMachineFileLayout
	layoutEx types.VirtualMachineFileLayoutEx
	keys     map[string]int32
	usage    map[types.ManagedObjectReference]*usage
	order    []*simulator.Datastore
	files    map[types.ManagedObjectReference][]string
	before   []types.ManagedObjectReference // the datastores that it was on
}

func (l *layouter) on(ds *simulator.Datastore) *usage {
	u := l.usage[ds.Self]
	if u == nil {
		u = new(usage)
		l.usage[ds.Self] = u
		l.order = append(l.order, ds)
	}
	return u
}

// file notes one file and returns its key.
func (l *layouter) file(at place, kind types.VirtualMachineFileLayoutExFileType, shared bool) int32 {
	name := at.String()
	if key, known := l.keys[name]; known {
		return key
	}
	key := int32(len(l.keys))
	l.keys[name] = key
	var cost vdisk.Cost
	accessible := false
	if info, err := os.Lstat(at.local()); err == nil {
		cost, accessible = vdisk.CostOf(at.local(), info), true
	}
	u := l.on(at.ds)
	u.committed += cost.Used
	unique := cost.Used
	if shared {
		unique = 0
	}
	u.unshared += unique
	l.layoutEx.File = append(l.layoutEx.File, types.VirtualMachineFileLayoutExFileInfo{
		Key: key, Name: name, Type: string(kind), Size: cost.Used, UniqueSize: unique, Accessible: types.NewBool(accessible)})
	if l.files == nil {
		l.files = make(map[types.ManagedObjectReference][]string)
	}
	l.files[at.ds.Self] = append(l.files[at.ds.Self], at.local())
	return key
}

var fileKinds = map[string]types.VirtualMachineFileLayoutExFileType{
	".vmx": types.VirtualMachineFileLayoutExFileTypeConfig, ".nvram": types.VirtualMachineFileLayoutExFileTypeNvram,
	".log": types.VirtualMachineFileLayoutExFileTypeLog, ".vmsd": types.VirtualMachineFileLayoutExFileTypeSnapshotList,
	".vmsn": types.VirtualMachineFileLayoutExFileTypeSnapshotData, ".vmem": types.VirtualMachineFileLayoutExFileTypeSnapshotMemory,
	".vswp": types.VirtualMachineFileLayoutExFileTypeSwap,
}

// homeFiles notes the files of the virtual machine's folder that are no disks.
func (l *layouter) homeFiles(home place) {
	l.file(home, types.VirtualMachineFileLayoutExFileTypeConfig, false)
	entries, _ := os.ReadDir(home.dir().local())
	for _, entry := range entries {
		extension := path.Ext(entry.Name())
		kind, known := fileKinds[extension]
		if entry.IsDir() || !known || extension == ".vmx" {
			continue
		}
		l.file(home.dir().join(entry.Name()), kind, false)
		switch extension {
		case ".log":
			l.layout.LogFile = append(l.layout.LogFile, entry.Name())
		case ".nvram", ".vmsd":
			l.layout.ConfigFile = append(l.layout.ConfigFile, entry.Name())
		}
	}
}

// chain notes a disk with all that it reads through, from the bottom up, as the API lists it.
func (l *layouter) chain(at place) []types.VirtualMachineFileLayoutExDiskUnit {
	var units []types.VirtualMachineFileLayoutExDiskUnit
	for range 256 {
		shared := l.store.readers(at.local(), l.vm.Self) > 0
		keys := []int32{l.file(at, types.VirtualMachineFileLayoutExFileTypeDiskDescriptor, shared)}
		d, err := vdisk.ReadDescriptor(at.local())
		if err != nil {
			break
		}
		for _, extent := range vdisk.Files(at.local(), d)[1:] {
			keys = append(keys, l.file(at.dir().join(path.Base(extent)), types.VirtualMachineFileLayoutExFileTypeDiskExtent, shared))
		}
		units = append(units, types.VirtualMachineFileLayoutExDiskUnit{FileKey: keys})
		next, ok := l.store.placeNear(l.ctx, vdisk.ParentPath(at.local(), d), at.ds)
		if !ok {
			break
		}
		at = next
	}
	slices.Reverse(units)
	return units
}

func (l *layouter) disks() {
	for _, disk := range disks(l.vm.Config.Hardware.Device) {
		at, ok := placeOfDisk(l.ctx, disk)
		if !ok {
			continue
		}
		units := l.chain(at)
		l.layoutEx.Disk = append(l.layoutEx.Disk, types.VirtualMachineFileLayoutExDiskLayout{Key: disk.Key, Chain: units})
		var names []string
		for _, unit := range units {
			names = append(names, l.layoutEx.File[unit.FileKey[0]].Name)
		}
		l.layout.Disk = append(l.layout.Disk, types.VirtualMachineFileLayoutDiskLayout{Key: disk.Key, DiskFile: names})
		for _, suffix := range []string{"-flat", "-delta"} {
			extent := vdisk.ExtentName(at.local(), suffix)
			if info, err := os.Lstat(extent); err == nil {
				l.on(at.ds).uncommitted += vdisk.CostOf(extent, info).Uncommitted
			}
		}
	}
}

// media counts the datastores of images: of CD-ROMs and floppies, the snapshots' too. The files are not the virtual machine's.
func (l *layouter) media(dc *simulator.Datacenter) {
	count := func(devices []types.BaseVirtualDevice) {
		for _, device := range devices {
			if name := places.Media(device); name != "" {
				if at, fault := parse(l.ctx, dc, name); fault == nil {
					l.on(at.ds)
				}
			}
		}
	}
	count(l.vm.Config.Hardware.Device)
	eachSnapshot(l.ctx, l.vm, func(snapshot *simulator.VirtualMachineSnapshot) { count(snapshot.Config.Hardware.Device) })
}

func (l *layouter) snapshots() {
	eachSnapshot(l.ctx, l.vm, func(snapshot *simulator.VirtualMachineSnapshot) {
		ex := types.VirtualMachineFileLayoutExSnapshotLayout{Key: snapshot.Self, DataKey: -1, MemoryKey: -1}
		plain := types.VirtualMachineFileLayoutSnapshotLayout{Key: snapshot.Self}
		for _, disk := range disks(snapshot.Config.Hardware.Device) {
			if at, ok := placeOfDisk(l.ctx, disk); ok {
				ex.Disk = append(ex.Disk, types.VirtualMachineFileLayoutExDiskLayout{Key: disk.Key, Chain: l.chain(at)})
				plain.SnapshotFile = append(plain.SnapshotFile, at.String())
			}
		}
		if node := findNode(l.vm.Snapshot.RootSnapshotList, snapshot.Self); node != nil {
			for _, file := range l.layoutEx.File {
				switch path.Base(file.Name) {
				case snapshotFile(l.vm, node.Id, ".vmsn"):
					ex.DataKey = file.Key
				case snapshotFile(l.vm, node.Id, ".vmem"):
					ex.MemoryKey = file.Key
				}
			}
		}
		l.layoutEx.Snapshot = append(l.layoutEx.Snapshot, ex)
		l.layout.Snapshot = append(l.layout.Snapshot, plain)
	})
}

// publish lets the virtual machine's properties say it. Its lock is held.
func (l *layouter) publish() {
	now := time.Now()
	l.layoutEx.Timestamp = now
	storage := &types.VirtualMachineStorageInfo{Timestamp: now}
	summary := &types.VirtualMachineStorageSummary{Timestamp: now}
	var refs []types.ManagedObjectReference
	for _, ds := range l.order {
		u := l.usage[ds.Self]
		refs = append(refs, ds.Self)
		storage.PerDatastoreUsage = append(storage.PerDatastoreUsage, types.VirtualMachineUsageOnDatastore{
			Datastore: ds.Self, Committed: u.committed, Uncommitted: u.uncommitted, Unshared: u.unshared})
		summary.Committed += u.committed
		summary.Uncommitted += u.uncommitted
		summary.Unshared += u.unshared
	}
	changes := []types.PropertyChange{
		{Name: "layout", Val: &l.layout}, {Name: "layoutEx", Val: &l.layoutEx}, {Name: "storage", Val: storage},
		{Name: "summary.storage", Val: summary},
	}
	if !sameReferences(l.vm.Datastore, refs) {
		changes = append(changes, types.PropertyChange{Name: "datastore", Val: refs})
	}
	l.ctx.Update(l.vm, changes)
}

func sameReferences(a, b []types.ManagedObjectReference) bool {
	for _, ref := range a {
		if !slices.Contains(b, ref) {
			return false
		}
	}
	return len(a) == len(b)
}

// relink brings the datastores' list of virtual machines in line.
func (l *layouter) relink() {
	for _, ds := range l.order {
		setReferences(l.ctx, ds, "vm", &ds.Vm, l.vm.Self, true)
	}
	for _, ref := range l.before {
		if ds, ok := l.ctx.Map.Get(ref).(*simulator.Datastore); ok {
			setReferences(l.ctx, ds, "vm", &ds.Vm, l.vm.Self, l.usage[ds.Self] != nil)
		}
	}
}

// setReferences puts a reference into an object's list, or takes it out.
func setReferences(
	ctx *simulator.Context, obj mo.Reference, property string, list *[]types.ManagedObjectReference,
	ref types.ManagedObjectReference, there bool,
) {
	ctx.WithLock(obj, func() {
		if positions.contains(obj.Reference(), *list, ref) == there {
			return
		}
		var kept []types.ManagedObjectReference
		for _, known := range *list {
			if known != ref {
				kept = append(kept, known)
			}
		}
		if there {
			kept = append(kept, ref)
		} else {
			positions.forget(obj.Reference(), ref)
		}
		ctx.Update(obj, []types.PropertyChange{{Name: property, Val: kept}})
	})
}
