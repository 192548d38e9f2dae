// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"crypto/sha1"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/inventory"
	"vcenter-sim/internal/places"
)

// exportBytes is the capacity of an NFS export, and of a local datastore.
const exportBytes = 1 << 40

// shared is HostDatastoreSystem.CreateNasDatastore and CreateLocalDatastore.
func (f *feature) shared(s *core.Sim) {
	core.Unlocked(s, func(ctx *simulator.Context, req *types.CreateNasDatastore, _ core.Next) soap.HasFault {
		f.adding.Lock()
		defer f.adding.Unlock()
		datastore, fault := f.createNAS(ctx, req)
		if fault != nil {
			return core.Fault(fault)
		}
		return &methods.CreateNasDatastoreBody{Res: &types.CreateNasDatastoreResponse{Returnval: datastore.Self}}
	})
	core.Unlocked(s, func(ctx *simulator.Context, req *types.CreateLocalDatastore, _ core.Next) soap.HasFault {
		f.adding.Lock()
		defer f.adding.Unlock()
		host, datacenter := hostOf(ctx, req.This)
		name := places.Escape(req.Name)
		if fault := nameFree(ctx, datacenter, name); fault != nil {
			return core.Fault(fault)
		}
		if req.Path == "" {
			return core.Fault(&types.InvalidArgument{InvalidProperty: "path"})
		}
		datastore, err := inventory.AddDatastore(ctx, name, []*simulator.HostSystem{host}, func(datastore *simulator.Datastore) {
			datastore.Info.(*types.LocalDatastoreInfo).Path = req.Path
			figures(datastore, string(types.HostFileSystemVolumeFileSystemTypeOTHER), exportBytes)
			datastore.Summary.MultipleHostAccess = types.NewBool(false)
		})
		if err != nil {
			return core.Fault(&types.SystemError{Reason: err.Error()})
		}
		f.made(ctx, datastore, datacenter)
		return &methods.CreateLocalDatastoreBody{Res: &types.CreateLocalDatastoreResponse{Returnval: datastore.Self}}
	})
}

// createNAS mounts an export on a host. Mounted on a second host under the same name, it is the same datastore.
func (f *feature) createNAS(ctx *simulator.Context, req *types.CreateNasDatastore) (*simulator.Datastore, types.BaseMethodFault) {
	host, datacenter := hostOf(ctx, req.This)
	spec := req.Spec
	kind := spec.Type
	if kind == "" {
		kind = string(types.HostFileSystemVolumeFileSystemTypeNFS)
	}
	nfs := []string{string(types.HostFileSystemVolumeFileSystemTypeNFS), string(types.HostFileSystemVolumeFileSystemTypeNFS41)}
	switch {
	case spec.RemoteHost == "":
		return nil, &types.InvalidArgument{InvalidProperty: "spec.remoteHost"}
	case spec.RemotePath == "":
		return nil, &types.InvalidArgument{InvalidProperty: "spec.remotePath"}
	case spec.LocalPath == "":
		return nil, &types.InvalidArgument{InvalidProperty: "spec.localPath"}
	case !slices.Contains(nfs, kind):
		return nil, &types.InvalidArgument{InvalidProperty: "spec.type"}
	}
	name := places.Escape(path.Base(spec.LocalPath))
	for _, datastore := range places.Datastores(ctx, datacenter) {
		var same, mounted bool
		ctx.WithLock(datastore, func() {
			info, ok := datastore.Info.(*types.NasDatastoreInfo)
			same = ok && info.Nas.RemoteHost == spec.RemoteHost && info.Nas.RemotePath == spec.RemotePath
			mounted = slices.ContainsFunc(datastore.Host, func(m types.DatastoreHostMount) bool { return m.Key == host.Self })
		})
		switch {
		case same && mounted:
			return nil, &types.AlreadyExists{Name: places.Name(datastore)}
		case same && places.Name(datastore) == name:
			f.mount(ctx, datastore, host, spec.AccessMode)
			return datastore, nil
		case places.Name(datastore) == name:
			return nil, &types.DuplicateName{Name: name, Object: datastore.Self}
		}
	}
	datastore, err := f.addExport(ctx, name, []*simulator.HostSystem{host}, kind, &spec, exportBytes)
	if err != nil {
		return nil, &types.SystemError{Reason: err.Error()}
	}
	f.made(ctx, datastore, datacenter)
	return datastore, nil
}

// addExport makes an export a datastore of hosts. One that is a datastore of another datacenter already is as large as there.
func (f *feature) addExport(ctx *simulator.Context, name string, hosts []*simulator.HostSystem, kind string,
	spec *types.HostNasVolumeSpec, bytes int64) (*simulator.Datastore, error) {
	for _, other := range places.Datastores(ctx, nil) {
		ctx.WithLock(other, func() {
			if other.Summary.Url == exportURL(spec) {
				bytes = other.Summary.Capacity
			}
		})
	}
	return inventory.AddDatastore(ctx, name, hosts, func(datastore *simulator.Datastore) {
		formatNAS(datastore, kind, spec, bytes)
	})
}

// exportURL is the URL of an export's datastores, in whatever datacenter they are.
func exportURL(spec *types.HostNasVolumeSpec) string {
	sum := sha1.Sum([]byte(spec.RemoteHost + spec.RemotePath))
	return fmt.Sprintf("ds:///vmfs/volumes/%x-%x/", sum[0:4], sum[4:8])
}

// everywhere mounts the exports of the flag -nfs on all hosts, in each datacenter.
func (f *feature) everywhere(ctx *simulator.Context) error {
	for _, export := range exports {
		for _, entity := range ctx.Map.All("Datacenter") {
			datacenter := entity.(*simulator.Datacenter)
			var hosts []*simulator.HostSystem
			for _, each := range ctx.Map.All("HostSystem") {
				if host := each.(*simulator.HostSystem); places.Datacenter(ctx, host.Self) == datacenter {
					hosts = append(hosts, host)
				}
			}
			if places.Datastore(ctx, datacenter, export.name) != nil {
				return fmt.Errorf("-nfs %s: there is a datastore of that name", export.name)
			}
			spec := types.HostNasVolumeSpec{RemoteHost: "nfs.example.org", RemotePath: "/export/" + export.name}
			datastore, err := f.addExport(ctx, export.name, hosts, string(types.HostFileSystemVolumeFileSystemTypeNFS), &spec, export.bytes)
			if err != nil {
				return fmt.Errorf("-nfs %s: %w", export.name, err)
			}
			f.made(ctx, datastore, datacenter)
		}
	}
	return nil
}

// formatNAS makes a datastore that was just added an export. The same export has the same URL, and the same files, whenever
// it is mounted.
func formatNAS(datastore *simulator.Datastore, kind string, spec *types.HostNasVolumeSpec, bytes int64) {
	_ = os.Remove(path.Clean(datastore.Summary.Url))
	datastore.Summary.Url = exportURL(spec)
	volume := path.Base(datastore.Summary.Url)
	_ = os.MkdirAll(path.Clean(datastore.Summary.Url), 0o700)
	hosts := spec.RemoteHostNames
	if len(hosts) == 0 {
		hosts = []string{spec.RemoteHost}
	}
	info := *datastore.Info.GetDatastoreInfo()
	datastore.Info = &types.NasDatastoreInfo{DatastoreInfo: info, Nas: &types.HostNasVolume{
		HostFileSystemVolume: types.HostFileSystemVolume{Type: kind, Name: datastore.Name, Capacity: bytes},
		RemoteHost:           spec.RemoteHost, RemotePath: spec.RemotePath, RemoteHostNames: hosts, UserName: spec.UserName,
		SecurityType: spec.SecurityType, ProtocolEndpoint: types.NewBool(false),
	}}
	figures(datastore, kind, bytes)
	for i := range datastore.Host {
		mount := &datastore.Host[i].MountInfo
		mount.Path = "/vmfs/volumes/" + volume
		if spec.AccessMode != "" {
			mount.AccessMode = spec.AccessMode
		}
	}
}

func figures(datastore *simulator.Datastore, kind string, bytes int64) {
	now := time.Now()
	info := datastore.Info.GetDatastoreInfo()
	info.Url, info.FreeSpace, info.Timestamp = datastore.Summary.Url, bytes, &now
	info.MaxFileSize, info.MaxVirtualDiskCapacity, info.MaxMemoryFileSize = exportBytes, exportBytes, exportBytes
	datastore.Summary.Type = kind
	datastore.Summary.Capacity, datastore.Summary.FreeSpace, datastore.Summary.Uncommitted = bytes, bytes, 0
	datastore.Summary.MultipleHostAccess = types.NewBool(true)
	datastore.Capability.StorageIORMSupported = true
}

// add makes a datastore that all connected hosts of the datacenter mount, the given one first.
func (f *feature) add(ctx *simulator.Context, name string, first *simulator.HostSystem, datacenter *simulator.Datacenter,
	format func(*simulator.Datastore)) (*simulator.Datastore, error) {
	hosts := []*simulator.HostSystem{first}
	for _, entity := range ctx.Map.All("HostSystem") {
		host := entity.(*simulator.HostSystem)
		if host.Self != first.Self && places.Datacenter(ctx, host.Self) == datacenter {
			hosts = append(hosts, host)
		}
	}
	datastore, err := inventory.AddDatastore(ctx, name, hosts, format)
	if err == nil {
		f.made(ctx, datastore, datacenter)
	}
	return datastore, err
}

// made tells whoever waits for updates of a new datastore: the library does so of the object alone.
func (f *feature) made(ctx *simulator.Context, datastore *simulator.Datastore, datacenter *simulator.Datacenter) {
	if space := f.space(); space != nil {
		space.Publish(ctx, datastore)
	}
	tell(ctx, datastore, func() []types.PropertyChange {
		return []types.PropertyChange{
			{Name: "info", Val: datastore.Info}, {Name: "summary", Val: datastore.Summary}, {Name: "host", Val: datastore.Host}}
	})
	tell(ctx, datacenter, func() []types.PropertyChange {
		return []types.PropertyChange{{Name: "datastore", Val: slices.Clone(datacenter.Datastore)}}
	})
	if folder, ok := ctx.Map.Get(*datastore.Parent).(*simulator.Folder); ok {
		tell(ctx, folder, func() []types.PropertyChange {
			return []types.PropertyChange{{Name: "childEntity", Val: slices.Clone(folder.ChildEntity)}}
		})
	}
	for _, mount := range datastore.Host {
		tellHost(ctx, mount.Key)
	}
}

// mount mounts a datastore on one more host.
func (f *feature) mount(ctx *simulator.Context, datastore *simulator.Datastore, host *simulator.HostSystem, mode string) {
	inventory.Mount(ctx, datastore, host)
	tell(ctx, datastore, func() []types.PropertyChange {
		mounts := slices.Clone(datastore.Host)
		last := &mounts[len(mounts)-1].MountInfo
		last.Path = mounts[0].MountInfo.Path
		if mode != "" {
			last.AccessMode = mode
		}
		return []types.PropertyChange{{Name: "host", Val: mounts}}
	})
	tellHost(ctx, host.Self)
}

func tell(ctx *simulator.Context, object mo.Reference, changes func() []types.PropertyChange) {
	ctx.WithLock(object, func() { ctx.Update(object, changes()) })
}

// tellHost tells a host's datastores, and those of its compute resource.
func tellHost(ctx *simulator.Context, ref types.ManagedObjectReference) {
	host := ctx.Map.Get(ref).(*simulator.HostSystem)
	tell(ctx, host, func() []types.PropertyChange {
		return []types.PropertyChange{{Name: "datastore", Val: slices.Clone(host.Datastore)}}
	})
	if list := ofCompute(ctx, *host.Parent); list != nil {
		tell(ctx, ctx.Map.Get(*host.Parent), func() []types.PropertyChange {
			return []types.PropertyChange{{Name: "datastore", Val: slices.Clone(*list)}}
		})
	}
}

// ofCompute is the datastores of a compute resource.
func ofCompute(ctx *simulator.Context, ref types.ManagedObjectReference) *[]types.ManagedObjectReference {
	switch compute := ctx.Map.Get(ref).(type) {
	case *simulator.ClusterComputeResource:
		return &compute.Datastore
	case *mo.ComputeResource:
		return &compute.Datastore
	}
	return nil
}
