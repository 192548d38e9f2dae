// SPDX-License-Identifier: Apache-2.0

// Package mounts changes how hosts see datastores: mounted or not, accessible or not, writable or not; and whether the hosts
// themselves are connected and in service.
package mounts

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// Feature is HostStorageSystem's mounting of VMFS volumes, HostSystem's connection and maintenance mode, and the control
// endpoints /mounts and /hosts.
var Feature = core.Feature{Name: "mounts", Start: start}

func start(s *core.Sim) error {
	volumes(s)
	hosts(s)
	control(s)
	return nil
}

// Change says what becomes different of a mount; nil leaves a thing as it is.
type Change struct {
	Mounted            *bool   `json:"mounted"`
	Accessible         *bool   `json:"accessible"`
	AccessMode         *string `json:"accessMode"`
	InaccessibleReason *string `json:"inaccessibleReason"`
}

// Apply changes a datastore's mounts on a host, or on all hosts, and reports whether there is such a mount.
func Apply(ctx *simulator.Context, datastore *simulator.Datastore, host *simulator.HostSystem, change Change) bool {
	found := false
	ctx.WithLock(datastore, func() {
		mounts := slices.Clone(datastore.Host)
		for i := range mounts {
			if host == nil || mounts[i].Key == host.Self {
				found = true
				change.apply(&mounts[i].MountInfo)
			}
		}
		if found {
			ctx.Update(datastore, []types.PropertyChange{{Name: "host", Val: mounts}})
		}
	})
	if found {
		refresh(ctx, datastore)
	}
	return found
}

func (c Change) apply(info *types.HostMountInfo) {
	if c.AccessMode != nil {
		info.AccessMode = *c.AccessMode
	}
	if c.Mounted != nil {
		info.Mounted = types.NewBool(*c.Mounted)
		if c.Accessible == nil {
			info.Accessible = types.NewBool(*c.Mounted)
		}
	}
	if c.Accessible != nil {
		info.Accessible = types.NewBool(*c.Accessible)
	}
	switch {
	case *info.Accessible:
		info.InaccessibleReason = ""
	case c.InaccessibleReason != nil:
		info.InaccessibleReason = *c.InaccessibleReason
	}
}

// Serves reports whether a mount, seen from the vCenter, leads to the datastore.
func Serves(ctx *simulator.Context, mount types.DatastoreHostMount) bool {
	host, ok := ctx.Map.Get(mount.Key).(*simulator.HostSystem)
	return ok && host.Runtime.ConnectionState == types.HostSystemConnectionStateConnected &&
		isTrue(mount.MountInfo.Mounted) && isTrue(mount.MountInfo.Accessible)
}

func isTrue(flag *bool) bool { return flag == nil || *flag }

// refresh makes summary.accessible agree with the mounts, and the connection state of virtual machines with that.
func refresh(ctx *simulator.Context, datastore *simulator.Datastore) {
	var mounts []types.DatastoreHostMount
	var before bool
	ctx.WithLock(datastore, func() { mounts, before = slices.Clone(datastore.Host), datastore.Summary.Accessible })
	now := slices.ContainsFunc(mounts, func(mount types.DatastoreHostMount) bool { return Serves(ctx, mount) })
	if now == before {
		return
	}
	ctx.Map.AtomicUpdate(ctx, datastore, []types.PropertyChange{{Name: "summary.accessible", Val: now}})
	for _, vm := range places.Machines(ctx, datastore.Self) {
		refreshMachine(ctx, vm)
	}
}

// refreshMachine makes a machine inaccessible when its configuration file is out of reach, as a vCenter does.
func refreshMachine(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	var path string
	var state types.VirtualMachineConnectionState
	ctx.WithLock(vm, func() {
		if vm.Config != nil {
			path = vm.Config.Files.VmPathName
		}
		state = vm.Runtime.ConnectionState
	})
	home := places.DatastoreOf(ctx, vm.Self, path)
	if home == nil {
		return
	}
	want := types.VirtualMachineConnectionStateConnected
	switch accessible := home.Summary.Accessible; {
	case !accessible:
		want = types.VirtualMachineConnectionStateInaccessible
	case state != types.VirtualMachineConnectionStateInaccessible:
		return
	}
	if want != state {
		ctx.Map.AtomicUpdate(ctx, vm, []types.PropertyChange{
			{Name: "runtime.connectionState", Val: want}, {Name: "summary.runtime.connectionState", Val: want}})
	}
}
