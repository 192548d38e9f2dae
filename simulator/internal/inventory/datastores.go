// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

const gib = int64(1) << 30

// Used holds, by datastore, the bytes that others' files take from the start.
var Used = make(map[types.ManagedObjectReference]int64)

// defaultSizes are taken in turn by the datastores of a datacenter, if no capacity is asked for.
var defaultSizes = []struct{ capacity, used int64 }{
	{1024 * gib, 0}, {2048 * gib, 512 * gib}, {512 * gib, 384 * gib}, {4096 * gib, 1024 * gib}, {1536 * gib, 1200 * gib},
}

func (o *Options) sizeOf(index int) (capacity, used int64) {
	if named, ok := o.CapacityOf[datastoreName(index)]; ok {
		return named, 0
	}
	if o.Capacity > 0 {
		return o.Capacity, 0
	}
	size := defaultSizes[index%len(defaultSizes)]
	return size.capacity, size.used
}

// mountedOn says which hosts mount the datastore of an index. The rule is in the README.
func (o *Options) mountedOn(index int, groups [][]*simulator.HostSystem) []*simulator.HostSystem {
	var all []*simulator.HostSystem
	for _, group := range groups {
		all = append(all, group...)
	}
	switch {
	case o.MountByCluster && len(groups) > 0:
		return groups[index%len(groups)]
	case o.MountEverywhere:
	case index%5 == 3 && len(groups) > 1:
		return groups[(index/5+len(groups)-1)%len(groups)]
	case index%5 == 4 && len(all) > 1:
		var half []*simulator.HostSystem
		for i := 0; i < len(all); i += 2 {
			half = append(half, all[i])
		}
		return half
	}
	return all
}

func addDatastores(model *simulator.Model, options *Options) error {
	for _, datacenter := range datacenters(model.Map()) {
		groups := hostsOf(model.Map(), datacenter)
		first := model.Map().Get(datacenter.Datastore[0]).(*simulator.Datastore)
		for index := range options.Datastores {
			capacity, used := options.sizeOf(index)
			datastore, err := first, error(nil)
			if index > 0 {
				datastore, err = AddDatastore(model.Service.Context, datastoreName(index), options.mountedOn(index, groups),
					func(datastore *simulator.Datastore) { FormatVMFS(datastore, capacity) })
			} else {
				if err = adopt(first); err == nil {
					FormatVMFS(first, capacity)
				}
			}
			if err != nil {
				return err
			}
			if used > 0 {
				Used[datastore.Self] = used
			}
		}
	}
	return nil
}

// adopt moves the folder of the datastore that the library made, and gives it the URL that FormatVMFS expects.
func adopt(datastore *simulator.Datastore) error {
	url, dir := newURL()
	if err := os.MkdirAll(path.Dir(dir), 0o700); err != nil {
		return err
	}
	old := datastore.Summary.Url
	datastore.Summary.Url, datastore.Info.GetDatastoreInfo().Url = url, url
	return os.Rename(old, dir)
}

// newURL makes a VMFS volume's URL, and the path at which the library resolves it.
func newURL() (url, dir string) {
	id := uuid.New()
	volume := fmt.Sprintf("%x-%x-%x-%x", id[0:4], id[4:8], id[8:10], id[10:16])
	return "ds:///vmfs/volumes/" + volume + "/", path.Join("ds:", "vmfs", "volumes", volume)
}

// AddDatastore puts a new, empty datastore into the inventory and mounts it on hosts of one datacenter. What it is
// (FormatVMFS) and how large, format says, before anybody else looks.
func AddDatastore(
	ctx *simulator.Context, name string, hosts []*simulator.HostSystem, format func(*simulator.Datastore),
) (*simulator.Datastore, error) {
	if len(hosts) == 0 {
		return nil, errors.New("a datastore needs a host")
	}
	url, dir := newURL()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	defer core.Expect(ctx, func(obj mo.Reference) bool {
		datastore, ok := obj.(*simulator.Datastore)
		return ok && datastore.Info.GetDatastoreInfo().Url == url
	})()
	system := ctx.Map.Get(*hosts[0].ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem)
	unlock := lockBoth(ctx, system, hosts[0]) // the library locks neither
	answer := system.CreateLocalDatastore(ctx, &types.CreateLocalDatastore{This: system.Self, Name: name, Path: url})
	unlock()
	if fault := answer.Fault(); fault != nil {
		_ = os.Remove(dir)
		return nil, fmt.Errorf("datastore %s: %s %T", name, fault.String, fault.VimFault())
	}
	ref := answer.(*methods.CreateLocalDatastoreBody).Res.Returnval
	datastore := ctx.Map.Get(ref).(*simulator.Datastore)
	for _, host := range hosts[1:] {
		Mount(ctx, datastore, host)
	}
	format(datastore)
	return datastore, nil
}

func lockBoth(ctx *simulator.Context, system *simulator.HostDatastoreSystem, host *simulator.HostSystem) (unlock func()) {
	first := ctx.Map.AcquireLock(ctx, system)
	second := ctx.Map.AcquireLock(ctx, host)
	return func() {
		second()
		first()
	}
}

// Mount mounts a datastore on one more host.
func Mount(ctx *simulator.Context, datastore *simulator.Datastore, host *simulator.HostSystem) {
	mount := types.DatastoreHostMount{
		Key: host.Self,
		MountInfo: types.HostMountInfo{
			AccessMode: string(types.HostMountModeReadWrite), Mounted: types.NewBool(true), Accessible: types.NewBool(true),
		},
	}
	ctx.WithLock(datastore, func() { datastore.Host = append(datastore.Host, mount) })
	system := ctx.Map.Get(*host.ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem)
	unlock := lockBoth(ctx, system, host)
	system.Datastore = append(system.Datastore, datastore.Self)
	host.Datastore = slices.Clone(system.Datastore)
	unlock()
	switch parent := ctx.Map.Get(*host.Parent).(type) {
	case *simulator.ClusterComputeResource:
		ctx.Map.AddReference(ctx, parent, &parent.Datastore, datastore.Self)
	case *mo.ComputeResource:
		ctx.Map.AddReference(ctx, parent, &parent.Datastore, datastore.Self)
	}
}

// FormatVMFS makes a datastore that was just added a VMFS volume of a capacity in bytes, all of it free.
func FormatVMFS(datastore *simulator.Datastore, capacityBytes int64) {
	url := datastore.Summary.Url
	volume := path.Base(url)
	const maxFileBytes = 64 << 40
	now := time.Now()
	info := types.DatastoreInfo{
		Name: datastore.Name, Url: url, FreeSpace: capacityBytes, MaxFileSize: maxFileBytes,
		MaxVirtualDiskCapacity: maxFileBytes, MaxMemoryFileSize: maxFileBytes, Timestamp: &now,
	}
	datastore.Info = &types.VmfsDatastoreInfo{
		DatastoreInfo:          info,
		MaxPhysicalRDMFileSize: maxFileBytes,
		MaxVirtualRDMFileSize:  maxFileBytes,
		Vmfs: &types.HostVmfsVolume{
			HostFileSystemVolume: types.HostFileSystemVolume{
				Type: string(types.HostFileSystemVolumeFileSystemTypeVMFS), Name: datastore.Name, Capacity: capacityBytes,
			},
			BlockSizeMb: 1, BlockSize: 1024, MaxBlocks: 63963136, MajorVersion: 6, Version: "6.82", Uuid: volume,
			Extent:         []types.HostScsiDiskPartition{{DiskName: "naa." + volume, Partition: 1}},
			VmfsUpgradable: false, Local: types.NewBool(false),
		},
	}
	datastore.Summary.Type = string(types.HostFileSystemVolumeFileSystemTypeVMFS)
	datastore.Summary.Capacity, datastore.Summary.FreeSpace = capacityBytes, capacityBytes
	datastore.Summary.Uncommitted = 0
	datastore.Summary.MultipleHostAccess = types.NewBool(len(datastore.Host) > 1)
	datastore.Summary.Accessible = true
	datastore.Summary.MaintenanceMode = string(types.DatastoreSummaryMaintenanceModeStateNormal)
	datastore.Capability.StorageIORMSupported = true
	datastore.Capability.NativeSnapshotSupported = false
	for i := range datastore.Host {
		datastore.Host[i].MountInfo.Path = "/vmfs/volumes/" + volume
	}
}
