// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"
	"path"
	"sort"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/vdisk"
)

func (s *Store) overrideRelocate() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RelocateVM_Task, _ core.Next) soap.HasFault {
		return &methods.RelocateVM_TaskBody{Res: &types.RelocateVM_TaskResponse{
			Returnval: s.machineTask(ctx, req.This, "RelocateVM_Task",
				func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
					return nil, s.Relocate(ctx, vm, &req.Spec)
				})}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.MigrateVM_Task, _ core.Next) soap.HasFault {
		return &methods.MigrateVM_TaskBody{Res: &types.MigrateVM_TaskResponse{
			Returnval: s.machineTask(ctx, req.This, "MigrateVM_Task",
				func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
					return nil, s.Relocate(ctx, vm, &types.VirtualMachineRelocateSpec{Host: req.Host, Pool: req.Pool})
				})}}
	})
}

// relocation is one move in the making.
type relocation struct {
	store *Store
	ctx   *simulator.Context
	vm    *simulator.VirtualMachine
	spec  *types.VirtualMachineRelocateSpec
	home  place // the configuration file
	to    *simulator.Datastore
	host  *types.ManagedObjectReference
	disks []*moveDisk

	newHome  place
	folders  map[types.ManagedObjectReference]place // by datastore, where disks go
	moves    []layerMove
	releases []func()
}

// moveDisk is a disk that goes to another datastore.
type moveDisk struct {
	disk    *types.VirtualDisk
	from    place
	ds      *simulator.Datastore
	how     types.VirtualMachineRelocateDiskMoveOptions
	backing *types.VirtualDiskFlatVer2BackingInfo // what it is to become, or nil
}

// layerMove is one file of a disk's chain that goes: it is renamed, or copied because others need it where it is. Or the whole
// chain becomes one flat disk.
type layerMove struct {
	from, to place
	copy     bool
	flatten  bool
	spec     *vdisk.Spec // how a flat disk is to take its space, if that changes
}

// Relocate does what VirtualMachine.RelocateVM_Task does. Until all is known to fit, nothing is moved.
func (s *Store) Relocate(
	ctx *simulator.Context, vm *simulator.VirtualMachine, spec *types.VirtualMachineRelocateSpec,
) types.BaseMethodFault {
	r := &relocation{store: s, ctx: ctx, vm: vm, spec: spec}
	defer func() {
		for _, release := range r.releases {
			release()
		}
	}()
	if fault := r.plan(); fault != nil {
		return fault
	}
	if fault := r.layers(); fault != nil {
		return fault
	}
	if fault := r.reserve(); fault != nil {
		return fault
	}
	if fault := r.moveFiles(); fault != nil {
		return fault
	}
	from := origin{places.HostOf(ctx, vm), datacenterOf(ctx, vm.Self), r.home.ds}
	r.publish()
	if fault := r.moveCompute(); fault != nil {
		return fault
	}
	s.Settle(ctx, vm)
	tellMigrated(ctx, vm, from)
	if len(spec.DeviceChange) > 0 {
		return s.reconfigure(ctx, vm, &types.VirtualMachineConfigSpec{DeviceChange: spec.DeviceChange})
	}
	return nil
}

func (r *relocation) plan() (fault types.BaseMethodFault) {
	if r.spec.Service != nil {
		return &types.NotSupported{} // another vCenter
	}
	if r.home, fault = parse(r.ctx, datacenterOf(r.ctx, r.vm.Self), r.vm.Config.Files.VmPathName); fault != nil {
		return fault
	}
	r.to = r.home.ds
	if r.spec.Datastore != nil {
		if r.to, fault = datastore(r.ctx, *r.spec.Datastore); fault != nil {
			return fault
		}
	}
	devices := devicesOf(r.ctx, r.vm)
	for i := range r.spec.Disk {
		if _, ok := findDevice(devices, r.spec.Disk[i].DiskId).(*types.VirtualDisk); !ok {
			return &types.InvalidArgument{InvalidProperty: "spec.disk.diskId"}
		}
	}
	final := []*simulator.Datastore{r.to}
	for _, disk := range disks(devices) {
		from, ok := placeOfDisk(r.ctx, disk)
		if !ok {
			continue
		}
		d, fault := r.planDisk(disk, from)
		if fault != nil {
			return fault
		}
		final = append(final, d.ds)
		if d.ds != from.ds {
			r.disks = append(r.disks, d)
		}
	}
	return r.chooseHost(final)
}

func (r *relocation) planDisk(disk *types.VirtualDisk, from place) (*moveDisk, types.BaseMethodFault) {
	d := &moveDisk{disk: disk, from: from, ds: from.ds, how: types.VirtualMachineRelocateDiskMoveOptions(r.spec.DiskMoveType)}
	if r.spec.Datastore != nil {
		d.ds = r.to
	}
	switch types.VirtualMachineRelocateTransformation(r.spec.Transform) {
	case types.VirtualMachineRelocateTransformationSparse:
		d.backing = &types.VirtualDiskFlatVer2BackingInfo{ThinProvisioned: types.NewBool(true)}
	case types.VirtualMachineRelocateTransformationFlat:
		d.backing = &types.VirtualDiskFlatVer2BackingInfo{}
	}
	if locator := locatorOf(r.spec.Disk, disk.Key); locator != nil {
		var fault types.BaseMethodFault
		if d.ds, fault = datastore(r.ctx, locator.Datastore); fault != nil {
			return nil, fault
		}
		if locator.DiskMoveType != "" {
			d.how = types.VirtualMachineRelocateDiskMoveOptions(locator.DiskMoveType)
		}
		if flat, ok := locator.DiskBackingInfo.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			d.backing = flat
		}
	}
	switch d.how {
	case "", types.VirtualMachineRelocateDiskMoveOptionsMoveAllDiskBackingsAndAllowSharing,
		types.VirtualMachineRelocateDiskMoveOptionsMoveAllDiskBackingsAndDisallowSharing,
		types.VirtualMachineRelocateDiskMoveOptionsMoveChildMostDiskBacking,
		types.VirtualMachineRelocateDiskMoveOptionsMoveAllDiskBackingsAndConsolidate:
	case types.VirtualMachineRelocateDiskMoveOptionsCreateNewChildDiskBacking:
		d.how = types.VirtualMachineRelocateDiskMoveOptionsMoveChildMostDiskBacking
	default:
		return nil, &types.InvalidArgument{InvalidProperty: "spec.diskMoveType"}
	}
	if d.ds != from.ds {
		return d, r.store.locked(from, r.vm.Self)
	}
	return d, nil
}

// chooseHost finds where the virtual machine is to be; nil if it stays.
func (r *relocation) chooseHost(final []*simulator.Datastore) types.BaseMethodFault {
	current := places.HostOf(r.ctx, r.vm)
	pool := r.spec.Pool
	if pool == nil && r.spec.Host == nil {
		if current != nil && !mountsAll(r.ctx, *current, final) {
			return inaccessible(r.ctx, *current, final)
		}
		return nil
	}
	if pool == nil && current != nil && !sameComputeResource(r.ctx, *r.spec.Host, *current) {
		return &types.InvalidArgument{InvalidProperty: "spec.pool"} // another cluster's host, and nobody says which pool
	}
	if r.spec.Host == nil && current != nil {
		if host, fault := chooseHost(r.ctx, current, pool, final...); fault == nil {
			r.host = &host
			return nil
		}
	}
	host, fault := chooseHost(r.ctx, r.spec.Host, pool, final...)
	r.host = &host
	return fault
}

func inaccessible(
	ctx *simulator.Context, host types.ManagedObjectReference, datastores []*simulator.Datastore,
) types.BaseMethodFault {
	for _, ds := range datastores {
		if !hostMounts(ctx, host, ds) {
			return &types.InvalidDatastore{Datastore: &ds.Self, Name: places.Name(ds)}
		}
	}
	return nil
}

func sameComputeResource(ctx *simulator.Context, a, b types.ManagedObjectReference) bool {
	first, ok := ctx.Map.Get(a).(*simulator.HostSystem)
	second, both := ctx.Map.Get(b).(*simulator.HostSystem)
	return ok && both && first.Parent != nil && second.Parent != nil && *first.Parent == *second.Parent
}

// layers finds the files that move and what they will be called: storage migration names them after the virtual machine.
func (r *relocation) layers() types.BaseMethodFault {
	r.newHome = r.home
	if r.to != r.home.ds {
		folder, release := r.store.freeName(place{r.to, ""}, r.vm.Name, "")
		r.releases = append(r.releases, release)
		r.newHome = folder.join(fileName(r.vm.Name) + ".vmx")
	}
	for _, d := range r.disks {
		if fault := r.diskLayers(d); fault != nil {
			return fault
		}
	}
	return nil
}

func (r *relocation) diskLayers(d *moveDisk) types.BaseMethodFault {
	if fault := r.store.checkChain(r.ctx, d.from); fault != nil {
		return fault
	}
	folder := r.folderOn(d.ds)
	base, release := r.store.freeName(folder, r.vm.Name, ".vmdk")
	r.releases = append(r.releases, release)
	if d.how == types.VirtualMachineRelocateDiskMoveOptionsMoveAllDiskBackingsAndConsolidate && r.vm.Snapshot == nil {
		descriptor, err := vdisk.ReadDescriptor(d.from.local())
		if err != nil {
			return fileFault(d.from, err)
		}
		spec := d.spec(r.store.provisioning(r.ctx, d.from, descriptor))
		spec.UUID = descriptor.UUID()
		r.moves = append(r.moves, layerMove{from: d.from, to: base, flatten: true, spec: &spec})
		return nil
	}
	family, fault := r.family(d)
	if fault != nil {
		return fault
	}
	for i, layer := range family {
		to := base
		if i > 0 {
			to, release = r.store.freeDelta(base)
			r.releases = append(r.releases, release)
		}
		layer.to = to
		if descriptor, err := vdisk.ReadDescriptor(layer.from.local()); err == nil && d.backing != nil &&
			descriptor.CreateType == vdisk.TypeVMFS {
			spec := d.spec(vdisk.Spec{})
			layer.spec = &spec
		}
		r.moves = append(r.moves, layer)
	}
	return nil
}

// folderOn is where the disks go on a datastore: the virtual machine's own folder, which is named after it.
func (r *relocation) folderOn(ds *simulator.Datastore) place {
	if ds == r.newHome.ds {
		return r.newHome.dir()
	}
	if folder, known := r.folders[ds.Self]; known {
		return folder
	}
	folder := place{ds, fileName(r.vm.Name)}
	if folder.exists() && !r.liesIn(folder) {
		var release func()
		folder, release = r.store.freeName(place{ds, ""}, r.vm.Name, "")
		r.releases = append(r.releases, release)
	}
	if r.folders == nil {
		r.folders = make(map[types.ManagedObjectReference]place)
	}
	r.folders[ds.Self] = folder
	return folder
}

// liesIn reports whether the virtual machine has a disk in a folder already; else the folder is another's of the same name.
func (r *relocation) liesIn(folder place) bool {
	for _, disk := range disks(devicesOf(r.ctx, r.vm)) {
		if local, ok := localBacking(r.ctx, disk); ok && path.Dir(local) == folder.local() {
			return true
		}
	}
	return false
}

func (d *moveDisk) spec(otherwise vdisk.Spec) vdisk.Spec {
	if d.backing != nil {
		otherwise.Thin, otherwise.Eager = isTrue(d.backing.ThinProvisioned), isTrue(d.backing.EagerlyScrub)
	}
	return otherwise
}

// family lists the layers of a disk, of its snapshots too, that are to move, those at the bottom first.
func (r *relocation) family(d *moveDisk) ([]layerMove, types.BaseMethodFault) {
	depth := make(map[string]int)
	shared := make(map[string]bool)
	add := func(local string) {
		var chain []string
		for range 256 {
			chain = append(chain, local)
			descriptor, err := vdisk.ReadDescriptor(local)
			if err != nil {
				break
			}
			if local = vdisk.ParentPath(local, descriptor); local == "" {
				break
			}
		}
		for i, layer := range chain {
			depth[layer] = len(chain) - i
			// What the virtual machine writes to goes with it, and what that reads through, even if another one, which is off,
			// names it too.
			shared[layer] = (i > 0 || layer != d.from.local()) && r.store.readsThrough(layer, chain[:i+1], r.vm.Self)
		}
	}
	add(d.from.local())
	if d.how == types.VirtualMachineRelocateDiskMoveOptionsMoveChildMostDiskBacking {
		return []layerMove{{from: d.from}}, nil
	}
	r.ctx.WithLock(r.vm, func() {
		eachSnapshot(r.ctx, r.vm, func(snapshot *simulator.VirtualMachineSnapshot) {
			for _, disk := range disks(snapshot.Config.Hardware.Device) {
				if local, ok := localBacking(r.ctx, disk); ok && disk.Key == d.disk.Key {
					add(local)
				}
			}
		})
	})
	return r.arrange(d, depth, shared)
}

// arrange decides what happens to the layers that others read through: with sharing allowed they stay, else they are copied.
func (r *relocation) arrange(d *moveDisk, depth map[string]int, shared map[string]bool) ([]layerMove, types.BaseMethodFault) {
	locals := make([]string, 0, len(depth))
	for local := range depth {
		locals = append(locals, local)
	}
	sort.Slice(locals, func(i, j int) bool {
		return depth[locals[i]] < depth[locals[j]] || depth[locals[i]] == depth[locals[j]] && locals[i] < locals[j]
	})
	allow := d.how == types.VirtualMachineRelocateDiskMoveOptionsMoveAllDiskBackingsAndAllowSharing
	var moves []layerMove
	for _, local := range locals {
		if allow && shared[local] {
			continue
		}
		at, ok := r.store.placeNear(r.ctx, local, d.from.ds)
		if !ok {
			return nil, &types.FileNotFound{FileFault: types.FileFault{File: local}}
		}
		moves = append(moves, layerMove{from: at, copy: shared[local]})
	}
	return moves, nil
}

// reserve takes the space that the files will need.
func (r *relocation) reserve() types.BaseMethodFault {
	for _, m := range r.moves {
		if m.from.ds == m.to.ds {
			continue
		}
		bytes, fault := r.store.needOf(m)
		if fault == nil {
			fault = r.take(m.to, bytes)
		}
		if fault != nil {
			return fault
		}
	}
	if r.newHome.ds == r.home.ds {
		return nil
	}
	var bytes int64
	entries, _ := os.ReadDir(r.home.dir().local())
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && path.Ext(entry.Name()) != ".vmdk" {
			bytes += vdisk.CostOf(entry.Name(), info).Used
		}
	}
	return r.take(r.newHome.dir(), bytes)
}

func (r *relocation) take(to place, bytes int64) types.BaseMethodFault {
	release, fault := r.store.Reserve(to, bytes)
	if fault == nil {
		r.releases = append(r.releases, release)
	}
	return fault
}

func (s *Store) needOf(m layerMove) (int64, types.BaseMethodFault) {
	if m.spec == nil {
		return s.usedBy(m.from), nil
	}
	d, err := vdisk.Open(m.from.local())
	if err != nil {
		return 0, fileFault(m.from, err)
	}
	defer d.Close()
	if m.spec.Thin {
		return vdisk.Bytes(d), nil
	}
	return d.CapacityBytes(), nil
}

// moveFiles moves the disks, and then the files beside them.
func (r *relocation) moveFiles() types.BaseMethodFault {
	moved := make(map[string]place)
	for _, m := range r.moves {
		if m.from.ds != m.to.ds {
			if bytes, fault := r.store.needOf(m); fault == nil {
				takeTime(bytes)
			}
		}
		if err := os.MkdirAll(path.Dir(m.to.local()), 0o700); err != nil {
			return fileFault(m.to, err)
		}
		if err := m.run(); err != nil {
			return fileFault(m.from, err)
		}
		moved[m.from.local()] = m.to
	}
	for _, m := range r.moves {
		if err := rehang(m.to, moved); err != nil {
			return fileFault(m.to, err)
		}
	}
	for _, m := range r.moves {
		r.store.touchDisk(r.ctx, m.from)
		r.store.touchDisk(r.ctx, m.to)
	}
	if r.newHome != r.home {
		return r.moveHome()
	}
	return nil
}

func (m *layerMove) run() error {
	var err error
	switch {
	case m.flatten:
		return m.flattened()
	case m.copy:
		err = vdisk.Copy(m.from.local(), m.to.local())
	default:
		err = vdisk.Move(m.from.local(), m.to.local())
	}
	if err != nil || m.spec == nil {
		return err
	}
	return changeDescriptor(m.to, func(d *vdisk.Descriptor) error {
		d.SetProvisioning(m.spec.Thin, m.spec.Eager)
		return nil
	})
}

func (m *layerMove) flattened() error {
	source, err := vdisk.Open(m.from.local())
	if err != nil {
		return err
	}
	defer source.Close()
	spec := *m.spec
	spec.CapacityBytes = source.CapacityBytes()
	if err := vdisk.CreateFlat(m.to.local(), spec); err != nil {
		return err
	}
	return fill(m.to, source)
}

// rehang tells a moved delta where the disk below it has gone.
func rehang(at place, moved map[string]place) error {
	return changeDescriptor(at, func(d *vdisk.Descriptor) error {
		if to, ok := moved[vdisk.ParentPath(at.local(), d)]; ok {
			d.ParentHint = vdisk.ParentHint(at.local(), to.local())
			if under, err := vdisk.ReadDescriptor(to.local()); err == nil {
				d.ParentCID = under.CID
			}
		}
		return nil
	})
}

// moveHome moves the files of the folder that are no disks. Those named after the old configuration file are renamed with it.
func (r *relocation) moveHome() types.BaseMethodFault {
	from, to := r.home.dir(), r.newHome.dir()
	if err := os.MkdirAll(to.local(), 0o700); err != nil {
		return fileFault(to, err)
	}
	stem := strings.TrimSuffix(path.Base(r.home.file), ".vmx")
	fresh := strings.TrimSuffix(path.Base(r.newHome.file), ".vmx")
	entries, _ := os.ReadDir(from.local())
	for _, entry := range entries {
		if entry.IsDir() || path.Ext(entry.Name()) == ".vmdk" {
			continue
		}
		name := entry.Name()
		if rest, ok := strings.CutPrefix(name, stem); ok {
			name = fresh + rest
		}
		if err := os.Rename(from.join(entry.Name()).local(), to.join(name).local()); err != nil {
			return fileFault(from.join(entry.Name()), err)
		}
	}
	if from.file != "" && from.file != "." {
		_ = os.Remove(from.local()) // only if it is empty
	}
	r.store.Touch(r.ctx, from.ds, from.local())
	r.store.Touch(r.ctx, to.ds, to.local())
	return nil
}

// publish brings all paths in line: of the devices, of the snapshots, of the configuration.
func (r *relocation) publish() {
	moved := make(map[string]place)
	consolidated := false
	for _, m := range r.moves {
		moved[m.from.local()] = m.to
		consolidated = consolidated || m.flatten
	}
	refresh := func(devices []types.BaseVirtualDevice) {
		for _, disk := range disks(devices) {
			local, ok := localBacking(r.ctx, disk)
			if !ok {
				continue
			}
			if to, gone := moved[local]; gone {
				r.store.describe(disk, to)
			} else if at, ok := placeOfDisk(r.ctx, disk); ok {
				r.store.describe(disk, at)
			}
		}
	}
	left := devicesOf(r.ctx, r.vm)
	folder := r.newHome.dir().String()
	r.ctx.WithLock(r.vm, func() {
		devices := deepCopy(r.vm.Config.Hardware.Device)
		refresh(devices)
		eachSnapshot(r.ctx, r.vm, func(snapshot *simulator.VirtualMachineSnapshot) {
			refresh(snapshot.Config.Hardware.Device)
			snapshot.Config.Files.VmPathName = r.newHome.String()
		})
		files := r.vm.Config.Files
		files.VmPathName = r.newHome.String()
		if r.newHome != r.home {
			files.SnapshotDirectory, files.SuspendDirectory, files.LogDirectory = folder, folder, folder
		}
		var changes []types.PropertyChange
		if len(r.moves) > 0 || r.newHome != r.home {
			changes = r.store.newVersion()
		}
		r.ctx.Update(r.vm, append(changes,
			types.PropertyChange{Name: "config.files", Val: files},
			types.PropertyChange{Name: "config.files.vmPathName", Val: files.VmPathName},
			types.PropertyChange{Name: "summary.config.vmPathName", Val: files.VmPathName},
			types.PropertyChange{Name: "config.hardware.device", Val: devices},
		))
	})
	if consolidated {
		r.store.Learn(r.ctx, r.vm)
		for _, disk := range disks(left) {
			if at, ok := placeOfDisk(r.ctx, disk); ok {
				if _, gone := moved[at.local()]; gone && at.exists() {
					r.store.deleteChain(r.ctx, at, r.vm.Self)
				}
			}
		}
	}
}

// moveCompute changes the host, the resource pool and the folder, and what they say in turn.
func (r *relocation) moveCompute() types.BaseMethodFault {
	var changes []types.PropertyChange
	if r.host != nil {
		r.relist(places.HostOf(r.ctx, r.vm), r.host)
		changes = append(changes, types.PropertyChange{Name: "runtime.host", Val: *r.host},
			types.PropertyChange{Name: "summary.runtime.host", Val: *r.host})
	}
	if r.spec.Pool != nil {
		r.relist(r.vm.ResourcePool, r.spec.Pool)
		changes = append(changes, types.PropertyChange{Name: "resourcePool", Val: *r.spec.Pool})
	}
	if len(changes) > 0 {
		r.ctx.Map.AtomicUpdate(r.ctx, r.vm, changes)
	}
	if ref := r.folder(); ref != nil && *ref != *r.vm.Parent {
		folder, ok := r.ctx.Map.Get(*ref).(*simulator.Folder)
		if !ok {
			return &types.ManagedObjectNotFound{Obj: *ref}
		}
		return r.store.moveIntoFolder(r.ctx, folder, []types.ManagedObjectReference{r.vm.Self})
	}
	return nil
}

// folder is where the virtual machine is to be: in another datacenter the root folder of machines, if the client names none.
func (r *relocation) folder() *types.ManagedObjectReference {
	if r.spec.Folder != nil {
		return r.spec.Folder
	}
	if dc := datacenterOf(r.ctx, r.newHome.ds.Self); dc != nil && dc != datacenterOf(r.ctx, r.vm.Self) {
		return &dc.VmFolder
	}
	return nil
}

// relist takes the virtual machine out of one object's list and puts it into another's.
func (r *relocation) relist(from, to *types.ManagedObjectReference) {
	if from != nil && *from != *to {
		listMachine(r.ctx, from, r.vm.Self, false)
	}
	listMachine(r.ctx, to, r.vm.Self, true)
}
