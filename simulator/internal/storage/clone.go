// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"github.com/google/uuid"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/vdisk"
)

func (s *Store) overrideClone() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.CloneVM_Task, _ core.Next) soap.HasFault {
		return &methods.CloneVM_TaskBody{Res: &types.CloneVM_TaskResponse{
			Returnval: s.machineTask(ctx, req.This, "CloneVM_Task",
				func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
					return result(s.clone(ctx, vm, req))
				})}}
	})
}

// cloning is one clone in the making.
type cloning struct {
	store  *Store
	ctx    *simulator.Context
	vm     *simulator.VirtualMachine
	req    *types.CloneVM_Task
	source types.VirtualMachineConfigInfo // the virtual machine's, or a snapshot's
	folder *simulator.Folder
	home   *simulator.Datastore
	host   types.ManagedObjectReference
	pool   types.ManagedObjectReference
	disks  []*cloneDisk
	config types.VirtualMachineConfigSpec
	// release gives the instance uuid free, once the clone has it.
	release func()
}

type cloneDisk struct {
	disk   *types.VirtualDisk
	from   place
	ds     *simulator.Datastore
	spec   vdisk.Spec
	linked bool
}

// clone does what VirtualMachine.CloneVM_Task does.
func (s *Store) clone(
	ctx *simulator.Context, vm *simulator.VirtualMachine, req *types.CloneVM_Task,
) (*types.ManagedObjectReference, types.BaseMethodFault) {
	c := &cloning{store: s, ctx: ctx, vm: vm, req: req, release: func() {}}
	defer func() { c.release() }()
	if fault := c.prepare(); fault != nil {
		return nil, fault
	}
	release, fault := s.claimMachine(ctx, &c.folder.Folder, req.Name, "")
	if fault != nil {
		return nil, fault
	}
	defer release()
	machine, fault := c.createBare()
	if fault != nil {
		return nil, fault
	}
	if fault = c.fillIn(machine); fault != nil {
		s.remove(ctx, machine)
		return nil, fault
	}
	tellCloned(ctx, vm, machine)
	return &machine.Self, nil
}

// prepare finds all that the request means, and refuses what cannot be.
func (c *cloning) prepare() types.BaseMethodFault {
	location := &c.req.Spec.Location
	if location.Service != nil {
		return &types.NotSupported{} // another vCenter
	}
	target := c.req.Folder
	if location.Folder != nil {
		target = *location.Folder
	}
	var ok bool
	if c.folder, ok = c.ctx.Map.Get(target).(*simulator.Folder); !ok || datacenterOf(c.ctx, target) == nil {
		return &types.ManagedObjectNotFound{Obj: target}
	}
	if c.req.Name == "" {
		return &types.InvalidName{Name: c.req.Name, Entity: &c.vm.Self}
	}
	if fault := c.findSource(); fault != nil {
		return fault
	}
	if c.req.Spec.Config != nil {
		c.config = *c.req.Spec.Config
		if c.config.InstanceUuid != "" {
			var fault types.BaseMethodFault
			if c.config.InstanceUuid, c.release, fault = c.store.newInstanceUUID(c.config.InstanceUuid); fault != nil {
				return fault
			}
		}
	}
	if fault := c.planDisks(location); fault != nil {
		return fault
	}
	return c.choosePlace(location)
}

func (c *cloning) findSource() types.BaseMethodFault {
	if ref := c.req.Spec.Snapshot; ref != nil {
		snapshot, ok := c.ctx.Map.Get(*ref).(*simulator.VirtualMachineSnapshot)
		if !ok {
			return &types.ManagedObjectNotFound{Obj: *ref}
		}
		if snapshot.Vm != c.vm.Self {
			return &types.InvalidArgument{InvalidProperty: "spec.snapshot"}
		}
		c.source = deepCopy(snapshot.Config)
		return nil
	}
	c.ctx.WithLock(c.vm, func() { c.source = deepCopy(*c.vm.Config) })
	return nil
}

// planDisks says for each disk where it goes and how. Disks that the same request removes are not copied first.
func (c *cloning) planDisks(location *types.VirtualMachineRelocateSpec) types.BaseMethodFault {
	home, fault := parse(c.ctx, datacenterOf(c.ctx, c.vm.Self), c.vm.Config.Files.VmPathName)
	if fault != nil {
		return fault
	}
	c.home = home.ds
	if location.Datastore != nil {
		if c.home, fault = datastore(c.ctx, *location.Datastore); fault != nil {
			return fault
		}
	}
	removed := make(map[int32]bool)
	c.config.DeviceChange = withoutRemovals(c.config.DeviceChange, removed)
	location.DeviceChange = withoutRemovals(location.DeviceChange, removed)
	for _, disk := range disks(c.source.Hardware.Device) {
		from, ok := placeOfDisk(c.ctx, disk)
		if !ok || removed[disk.Key] {
			continue
		}
		d, fault := c.planDisk(disk, from, location)
		if fault != nil {
			return fault
		}
		c.disks = append(c.disks, d)
	}
	return nil
}

func (c *cloning) planDisk(
	disk *types.VirtualDisk, from place, location *types.VirtualMachineRelocateSpec,
) (*cloneDisk, types.BaseMethodFault) {
	if fault := c.store.checkChain(c.ctx, from); fault != nil {
		return nil, fault
	}
	descriptor, err := vdisk.ReadDescriptor(from.local())
	if err != nil {
		return nil, fileFault(from, err)
	}
	d := &cloneDisk{disk: disk, from: from, ds: from.ds}
	if location.Datastore != nil {
		d.ds = c.home
	}
	d.spec = c.store.provisioning(c.ctx, from, descriptor)
	move := location.DiskMoveType
	switch types.VirtualMachineRelocateTransformation(location.Transform) {
	case types.VirtualMachineRelocateTransformationSparse:
		d.spec.Thin, d.spec.Eager = true, false
	case types.VirtualMachineRelocateTransformationFlat:
		d.spec.Thin = false
	}
	if locator := locatorOf(location.Disk, disk.Key); locator != nil {
		var fault types.BaseMethodFault
		if d.ds, fault = datastore(c.ctx, locator.Datastore); fault != nil {
			return nil, fault
		}
		if locator.DiskMoveType != "" {
			move = locator.DiskMoveType
		}
		if flat, ok := locator.DiskBackingInfo.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			d.spec.Thin, d.spec.Eager = isTrue(flat.ThinProvisioned), isTrue(flat.EagerlyScrub)
		}
	}
	d.linked = move == string(types.VirtualMachineRelocateDiskMoveOptionsCreateNewChildDiskBacking)
	if d.linked && c.req.Spec.Snapshot == nil {
		return nil, &types.InvalidArgument{InvalidProperty: "spec.snapshot"} // a linked clone needs what stays as it is
	}
	if !d.linked && c.req.Spec.Snapshot == nil {
		return d, c.store.locked(from, c.vm.Self)
	}
	return d, nil
}

// provisioning is how a disk takes its space: a delta does as the disk at the bottom.
func (s *Store) provisioning(ctx *simulator.Context, at place, d *vdisk.Descriptor) vdisk.Spec {
	for range 256 {
		parent := vdisk.ParentPath(at.local(), d)
		if parent == "" {
			break
		}
		under, err := vdisk.ReadDescriptor(parent)
		next, ok := s.placeNear(ctx, parent, at.ds)
		if err != nil || !ok {
			break
		}
		at, d = next, under
	}
	return vdisk.Spec{Thin: d.Thin(), Eager: d.Eager(), AdapterType: d.DDB["adapterType"]}
}

func locatorOf(locators []types.VirtualMachineRelocateSpecDiskLocator, key int32) *types.VirtualMachineRelocateSpecDiskLocator {
	for i := range locators {
		if locators[i].DiskId == key {
			return &locators[i]
		}
	}
	return nil
}

func datastore(ctx *simulator.Context, ref types.ManagedObjectReference) (*simulator.Datastore, types.BaseMethodFault) {
	if ds, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok {
		return ds, nil
	}
	return nil, &types.ManagedObjectNotFound{Obj: ref}
}

// withoutRemovals takes the removals of devices out, and notes the keys.
func withoutRemovals(
	changes []types.BaseVirtualDeviceConfigSpec, removed map[int32]bool,
) (rest []types.BaseVirtualDeviceConfigSpec) {
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		_, isDisk := spec.Device.(*types.VirtualDisk)
		if isDisk && spec.Operation == types.VirtualDeviceConfigSpecOperationRemove {
			removed[spec.Device.GetVirtualDevice().Key] = true
			continue
		}
		rest = append(rest, change)
	}
	return rest
}

// choosePlace finds the resource pool and a host that mounts all the datastores.
func (c *cloning) choosePlace(location *types.VirtualMachineRelocateSpec) types.BaseMethodFault {
	needed := []*simulator.Datastore{c.home}
	for _, d := range c.disks {
		needed = append(needed, d.ds)
	}
	pool := location.Pool
	if pool == nil {
		pool = c.vm.ResourcePool
	}
	if pool == nil {
		return &types.InvalidArgument{InvalidProperty: "spec.location.pool"}
	}
	c.pool = *pool
	asked := location.Host
	if current := places.HostOf(c.ctx, c.vm); asked == nil && current != nil {
		if host, fault := chooseHost(c.ctx, current, pool, needed...); fault == nil {
			c.host = host
			return nil
		}
	}
	var fault types.BaseMethodFault
	c.host, fault = chooseHost(c.ctx, asked, pool, needed...)
	return fault
}

// createBare has the library make a virtual machine like the source, without its disks.
func (c *cloning) createBare() (*simulator.VirtualMachine, types.BaseMethodFault) {
	source := &c.source
	release, at := c.store.homeFor(place{c.home, ""}, &types.VirtualMachineConfigSpec{Name: c.req.Name})
	defer release()
	spec := types.VirtualMachineConfigSpec{
		Name: c.req.Name, Version: source.Version, GuestId: source.GuestId, Annotation: source.Annotation,
		Firmware: source.Firmware, NumCPUs: source.Hardware.NumCPU, MemoryMB: int64(source.Hardware.MemoryMB),
		NumCoresPerSocket: source.Hardware.NumCoresPerSocket, VirtualICH7MPresent: source.Hardware.VirtualICH7MPresent,
		VirtualSMCPresent: source.Hardware.VirtualSMCPresent, ManagedBy: source.ManagedBy,
		ExtraConfig: source.ExtraConfig, BootOptions: source.BootOptions, Flags: &source.Flags, Tools: source.Tools,
		Uuid: uuid.NewString(), InstanceUuid: uuid.NewString(),
		Files: &types.VirtualMachineFileInfo{VmPathName: at.String()},
	}
	defaults := object.VirtualDeviceList(esx.VirtualDevice)
	devices := object.VirtualDeviceList(source.Hardware.Device)
	for _, device := range devices {
		if _, isDisk := device.(*types.VirtualDisk); isDisk || defaults.Find(devices.Name(device)) != nil {
			continue
		}
		if controller, ok := device.(types.BaseVirtualController); ok {
			controller.GetVirtualController().Device = nil
		}
		if card, ok := device.(types.BaseVirtualEthernetCard); ok {
			if nic := card.GetVirtualEthernetCard(); nic.AddressType != string(types.VirtualEthernetCardMacTypeManual) {
				nic.MacAddress = ""
			}
		}
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: device})
	}
	return c.store.libraryCreate(c.ctx, c.folder, &types.CreateVM_Task{
		This: c.folder.Self, Config: spec, Pool: c.pool, Host: &c.host})
}

// fillIn gives the clone its disks and its configuration.
func (c *cloning) fillIn(machine *simulator.VirtualMachine) types.BaseMethodFault {
	home, fault := parse(c.ctx, datacenterOf(c.ctx, machine.Self), machine.Config.Files.VmPathName)
	if fault != nil {
		return fault
	}
	var changes []*diskChange
	for _, d := range c.disks {
		folder := place{d.ds, home.dir().file}
		at, release := c.store.freeName(folder, c.req.Name, ".vmdk")
		if d.linked {
			fault = c.store.createDelta(c.ctx, at, d.from)
			if fault == nil {
				fault = c.store.SetUUID(c.ctx, at, vdisk.NewUUID())
			}
		} else {
			fault = c.store.CopyDisk(c.ctx, d.from, at, d.spec)
		}
		release()
		if fault != nil {
			c.undo(changes)
			return fault
		}
		disk := deepCopy(d.disk)
		flat, _ := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		changes = append(changes, &diskChange{disk: disk, flat: flat, at: at, spec: &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: disk}})
	}
	c.store.apply(c.ctx, machine, changes)
	c.store.Settle(c.ctx, machine)
	return c.configure(machine)
}

func (c *cloning) undo(changes []*diskChange) {
	for _, change := range changes {
		_ = c.store.deleteDisk(c.ctx, change.at, c.vm.Self)
	}
}

func (c *cloning) configure(machine *simulator.VirtualMachine) types.BaseMethodFault {
	c.config.Name = ""
	c.config.Files = nil
	c.config.Version = "" // "used only while creating a new virtual machine": a clone has its source's
	c.config.DeviceChange = append(c.config.DeviceChange, c.req.Spec.Location.DeviceChange...)
	if fault := c.store.reconfigure(c.ctx, machine, &c.config); fault != nil {
		return fault
	}
	own := core.NewContext(c.ctx)
	if c.req.Spec.Template {
		markAsTemplate(own, machine)
		return nil
	}
	if spec := c.req.Spec.Customization; spec != nil {
		req := &types.CustomizeVM_Task{This: machine.Self, Spec: *spec}
		if fault := c.store.inner(c.ctx, machine.Self, func(ctx *simulator.Context) soap.HasFault {
			return machine.CustomizeVMTask(ctx, req)
		}); fault != nil {
			return fault
		}
	}
	if c.req.Spec.PowerOn {
		return c.store.inner(c.ctx, machine.Self, func(ctx *simulator.Context) soap.HasFault {
			return machine.PowerOnVMTask(ctx, &types.PowerOnVM_Task{This: machine.Self})
		})
	}
	return nil
}
