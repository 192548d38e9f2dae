// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/places"
	"vcenter-sim/internal/vdisk"
)

// A change of a virtual machine's devices is done in two parts: the library does all that is no file-backed disk, and diskChanges
// does the disks. They are planned before the library works, so that what cannot be is refused before anything has happened.

// diskChange is one change of a disk.
type diskChange struct {
	index int
	spec  *types.VirtualDeviceConfigSpec
	disk  *types.VirtualDisk
	flat  *types.VirtualDiskFlatVer2BackingInfo
	// controller is the device that the same request adds, to which the disk goes; its key is known only afterwards.
	controller types.BaseVirtualDevice
	// old is the disk as it is, for an edit or a removal.
	old *types.VirtualDisk
	at  place
	// importing says that the content, and the capacity with it, comes later.
	importing bool
	// adapter is how a new file's descriptor calls the kind of the controller.
	adapter string
}

// controllerKeys gives the controllers that a request adds the keys that a host gives, and tells the devices on them. (The
// library counts all keys up from 200.)
func controllerKeys(existing []types.BaseVirtualDevice, changes []types.BaseVirtualDeviceConfigSpec) {
	taken := make(map[int32]bool)
	for _, device := range existing {
		taken[device.GetVirtualDevice().Key] = true
	}
	fresh := make(map[int32]int32)
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		if spec.Operation != types.VirtualDeviceConfigSpecOperationAdd || spec.Device == nil {
			continue
		}
		if scsi, ok := spec.Device.(types.BaseVirtualSCSIController); ok {
			scsi.GetVirtualSCSIController().ScsiCtlrUnitNumber = scsiUnit
		}
		first := firstKey(spec.Device)
		device := spec.Device.GetVirtualDevice()
		if first == 0 || device.Key > 0 && !taken[device.Key] && device.Key >= first {
			continue
		}
		key := first
		for taken[key] {
			key++
		}
		taken[key] = true
		fresh[device.Key] = key
		device.Key = key
	}
	for _, change := range changes {
		// An edit may put a disk on a controller that the same request adds.
		if spec := change.GetVirtualDeviceConfigSpec(); spec.Operation != types.VirtualDeviceConfigSpecOperationRemove &&
			spec.Device != nil {
			device := spec.Device.GetVirtualDevice()
			if key, ok := fresh[device.ControllerKey]; ok && device.ControllerKey != 0 {
				device.ControllerKey = key
			}
		}
	}
}

// scsiUnit is the place on its own bus that a SCSI controller takes.
const scsiUnit = 7

// firstKey is the key of the first controller of a kind; 0 for what is no such controller.
func firstKey(device types.BaseVirtualDevice) int32 {
	switch c := device.(type) {
	case types.BaseVirtualSCSIController:
		return 1000 + c.GetVirtualSCSIController().BusNumber
	case types.BaseVirtualSATAController:
		return 15000 + c.GetVirtualSATAController().BusNumber
	case *types.VirtualNVMEController:
		return 31000 + c.BusNumber
	}
	return 0
}

// split takes the changes of file-backed disks out of a request's.
func split(
	existing []types.BaseVirtualDevice, changes []types.BaseVirtualDeviceConfigSpec,
) (rest []types.BaseVirtualDeviceConfigSpec, disks []*diskChange) {
	controllerKeys(existing, changes)
	added := make(map[int32]types.BaseVirtualDevice)
	for i, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		disk, ok := spec.Device.(*types.VirtualDisk)
		if ok {
			flat, isFlat := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
			if isFlat || disk.Backing == nil || spec.Operation == types.VirtualDeviceConfigSpecOperationRemove {
				disks = append(disks, &diskChange{index: i, spec: spec, disk: disk, flat: flat})
				continue
			}
		} else if spec.Operation == types.VirtualDeviceConfigSpecOperationAdd && spec.Device != nil {
			added[spec.Device.GetVirtualDevice().Key] = spec.Device
		}
		rest = append(rest, change)
	}
	for _, d := range disks {
		d.controller = added[d.disk.ControllerKey]
	}
	return rest, disks
}

func (c *diskChange) invalid() types.BaseMethodFault {
	return &types.InvalidDeviceSpec{DeviceIndex: int32(c.index)}
}

// plan finds what the changes mean for a virtual machine as it is, and what forbids them.
func (s *Store) plan(ctx *simulator.Context, vm *simulator.VirtualMachine, changes []*diskChange) types.BaseMethodFault {
	devices := devicesOf(ctx, vm)
	for _, c := range changes {
		var fault types.BaseMethodFault
		switch c.spec.Operation {
		case types.VirtualDeviceConfigSpecOperationAdd:
			fault = c.planAdd(devices)
		case types.VirtualDeviceConfigSpecOperationEdit:
			fault = s.planEdit(ctx, vm, c, devices)
		case types.VirtualDeviceConfigSpecOperationRemove:
			fault = s.planRemove(ctx, vm, c, devices)
		default:
			fault = c.invalid()
		}
		if fault != nil {
			return fault
		}
	}
	return nil
}

func (c *diskChange) planAdd(devices []types.BaseVirtualDevice) types.BaseMethodFault {
	if c.flat == nil {
		return c.invalid()
	}
	if c.controller == nil && findDevice(devices, c.disk.ControllerKey) == nil && c.disk.ControllerKey != 0 {
		return c.invalid()
	}
	c.adapter = adapterOf(c.controller)
	if c.controller == nil {
		c.adapter = adapterOf(findDevice(devices, c.disk.ControllerKey))
	}
	if c.spec.FileOperation == "" && strings.TrimSpace(afterDatastore(c.flat.FileName)) == "" {
		return &types.InvalidDeviceSpec{
			InvalidVmConfig: types.InvalidVmConfig{Property: "virtualDeviceSpec.device.backing.fileName"},
			DeviceIndex:     int32(c.index)}
	}
	if c.spec.FileOperation == types.VirtualDeviceConfigSpecFileOperationCreate && capacityOf(c.disk) <= 0 &&
		c.flat.Parent == nil && !c.importing {
		return &types.InvalidDeviceSpec{
			InvalidVmConfig: types.InvalidVmConfig{Property: "virtualDeviceSpec.device.capacityInKB"},
			DeviceIndex:     int32(c.index)}
	}
	return nil
}

// adapterOf is what a descriptor calls a kind of controller; it knows three kinds.
func adapterOf(controller types.BaseVirtualDevice) string {
	switch controller.(type) {
	case *types.VirtualIDEController:
		return "ide"
	case *types.VirtualBusLogicController:
		return "buslogic"
	}
	return "lsilogic"
}

func afterDatastore(name string) string {
	if i := strings.Index(name, "]"); i >= 0 {
		return name[i+1:]
	}
	return name
}

func (s *Store) planEdit(
	ctx *simulator.Context, vm *simulator.VirtualMachine, c *diskChange, devices []types.BaseVirtualDevice,
) types.BaseMethodFault {
	old, ok := findDevice(devices, c.disk.Key).(*types.VirtualDisk)
	if !ok {
		return c.invalid()
	}
	c.old = old
	capacity := newCapacity(c.disk, old)
	if capacity < old.CapacityInBytes {
		return &types.InvalidDeviceOperation{InvalidDeviceSpec: types.InvalidDeviceSpec{DeviceIndex: int32(c.index)}}
	}
	if c.at, ok = placeOfDisk(ctx, old); !ok {
		return c.invalid()
	}
	if capacity > old.CapacityInBytes {
		if flat, ok := old.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && flat.Parent != nil {
			return &types.InvalidDeviceOperation{InvalidDeviceSpec: types.InvalidDeviceSpec{DeviceIndex: int32(c.index)}}
		}
		return s.locked(c.at, vm.Self)
	}
	uuid := c.flat != nil && c.flat.Uuid != "" && c.flat.Uuid != backingUUID(old)
	if flat, ok := old.Backing.(*types.VirtualDiskFlatVer2BackingInfo); uuid && ok && flat.Parent != nil && !s.sim.Lenient("delta-uuid") {
		// A delta shows the uuid of the disk below it.
		return &types.InvalidDeviceOperation{InvalidDeviceSpec: types.InvalidDeviceSpec{DeviceIndex: int32(c.index)}}
	}
	if (uuid || len(c.spec.Profile) > 0) && !s.sim.Lenient("locked-edits") { // written to the file
		return s.locked(c.at, vm.Self)
	}
	return nil
}

// newCapacity is what an edit asks for. A figure that is not given, or that still says what it was, asks for nothing.
func newCapacity(asked, old *types.VirtualDisk) int64 {
	if asked.CapacityInBytes != 0 && asked.CapacityInBytes != old.CapacityInBytes {
		return asked.CapacityInBytes
	}
	if asked.CapacityInKB != 0 && asked.CapacityInKB != old.CapacityInKB {
		return asked.CapacityInKB << 10
	}
	return old.CapacityInBytes
}

func (s *Store) planRemove(
	ctx *simulator.Context, vm *simulator.VirtualMachine, c *diskChange, devices []types.BaseVirtualDevice,
) types.BaseMethodFault {
	old, ok := findDevice(devices, c.disk.Key).(*types.VirtualDisk)
	if !ok {
		return c.invalid()
	}
	c.old = old
	if c.at, ok = placeOfDisk(ctx, old); ok && c.destroys() {
		return s.locked(c.at, vm.Self)
	}
	return nil
}

func (c *diskChange) destroys() bool {
	return c.spec.Operation == types.VirtualDeviceConfigSpecOperationRemove &&
		c.spec.FileOperation == types.VirtualDeviceConfigSpecFileOperationDestroy
}

// makeFiles creates and extends the files that the changes need. What it returns undoes that.
func (s *Store) makeFiles(
	ctx *simulator.Context, vm *simulator.VirtualMachine, changes []*diskChange,
) (undo func(), fault types.BaseMethodFault) {
	var undos []func()
	undo = func() {
		for i := len(undos) - 1; i >= 0; i-- {
			undos[i]()
		}
	}
	for _, c := range changes {
		var one func()
		switch c.spec.Operation {
		case types.VirtualDeviceConfigSpecOperationAdd:
			one, fault = s.makeFile(ctx, vm, c)
		case types.VirtualDeviceConfigSpecOperationEdit:
			fault = s.editFile(ctx, c)
		}
		if one != nil {
			undos = append(undos, one)
		}
		if fault != nil {
			undo()
			return func() {}, fault
		}
	}
	return undo, nil
}

func (s *Store) makeFile(
	ctx *simulator.Context, vm *simulator.VirtualMachine, c *diskChange,
) (undo func(), fault types.BaseMethodFault) {
	release := func() {}
	if c.at, release, fault = s.target(ctx, vm, c); fault != nil {
		return nil, fault
	}
	defer release()
	if !mounts(ctx, vm, c.at.ds) {
		return nil, &types.InvalidDatastore{Datastore: &c.at.ds.Self, Name: places.Name(c.at.ds)}
	}
	switch c.spec.FileOperation {
	case types.VirtualDeviceConfigSpecFileOperationReplace:
		if c.at.exists() {
			if fault := s.deleteDisk(ctx, c.at, vm.Self); fault != nil {
				return nil, fault
			}
		}
		fallthrough
	case types.VirtualDeviceConfigSpecFileOperationCreate:
		if c.flat.Parent != nil {
			fault = s.createChild(ctx, c)
		} else if c.flat.Uuid != "" && settings.newDiskUUID == uuidRefused {
			fault = &types.InvalidArgument{InvalidProperty: "configSpec.deviceChange.device.backing.uuid"}
		} else {
			fault = s.CreateDisk(ctx, c.at, c.fileSpec())
		}
		if fault != nil {
			return nil, fault
		}
		return func() { _ = s.deleteDisk(ctx, c.at, vm.Self) }, nil
	}
	return nil, s.checkExisting(ctx, vm, c)
}

func (c *diskChange) fileSpec() vdisk.Spec {
	spec := vdisk.Spec{
		CapacityBytes: capacityOf(c.disk), Thin: isTrue(c.flat.ThinProvisioned), Eager: isTrue(c.flat.EagerlyScrub),
		AdapterType: c.adapter,
	}
	if settings.newDiskUUID == uuidKept {
		spec.UUID = c.flat.Uuid
	}
	return spec
}

func (s *Store) createChild(ctx *simulator.Context, c *diskChange) types.BaseMethodFault {
	parent, fault := parse(ctx, datacenterOf(ctx, c.at.ds.Self), c.flat.Parent.FileName)
	if fault != nil {
		return fault
	}
	return s.createDelta(ctx, c.at, parent)
}

// checkExisting looks at a disk that is to be attached as it is.
func (s *Store) checkExisting(ctx *simulator.Context, vm *simulator.VirtualMachine, c *diskChange) types.BaseMethodFault {
	d, err := vdisk.ReadDescriptor(c.at.local())
	if err != nil {
		return fileFault(c.at, err)
	}
	if d.CreateType == vdisk.TypeMonolithicSparse || d.CreateType == vdisk.TypeStreamOptimized {
		return &types.InvalidDiskFormat{}
	}
	if fault := s.checkChain(ctx, c.at); fault != nil {
		return fault
	}
	if running(ctx, vm) && c.flat.Sharing != string(types.VirtualDiskSharingSharingMultiWriter) {
		return s.locked(c.at, vm.Self)
	}
	return nil
}

// target finds the file that an added disk is to have.
func (s *Store) target(
	ctx *simulator.Context, vm *simulator.VirtualMachine, c *diskChange,
) (at place, release func(), fault types.BaseMethodFault) {
	dc := datacenterOf(ctx, vm.Self)
	home, fault := parse(ctx, dc, vm.Config.Files.VmPathName)
	if fault != nil {
		return place{}, func() {}, fault
	}
	switch name := strings.TrimSpace(c.flat.FileName); {
	case name == "" && c.flat.Datastore == nil:
		at = place{home.ds, ""}
	case name == "":
		ds, ok := ctx.Map.Get(*c.flat.Datastore).(*simulator.Datastore)
		if !ok {
			return place{}, func() {}, &types.ManagedObjectNotFound{Obj: *c.flat.Datastore}
		}
		at = place{ds, ""}
	default:
		if at, fault = parse(ctx, dc, name); fault != nil {
			return place{}, func() {}, fault
		}
	}
	if at.file != "" && path.Ext(at.file) == ".vmdk" {
		return at, func() {}, nil
	}
	folder := place{at.ds, at.file}
	if at.file == "" {
		folder = place{at.ds, path.Dir(home.file)}
	}
	at, release = s.freeName(folder, vm.Config.Name, ".vmdk")
	return at, release, nil
}

// fileName is a name without what a file's name cannot have, written as vCenter writes it.
func fileName(name string) string { return strings.NewReplacer("/", "%2f", "\\", "%5c").Replace(name) }

// freeName finds a name that no file has: NAME, NAME_1, NAME_2 ... and keeps it from others until it is released.
func (s *Store) freeName(folder place, name, extension string) (place, func()) {
	name = fileName(name)
	for i := 0; ; i++ {
		candidate := name + extension
		if i > 0 {
			candidate = fmt.Sprintf("%s_%d%s", name, i, extension)
		}
		at := folder.join(candidate)
		if release, ok := s.claim(at.local()); ok {
			if !at.exists() {
				return at, release
			}
			release()
		}
	}
}

// editFile does to a disk's file what an edit asks for.
func (s *Store) editFile(ctx *simulator.Context, c *diskChange) types.BaseMethodFault {
	if capacity := newCapacity(c.disk, c.old); capacity > c.old.CapacityInBytes {
		if fault := s.ExtendDisk(ctx, c.at, capacity, nil); fault != nil {
			return fault
		}
	}
	if c.flat != nil && c.flat.Uuid != "" && c.flat.Uuid != backingUUID(c.old) {
		return s.SetUUID(ctx, c.at, c.flat.Uuid)
	}
	return nil
}

func backingUUID(disk *types.VirtualDisk) string {
	if flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
		return flat.Uuid
	}
	return ""
}

// apply changes the devices, after the files were made and the library has added controllers.
func (s *Store) apply(ctx *simulator.Context, vm *simulator.VirtualMachine, changes []*diskChange) {
	if len(changes) == 0 {
		return
	}
	field := mo.Field{Path: "config.hardware.device"}
	ctx.WithLock(vm, func() {
		devices := append([]types.BaseVirtualDevice(nil), vm.Config.Hardware.Device...)
		var updates []types.PropertyChange
		for _, c := range changes {
			op := types.PropertyChangeOpAssign
			var value types.AnyType
			switch c.spec.Operation {
			case types.VirtualDeviceConfigSpecOperationAdd:
				op = types.PropertyChangeOpAdd
				devices = s.add(c, vm, devices)
				value = c.disk
			case types.VirtualDeviceConfigSpecOperationEdit:
				edited := s.edited(c)
				devices = replaceDevice(devices, edited)
				value = edited
			case types.VirtualDeviceConfigSpecOperationRemove:
				op = types.PropertyChangeOpRemove
				devices = removeDevice(devices, c.disk.Key)
			}
			field.Key = c.disk.Key
			updates = append(updates, types.PropertyChange{Name: field.String(), Op: op, Val: value})
		}
		ctx.Update(vm, append(updates,
			types.PropertyChange{Name: field.Path, Val: devices},
			types.PropertyChange{Name: "summary.config.numVirtualDisks", Val: int32(len(disks(devices)))}))
	})
}

// destroyFiles deletes the disks that the changes were to destroy.
func (s *Store) destroyFiles(ctx *simulator.Context, vm *simulator.VirtualMachine, changes []*diskChange) {
	for _, c := range changes {
		if c.destroys() && c.at.ds != nil {
			s.deleteChain(ctx, c.at, vm.Self)
		}
	}
}

// add gives a disk its place among the devices, and the properties that its file says.
func (s *Store) add(c *diskChange, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) []types.BaseVirtualDevice {
	disk := c.disk
	if c.controller != nil {
		disk.ControllerKey = c.controller.GetVirtualDevice().Key
	}
	controller, _ := findDevice(devices, disk.ControllerKey).(types.BaseVirtualController)
	if disk.UnitNumber == nil || *disk.UnitNumber < 0 || unitTaken(devices, disk.ControllerKey, *disk.UnitNumber) {
		disk.UnitNumber = types.NewInt32(freeUnit(devices, disk.ControllerKey))
	}
	disk.Key = freeKey(devices, controller, *disk.UnitNumber)
	count := len(disks(devices)) + 1
	s.describe(disk, c.at)
	disk.DeviceInfo = &types.Description{
		Label: fmt.Sprintf("Hard disk %d", count), Summary: fmt.Sprintf("%s KB", thousands(disk.CapacityInKB))}
	disk.StorageIOAllocation = allocated(disk.StorageIOAllocation, &types.StorageIOAllocationInfo{
		Limit: types.NewInt64(-1), Reservation: types.NewInt32(0),
		Shares: &types.SharesInfo{Shares: 1000, Level: types.SharesLevelNormal}})
	disk.DiskObjectId = fmt.Sprintf("%s-%d", strings.TrimPrefix(vm.Self.Value, "vm-"), disk.Key)
	if controller != nil {
		keys := append(slices.Clone(controller.GetVirtualController().Device), disk.Key)
		devices = replaceDevice(devices, withDisks(controller, keys))
	}
	return append(devices, disk)
}

// allocated is an allocation of I/O operations; what is not asked for stays as it was.
func allocated(asked, before *types.StorageIOAllocationInfo) *types.StorageIOAllocationInfo {
	if asked == nil || before == nil {
		return cmp.Or(asked, before)
	}
	return &types.StorageIOAllocationInfo{
		Limit: cmp.Or(asked.Limit, before.Limit), Shares: cmp.Or(asked.Shares, before.Shares),
		Reservation: cmp.Or(asked.Reservation, before.Reservation)}
}

// describe fills in what a disk's file says about it.
func (s *Store) describe(disk *types.VirtualDisk, at place) {
	flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok {
		return
	}
	described := s.describeFile(at)
	described.DiskMode, described.Sharing, described.KeyId = flat.DiskMode, flat.Sharing, flat.KeyId
	described.BackingObjectId = flat.BackingObjectId
	if described.DiskMode == "" {
		described.DiskMode = string(types.VirtualDiskModePersistent)
	}
	disk.Backing = described
	if d, err := vdisk.ReadDescriptor(at.local()); err == nil {
		disk.CapacityInBytes = d.CapacityBytes()
		disk.CapacityInKB = disk.CapacityInBytes >> 10
	}
}

// describeFile is the backing that a file is, with its parents.
func (s *Store) describeFile(at place) *types.VirtualDiskFlatVer2BackingInfo {
	ref := at.ds.Self
	flat := &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: at.String(), Datastore: &ref},
		DiskMode:                     string(types.VirtualDiskModePersistent),
		WriteThrough:                 types.NewBool(false), Split: types.NewBool(false), DigestEnabled: types.NewBool(false),
	}
	d, err := vdisk.ReadDescriptor(at.local())
	if err != nil {
		return flat
	}
	flat.Uuid, flat.ContentId = d.UUID(), fmt.Sprintf("%032x", d.CID)
	flat.ThinProvisioned = types.NewBool(d.Thin() || d.CreateType == vdisk.TypeDelta)
	flat.EagerlyScrub = types.NewBool(d.Eager())
	if parent := vdisk.ParentPath(at.local(), d); parent != "" {
		flat.DeltaDiskFormat = string(types.VirtualDiskDeltaDiskFormatRedoLogFormat)
		if p, ok := s.placeNear(s.sim.Context(), parent, at.ds); ok {
			flat.Parent = s.describeFile(p)
		}
	}
	return flat
}

// edited is the disk after an edit.
func (s *Store) edited(c *diskChange) *types.VirtualDisk {
	disk := deepCopy(c.old)
	if c.disk.ControllerKey != 0 {
		disk.ControllerKey = c.disk.ControllerKey
		if c.controller != nil {
			disk.ControllerKey = c.controller.GetVirtualDevice().Key
		}
	}
	if c.disk.UnitNumber != nil {
		disk.UnitNumber = c.disk.UnitNumber
	}
	disk.StorageIOAllocation = allocated(c.disk.StorageIOAllocation, disk.StorageIOAllocation)
	if c.disk.Shares != nil {
		disk.Shares = c.disk.Shares
	}
	if flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && c.flat != nil {
		if c.flat.DiskMode != "" {
			flat.DiskMode = c.flat.DiskMode
		}
		if c.flat.Sharing != "" {
			flat.Sharing = c.flat.Sharing
		}
	}
	s.describe(disk, c.at)
	disk.DeviceInfo.GetDescription().Summary = fmt.Sprintf("%s KB", thousands(disk.CapacityInKB))
	return disk
}

func devicesOf(ctx *simulator.Context, vm *simulator.VirtualMachine) (devices []types.BaseVirtualDevice) {
	ctx.WithLock(vm, func() { devices = append(devices, vm.Config.Hardware.Device...) })
	return devices
}

func findDevice(devices []types.BaseVirtualDevice, key int32) types.BaseVirtualDevice {
	for _, device := range devices {
		if device.GetVirtualDevice().Key == key {
			return device
		}
	}
	return nil
}

func replaceDevice(devices []types.BaseVirtualDevice, by types.BaseVirtualDevice) []types.BaseVirtualDevice {
	for i, device := range devices {
		if device.GetVirtualDevice().Key == by.GetVirtualDevice().Key {
			devices[i] = by
		}
	}
	return devices
}

func removeDevice(devices []types.BaseVirtualDevice, key int32) []types.BaseVirtualDevice {
	var kept []types.BaseVirtualDevice
	for _, device := range devices {
		if device.GetVirtualDevice().Key == key {
			continue
		}
		if controller, ok := device.(types.BaseVirtualController); ok && slices.Contains(controller.GetVirtualController().Device, key) {
			keys := slices.DeleteFunc(slices.Clone(controller.GetVirtualController().Device), func(k int32) bool { return k == key })
			device = withDisks(controller, keys)
		}
		kept = append(kept, device)
	}
	return kept
}

// withDisks is a controller with other devices on it. The one that is given may be on its way to a client, and stays as it is.
func withDisks(controller types.BaseVirtualController, keys []int32) types.BaseVirtualDevice {
	fresh := deepCopy(controller)
	fresh.GetVirtualController().Device = keys
	return fresh.(types.BaseVirtualDevice)
}

func unitTaken(devices []types.BaseVirtualDevice, controller, unit int32) bool {
	for _, device := range devices {
		d := device.GetVirtualDevice()
		if d.ControllerKey == controller && d.UnitNumber != nil && *d.UnitNumber == unit {
			return true
		}
	}
	return false
}

// freeUnit leaves out the place of a SCSI controller itself.
func freeUnit(devices []types.BaseVirtualDevice, controller int32) int32 {
	for unit := int32(0); ; unit++ {
		if unit != scsiUnit && !unitTaken(devices, controller, unit) {
			return unit
		}
	}
}

// freeKey is the key that a host would give: 2000 and on for SCSI, by bus and unit.
func freeKey(devices []types.BaseVirtualDevice, controller types.BaseVirtualController, unit int32) int32 {
	key := int32(2000) + unit
	switch c := controller.(type) {
	case types.BaseVirtualSCSIController:
		key += c.GetVirtualSCSIController().BusNumber * 16
	case *types.VirtualIDEController:
		key = 3000 + c.BusNumber*2 + unit
	case types.BaseVirtualSATAController:
		key = 16000 + c.GetVirtualSATAController().BusNumber*30 + unit
	case *types.VirtualNVMEController:
		key = 32000 + c.BusNumber*15 + unit
	}
	for findDevice(devices, key) != nil {
		key++
	}
	return key
}

func capacityOf(disk *types.VirtualDisk) int64 {
	if disk.CapacityInBytes > 0 {
		return disk.CapacityInBytes
	}
	return disk.CapacityInKB << 10
}

func isTrue(flag *bool) bool { return flag != nil && *flag }

func running(ctx *simulator.Context, vm *simulator.VirtualMachine) (on bool) {
	ctx.WithLock(vm, func() { on = vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn })
	return on
}

// mounts reports whether the virtual machine's host mounts a datastore.
func mounts(ctx *simulator.Context, vm *simulator.VirtualMachine, ds *simulator.Datastore) bool {
	host := places.HostOf(ctx, vm)
	return host == nil || hostMounts(ctx, *host, ds)
}

func hostMounts(ctx *simulator.Context, host types.ManagedObjectReference, ds *simulator.Datastore) (found bool) {
	ctx.WithLock(ds, func() {
		for _, mount := range ds.Host {
			if mount.Key == host && mount.MountInfo.Accessible != nil && *mount.MountInfo.Accessible {
				found = true
			}
		}
	})
	return found
}

func thousands(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// fileFault says in the API's terms what went wrong with a file.
func fileFault(at place, err error) types.BaseMethodFault {
	file := types.FileFault{File: at.String()}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &types.FileNotFound{FileFault: file}
	case errors.Is(err, os.ErrExist):
		return &types.FileAlreadyExists{FileFault: file}
	}
	return &types.CannotAccessFile{FileFault: file}
}
