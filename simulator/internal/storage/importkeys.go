// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"path"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/types"
)

// importKeys are the names that the devices of an import have in its specification: OvfFileItem.deviceId calls the file of a
// device so, and HttpNfcLeaseDeviceUrl.importKey the place where the file goes.
type importKeys struct{ disks, drives []string }

func (k importKeys) disk(i int) string  { return nth(k.disks, i) }
func (k importKeys) drive(i int) string { return nth(k.drives, i) }

func nth(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return ""
}

// importKeysOf names the devices of a specification: "/NAME/VirtualLsiLogicController0:1".
func importKeysOf(spec *types.VirtualMachineConfigSpec) (keys importKeys) {
	devices := append([]types.BaseVirtualDevice(nil), esx.VirtualDevice...)
	var added []types.BaseVirtualDevice
	for _, change := range spec.DeviceChange {
		if device := change.GetVirtualDeviceConfigSpec().Device; device != nil {
			added = append(added, device)
		}
	}
	devices = append(added, devices...)
	for _, disk := range disks(added) {
		keys.disks = append(keys.disks, "/"+spec.Name+"/"+deviceName(devices, disk))
	}
	for _, drive := range importedDrives(added) {
		keys.drives = append(keys.drives, "/"+spec.Name+"/"+deviceName(devices, drive))
	}
	return keys
}

// deviceName is a device's place: the kind and the bus of its controller, and its unit.
func deviceName(devices []types.BaseVirtualDevice, device types.BaseVirtualDevice) string {
	d := device.GetVirtualDevice()
	kind, bus, unit := "VirtualController", int32(0), int32(0)
	if controller, ok := findDevice(devices, d.ControllerKey).(types.BaseVirtualController); ok {
		kind, bus = reflect.TypeOf(controller).Elem().Name(), controller.GetVirtualController().BusNumber
	}
	if d.UnitNumber != nil {
		unit = *d.UnitNumber
	}
	return fmt.Sprintf("%s%d:%d", kind, bus, unit)
}

// importedDrives are the CD-ROMs among devices whose image is a part of the import: OvfManager calls these _deviceImage0.iso ...
func importedDrives(devices []types.BaseVirtualDevice) (drives []*types.VirtualCdrom) {
	for _, device := range devices {
		drive, ok := device.(*types.VirtualCdrom)
		if !ok {
			continue
		}
		if iso, ok := drive.Backing.(*types.VirtualCdromIsoBackingInfo); ok &&
			strings.HasPrefix(path.Base(iso.FileName), "_deviceImage") {
			drives = append(drives, drive)
		}
	}
	return drives
}

// nameFiles gives the files of an OVF's import the names of their devices. The library counts them by the kind of device.
func nameFiles(result *types.OvfCreateImportSpecResult) {
	spec, ok := result.ImportSpec.(*types.VirtualMachineImportSpec)
	if !ok {
		return
	}
	keys := importKeysOf(&spec.ConfigSpec)
	for i := range result.FileItem {
		kind, number, _ := strings.Cut(path.Base(result.FileItem[i].DeviceId), ":")
		var n int
		if _, err := fmt.Sscan(number, &n); err != nil {
			continue
		}
		key := ""
		switch kind {
		case "disk":
			key = keys.disk(n)
		case "cdrom":
			// The library counts the drives that have no image, too.
			key = keys.drive(driveOf(spec.ConfigSpec.DeviceChange, n))
		}
		if key != "" {
			result.FileItem[i].DeviceId = key
		}
	}
}

// driveOf is the number among the drives with an image of the import that the n-th of all drives has.
func driveOf(changes []types.BaseVirtualDeviceConfigSpec, n int) int {
	var devices []types.BaseVirtualDevice
	for _, change := range changes {
		device := change.GetVirtualDeviceConfigSpec().Device
		if _, ok := device.(*types.VirtualCdrom); ok {
			if n--; n < 0 {
				break
			}
		}
		devices = append(devices, device)
	}
	return len(importedDrives(devices))
}
