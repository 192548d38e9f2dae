// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const sectorBytes = 512

// disk is a LUN that all hosts of a datacenter see.
type disk struct {
	name       string // canonical: naa...
	datacenter types.ManagedObjectReference
	bytes      int64
	// datastore is the VMFS datastore on it, if there is one.
	datastore *types.ManagedObjectReference
}

type disks struct {
	sync.Mutex
	list []*disk
}

// add makes an empty disk.
func (d *disks) add(datacenter types.ManagedObjectReference, bytes int64) *disk {
	id := uuid.New()
	fresh := &disk{name: fmt.Sprintf("naa.%x", id[:]), datacenter: datacenter, bytes: bytes}
	d.Lock()
	defer d.Unlock()
	d.list = append(d.list, fresh)
	return fresh
}

// adopt notes the disk below a datastore that exists.
func (d *disks) adopt(datacenter types.ManagedObjectReference, datastore *simulator.Datastore, name string) {
	d.Lock()
	defer d.Unlock()
	ref := datastore.Self
	d.list = append(d.list, &disk{name: name, datacenter: datacenter, bytes: datastore.Summary.Capacity, datastore: &ref})
}

func (d *disks) free(datacenter types.ManagedObjectReference) []*disk {
	return d.find(func(each *disk) bool { return each.datastore == nil && each.datacenter == datacenter })
}

func (d *disks) of(datastore types.ManagedObjectReference) *disk {
	found := d.find(func(each *disk) bool { return each.datastore != nil && *each.datastore == datastore })
	if len(found) == 0 {
		return nil
	}
	return found[0]
}

// named finds a disk by its uuid, canonical name or device path.
func (d *disks) named(datacenter types.ManagedObjectReference, name string) *disk {
	found := d.find(func(each *disk) bool {
		return each.datacenter == datacenter && slices.Contains([]string{each.name, each.uuid(), each.path()}, name)
	})
	if len(found) == 0 {
		return nil
	}
	return found[0]
}

func (d *disks) find(wanted func(*disk) bool) []*disk {
	d.Lock()
	defer d.Unlock()
	var found []*disk
	for _, each := range d.list {
		if wanted(each) {
			found = append(found, each)
		}
	}
	return found
}

// take gives a disk to a datastore, if nobody was faster.
func (d *disks) take(wanted *disk, datastore types.ManagedObjectReference) bool {
	d.Lock()
	defer d.Unlock()
	if wanted.datastore != nil {
		return false
	}
	wanted.datastore = &datastore
	return true
}

func (d *disks) release(datastore types.ManagedObjectReference) {
	if owned := d.of(datastore); owned != nil {
		d.Lock()
		owned.datastore = nil
		d.Unlock()
	}
}

func (d *disk) uuid() string { return "0200000000" + d.name[len("naa."):] }

func (d *disk) path() string { return "/vmfs/devices/disks/" + d.name }

// size is what the API calls a disk's dimensions.
func size(bytes int64) types.HostDiskDimensionsLba {
	return types.HostDiskDimensionsLba{BlockSize: sectorBytes, Block: bytes / sectorBytes}
}

// scsi is the disk as a host shows it.
func (d *disk) scsi() types.HostScsiDisk {
	return types.HostScsiDisk{
		ScsiLun: types.ScsiLun{
			HostDevice: types.HostDevice{DeviceName: d.path(), DeviceType: "disk"},
			Key:        "key-vim.host.ScsiDisk-" + d.uuid(), Uuid: d.uuid(), CanonicalName: d.name, LunType: "disk",
			DisplayName: "Simulated iSCSI Disk (" + d.name + ")", Vendor: "VMware", Model: "Virtual disk", Revision: "2.0",
			ScsiLevel: 6, SerialNumber: "unavailable", OperationalState: []string{"ok"},
		},
		Capacity: size(d.bytes), DevicePath: d.path(), Ssd: types.NewBool(false), LocalDisk: types.NewBool(false),
		EmulatedDIXDIFEnabled: types.NewBool(false), ScsiDiskType: string(types.ScsiDiskTypeNative512),
		UsedByMemoryTiering: types.NewBool(false),
	}
}

// partition is one VMFS partition over the whole disk.
func (d *disk) partition() types.HostDiskPartitionSpec {
	const firstSector = 2048
	return types.HostDiskPartitionSpec{
		PartitionFormat: string(types.HostDiskPartitionInfoPartitionFormatGpt), TotalSectors: d.bytes / sectorBytes,
		Partition: []types.HostDiskPartitionAttributes{{
			Partition: 1, StartSector: firstSector, EndSector: d.bytes/sectorBytes - 1,
			Type: string(types.HostDiskPartitionInfoTypeVmfs),
		}},
	}
}

func (d *disk) layout() types.HostDiskPartitionLayout {
	total := size(d.bytes)
	return types.HostDiskPartitionLayout{Total: &total, Partition: []types.HostDiskPartitionBlockRange{{
		Partition: 1, Type: string(types.HostDiskPartitionInfoTypeVmfs), Start: size(0), End: total}}}
}
