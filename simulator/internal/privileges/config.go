// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/places"
)

const (
	allocate = "Datastore.AllocateSpace"
	apply    = "StorageProfile.Apply"
	settings = "VirtualMachine.Config.Settings"
)

// configuring is the privilege that each part of a VirtualMachineConfigSpec needs, as the reference names it there. Parts that
// are missing here need VirtualMachine.Config.Settings.
var configuring = map[string]string{
	"ChangeVersion": "", "DeviceChange": "", "VmProfile": "", "CreateDate": "", // see below
	"Name": "VirtualMachine.Config.Rename", "Annotation": "VirtualMachine.Config.Annotation",
	"NumCPUs": "VirtualMachine.Config.CPUCount", "NumCoresPerSocket": "VirtualMachine.Config.CPUCount",
	"CpuHotAddEnabled": "VirtualMachine.Config.CPUCount", "CpuHotRemoveEnabled": "VirtualMachine.Config.CPUCount",
	"MemoryMB": "VirtualMachine.Config.Memory", "MemoryHotAddEnabled": "VirtualMachine.Config.Memory",
	"CpuAllocation": "VirtualMachine.Config.Resource", "MemoryAllocation": "VirtualMachine.Config.Resource",
	"LatencySensitivity": "VirtualMachine.Config.Resource", "CpuAffinity": "VirtualMachine.Config.Resource",
	"MemoryAffinity": "VirtualMachine.Config.Resource", "NetworkShaper": "VirtualMachine.Config.Resource",
	"MemoryReservationLockedToMax": "VirtualMachine.Config.Resource",
	"ExtraConfig":                  "VirtualMachine.Config.AdvancedConfig",
	"SwapPlacement":                "VirtualMachine.Config.SwapPlacement",
	"ChangeTrackingEnabled":        "VirtualMachine.Config.ChangeTracking",
	"MaxMksConnections":            "VirtualMachine.Config.MksControl",
	"GuestAutoLockEnabled":         "VirtualMachine.Config.MksControl",
	"ManagedBy":                    "VirtualMachine.Config.ManagedBy",
	"VAppConfig":                   "VApp.ApplicationConfig", "VAppConfigRemoved": "VApp.ApplicationConfig",
}

// atCreation are the privileges that making a virtual machine needs too, on the folder: Folder.CreateVM_Task lists them.
var atCreation = []string{
	"VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.AddNewDisk", "VirtualMachine.Config.RawDevice",
	"VirtualMachine.Config.HostUSBDevice", "VirtualMachine.Config.AdvancedConfig", "VirtualMachine.Config.SwapPlacement",
	"VirtualMachine.Config.ChangeTracking",
}

// specification is a VirtualMachineConfigSpec and what it is for.
type specification struct {
	*demands
	spec *types.VirtualMachineConfigSpec
	// target is the virtual machine that is changed, or the folder of one that is made.
	target  ref
	devices []types.BaseVirtualDevice
}

func (s *specification) needs(privilege string) {
	if s.target.Type != "VirtualMachine" && !slices.Contains(atCreation, privilege) {
		return
	}
	s.demands.add(s.target, privilege)
}

// configuration adds what a specification needs.
func (d *demands) configuration(target ref, spec *types.VirtualMachineConfigSpec) {
	s := &specification{demands: d, spec: spec, target: target}
	if vm, ok := d.ctx.Map.Get(target).(*simulator.VirtualMachine); ok {
		d.ctx.WithLock(vm, func() {
			if vm.Config != nil {
				s.devices = slices.Clone(vm.Config.Hardware.Device)
			}
		})
	}
	value := reflect.ValueOf(spec).Elem()
	for i := range value.NumField() {
		field := value.Type().Field(i)
		if field.Anonymous || value.Field(i).IsZero() {
			continue
		}
		privilege, listed := configuring[field.Name]
		if !listed {
			privilege = settings
		}
		s.needs(privilege)
	}
	d.profiles(spec.VmProfile)
	for _, change := range spec.DeviceChange {
		s.device(change.GetVirtualDeviceConfigSpec())
	}
}

// profiles adds what the application of storage policies needs: a privilege of its own as of vSphere 8.0 U2.
func (d *demands) profiles(list []types.BaseVirtualMachineProfileSpec) {
	for _, profile := range list {
		if _, defined := profile.(*types.VirtualMachineDefinedProfileSpec); defined && d.judge.since("8.0.2") {
			d.add(d.judge.root(), apply)
		}
	}
}

func (s *specification) device(change *types.VirtualDeviceConfigSpec) {
	s.profiles(change.Profile)
	disk, isDisk := change.Device.(*types.VirtualDisk)
	switch {
	case isDisk && raw(disk):
		s.needs("VirtualMachine.Config.RawDevice")
	case isDisk:
		s.disk(change, disk)
	case hostUSB(change.Device):
		s.needs("VirtualMachine.Config.HostUSBDevice")
	case change.Operation == types.VirtualDeviceConfigSpecOperationEdit:
		s.edited(change.Device)
	default:
		s.needs("VirtualMachine.Config.AddRemoveDevice")
	}
	if change.Operation != types.VirtualDeviceConfigSpecOperationRemove {
		s.network(change.Device)
	}
}

func (s *specification) edited(device types.BaseVirtualDevice) {
	switch device.(type) {
	case *types.VirtualCdrom:
		s.needs("VirtualMachine.Interact.SetCDMedia")
	case *types.VirtualFloppy:
		s.needs("VirtualMachine.Interact.SetFloppyMedia")
	default:
		s.needs("VirtualMachine.Config.EditDevice")
	}
}

func (s *specification) disk(change *types.VirtualDeviceConfigSpec, disk *types.VirtualDisk) {
	old, _ := s.current(disk.Key).(*types.VirtualDisk)
	if old == nil {
		old = &types.VirtualDisk{}
	}
	switch change.Operation {
	case types.VirtualDeviceConfigSpecOperationRemove:
		s.needs("VirtualMachine.Config.RemoveDisk")
		return
	case types.VirtualDeviceConfigSpecOperationEdit:
		if capacity(disk) > capacity(old) {
			s.needs("VirtualMachine.Config.DiskExtend")
		}
		if capacity(disk) <= capacity(old) || backing(disk) != backing(old) {
			s.needs("VirtualMachine.Config.EditDevice")
		}
	default:
		if change.FileOperation == "" {
			s.needs("VirtualMachine.Config.AddExistingDisk")
			break
		}
		s.needs("VirtualMachine.Config.AddNewDisk")
		s.allocates(disk)
	}
	if allocates(disk, old) {
		s.needs("VirtualMachine.Config.Resource")
	}
}

// allocates reports whether an edit changes a disk's share of its datastore's throughput. What it does not name stays. The
// reference names the privilege for the shares; that of limit and reservation is taken to be the same, as in the vSphere Client.
func allocates(disk, old *types.VirtualDisk) bool {
	asked, before := disk.StorageIOAllocation, old.StorageIOAllocation
	if asked == nil {
		return disk.Shares != nil && (old.Shares == nil || *disk.Shares != *old.Shares)
	}
	if before == nil {
		before = &types.StorageIOAllocationInfo{}
	}
	return changes(asked.Limit, before.Limit) || changes(asked.Reservation, before.Reservation) ||
		changes(asked.Shares, before.Shares)
}

func changes[T comparable](asked, before *T) bool {
	return asked != nil && (before == nil || *asked != *before)
}

func (s *specification) current(key int32) types.BaseVirtualDevice {
	for _, device := range s.devices {
		if device.GetVirtualDevice().Key == key {
			return device
		}
	}
	return nil
}

func capacity(disk *types.VirtualDisk) int64 { return max(disk.CapacityInBytes, disk.CapacityInKB<<10) }

// backing is what of a disk's backing tells that an edit changes it.
func backing(disk *types.VirtualDisk) string {
	if flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
		return flat.FileName + "\n" + flat.DiskMode
	}
	return ""
}

func raw(disk *types.VirtualDisk) bool {
	switch disk.Backing.(type) {
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo, *types.VirtualDiskRawDiskVer2BackingInfo:
		return true
	}
	return false
}

func hostUSB(device types.BaseVirtualDevice) bool {
	usb, ok := device.(*types.VirtualUSB)
	if !ok {
		return false
	}
	_, host := usb.Backing.(*types.VirtualUSBUSBBackingInfo)
	return host
}

// allocates adds the space of a disk that is made: on its datastore, which its reference or its path names; else it lies with
// the virtual machine.
func (s *specification) allocates(disk *types.VirtualDisk) {
	file, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo)
	if !ok {
		return
	}
	info := file.GetVirtualDeviceFileBackingInfo()
	switch {
	case info.Datastore != nil:
		s.demands.add(*info.Datastore, allocate)
	case strings.HasPrefix(info.FileName, "["):
		s.path(&s.target, info.FileName, allocate)
	default:
		s.on(s.home(), allocate)
	}
}

// home is the datastore of the virtual machine's own files, also of one that is to be made.
func (s *specification) home() *ref {
	if s.spec.Files != nil && s.target.Type != "VirtualMachine" {
		if ds := places.DatastoreOf(s.ctx, s.target, s.spec.Files.VmPathName); ds != nil {
			return &ds.Self
		}
		return nil
	}
	return homeOf(s.ctx, s.target)
}

// homeOf is the datastore of a virtual machine's own files.
func homeOf(ctx *simulator.Context, machine ref) *ref {
	vm, ok := ctx.Map.Get(machine).(*simulator.VirtualMachine)
	if !ok {
		return nil
	}
	var name string
	ctx.WithLock(vm, func() {
		if vm.Config != nil {
			name = vm.Config.Files.VmPathName
		}
	})
	if ds := places.DatastoreOf(ctx, machine, name); ds != nil {
		return &ds.Self
	}
	return nil
}

func (s *specification) network(device types.BaseVirtualDevice) {
	card, ok := device.(types.BaseVirtualEthernetCard)
	if !ok {
		return
	}
	switch b := card.GetVirtualEthernetCard().Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		s.on(b.Network, "Network.Assign")
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		s.demands.add(ref{Type: "DistributedVirtualPortgroup", Value: b.Port.PortgroupKey}, "Network.Assign")
	}
}

// machines adds what calls about virtual machines need.
func (d *demands) machines() bool {
	this := d.call.This
	switch r := d.call.Body.(type) {
	case *types.ReconfigVM_Task:
		d.configuration(this, &r.Spec)
	case *types.CreateVM_Task:
		d.create(this, &r.Config)
	case *types.CreateChildVM_Task:
		d.create(this, &r.Config)
	case *types.ImportVApp:
		if spec, ok := r.Spec.(*types.VirtualMachineImportSpec); ok {
			folder := this
			if r.Folder != nil {
				folder = *r.Folder
			}
			d.create(folder, &spec.ConfigSpec)
		}
	case *types.RegisterVM_Task:
		d.path(nil, r.Path, read)
	case *types.CloneVM_Task:
		d.clone(this, r)
	case *types.RelocateVM_Task:
		d.relocate(this, &r.Spec)
	case *types.MigrateVM_Task:
		d.migrate(this)
	case *types.CreateSnapshot_Task, *types.CreateSnapshotEx_Task:
		d.snapshot(this)
	default:
		return false
	}
	return true
}

func (d *demands) create(folder ref, spec *types.VirtualMachineConfigSpec) {
	d.configuration(folder, spec)
	if spec.Files != nil {
		d.path(&folder, spec.Files.VmPathName, allocate)
	}
}

// snapshot adds the space that deltas take ("Required Privileges for Common Tasks" of vSphere Security; the reference names only
// the privilege on the virtual machine).
func (d *demands) snapshot(machine ref) {
	for _, datastore := range d.occupied(machine) {
		d.add(datastore, allocate)
	}
}

// occupied are the datastores of a virtual machine's own files and of its disks.
func (d *demands) occupied(machine ref) []ref {
	var list []ref
	if home := homeOf(d.ctx, machine); home != nil {
		list = append(list, *home)
	}
	for _, disk := range d.disks(machine) {
		if file, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
			if ds := file.GetVirtualDeviceFileBackingInfo().Datastore; ds != nil && !slices.Contains(list, *ds) {
				list = append(list, *ds)
			}
		}
	}
	return list
}

func (d *demands) disks(machine ref) []*types.VirtualDisk {
	vm, ok := d.ctx.Map.Get(machine).(*simulator.VirtualMachine)
	if !ok {
		return nil
	}
	var list []*types.VirtualDisk
	d.ctx.WithLock(vm, func() {
		if vm.Config == nil {
			return
		}
		for _, device := range object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil)) {
			list = append(list, device.(*types.VirtualDisk))
		}
	})
	return list
}

func (d *demands) state(machine ref) (template, running bool) {
	vm, ok := d.ctx.Map.Get(machine).(*simulator.VirtualMachine)
	if !ok {
		return false, false
	}
	d.ctx.WithLock(vm, func() {
		template = vm.Config != nil && vm.Config.Template
		running = vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	})
	return template, running
}

func (d *demands) clone(source ref, r *types.CloneVM_Task) {
	template, _ := d.state(source)
	privilege := "Clone"
	switch {
	case template && r.Spec.Template:
		privilege = "CloneTemplate"
	case template:
		privilege = "DeployTemplate"
	case r.Spec.Template:
		privilege = "CreateTemplateFromVM"
	}
	d.add(source, "VirtualMachine.Provisioning."+privilege)
	if r.Spec.Customization != nil {
		d.add(source, "VirtualMachine.Provisioning.Customize")
	}
	d.add(r.Folder, "VirtualMachine.Inventory.CreateFromExisting")
	// "Required Privileges for Common Tasks" of vSphere Security names this one for the folder of a deployed template.
	if len(d.disks(source)) > 0 {
		d.add(r.Folder, "VirtualMachine.Config.AddNewDisk")
	}
	if !r.Spec.Template {
		d.on(r.Spec.Location.Pool, "Resource.AssignVMToPool")
	}
	if r.Spec.Location.Datastore == nil {
		d.snapshot(source)
	}
	d.location(&r.Spec.Location)
	if r.Spec.Config != nil {
		d.configuration(r.Folder, r.Spec.Config)
	}
}

func (d *demands) location(spec *types.VirtualMachineRelocateSpec) {
	d.on(spec.Datastore, allocate)
	for i := range spec.Disk {
		d.add(spec.Disk[i].Datastore, allocate)
		d.profiles(spec.Disk[i].Profile)
	}
	d.profiles(spec.Profile)
}

func (d *demands) relocate(machine ref, spec *types.VirtualMachineRelocateSpec) {
	if _, running := d.state(machine); running {
		d.add(machine, "Resource.HotMigrate")
	}
	d.on(spec.Pool, "Resource.AssignVMToPool")
	if spec.Folder != nil && !slices.Contains(d.judge.parents(machine), *spec.Folder) {
		const move = "VirtualMachine.Inventory.Move"
		d.add(machine, move)
		d.on(d.parent(machine), move)
		d.add(*spec.Folder, move)
	}
	d.location(spec)
}

func (d *demands) migrate(machine ref) {
	privilege := "Resource.ColdMigrate"
	if _, running := d.state(machine); running {
		privilege = "Resource.HotMigrate"
	}
	d.add(machine, privilege)
}
