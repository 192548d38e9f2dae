// SPDX-License-Identifier: Apache-2.0

// Package access refuses what a datastore's state does not allow: nothing new is placed on a datastore that is in, or enters,
// maintenance mode; nothing works on one that no host reaches; nothing is written through a mount that is read-only.
package access

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/mounts"
	"vcenter-sim/internal/places"
)

// Feature refuses, before anything is done. Tasks fail as tasks do, in TaskInfo.error.
var Feature = core.Feature{Name: "datastore states", Start: start}

func start(s *core.Sim) error {
	s.Around(func(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		failed, guarded := replies[call.Name]
		if !guarded || ctx.Session == nil {
			return next()
		}
		own := core.NewContext(ctx)
		for _, d := range demandsOf(own, call) {
			if fault := d.check(own); fault != nil {
				return failed(own, call, places.Datacenter(own, d.datastore.Self).Self, fault)
			}
		}
		return next()
	})
	return nil
}

// demand is what an operation needs of a datastore.
type demand struct {
	datastore *simulator.Datastore
	// host is the one that would do it, if that is known.
	host *types.ManagedObjectReference
	// places tells that something new would be placed there.
	places bool
}

func (d demand) check(ctx *simulator.Context) types.BaseMethodFault {
	var list []types.DatastoreHostMount
	var mode string
	ctx.WithLock(d.datastore, func() {
		list = append(list, d.datastore.Host...)
		mode = d.datastore.Summary.MaintenanceMode
	})
	invalid := types.InvalidDatastore{Datastore: &d.datastore.Self, Name: places.Name(d.datastore)}
	served, writable, mounted := false, false, false
	var reader types.ManagedObjectReference
	for _, mount := range list {
		if d.host != nil && mount.Key != *d.host {
			continue
		}
		mounted = true
		if !mounts.Serves(ctx, mount) {
			continue
		}
		served, reader = true, mount.Key
		writable = writable || mount.MountInfo.AccessMode == string(types.HostMountModeReadWrite)
	}
	switch {
	case d.host != nil && !mounted: // whoever does it says so in its own way
		return nil
	case !served:
		return &types.InaccessibleDatastore{InvalidDatastore: invalid}
	case d.places && mode != "" && mode != string(types.DatastoreSummaryMaintenanceModeStateNormal):
		return &types.InvalidDatastoreState{DatastoreName: places.Name(d.datastore)}
	case d.places && !writable:
		return &types.DatastoreNotWritableOnHost{InvalidDatastore: invalid, Host: reader}
	}
	return nil
}

// demandsOf lists what a call needs.
func demandsOf(ctx *simulator.Context, call *core.Call) []demand {
	d := gathering{ctx: ctx, this: call.This}
	switch req := call.Body.(type) {
	case *types.CreateVM_Task:
		d.host = req.Host
		d.config(&req.Config)
	case *types.RegisterVM_Task:
		d.path(req.Path, false)
	case *types.CloneVM_Task:
		d.machine(call.This)
		if req.Spec.Location.Datastore == nil && len(req.Spec.Location.Disk) == 0 {
			d.placed()
		}
		d.host = req.Spec.Location.Host
		d.relocation(&req.Spec.Location)
	case *types.RelocateVM_Task:
		d.machine(call.This)
		d.host = req.Spec.Host
		d.relocation(&req.Spec)
	case *types.ReconfigVM_Task:
		d.machine(call.This)
		d.config(&req.Spec)
	case *types.PowerOnVM_Task:
		d.machine(call.This)
		d.placed()
	case *types.CreateSnapshot_Task:
		d.machine(call.This)
	case *types.CreateVirtualDisk_Task:
		d.in(req.Datacenter)
		d.path(req.Name, true)
	case *types.ExtendVirtualDisk_Task:
		d.in(req.Datacenter)
		d.path(req.Name, false)
	case *types.DeleteVirtualDisk_Task:
		d.in(req.Datacenter)
		d.path(req.Name, false)
	case *types.CopyVirtualDisk_Task:
		d.between(req.SourceDatacenter, req.SourceName, req.DestDatacenter, req.DestName)
	case *types.MoveVirtualDisk_Task:
		d.between(req.SourceDatacenter, req.SourceName, req.DestDatacenter, req.DestName)
	case *types.CopyDatastoreFile_Task:
		d.between(req.SourceDatacenter, req.SourceName, req.DestinationDatacenter, req.DestinationName)
	case *types.MoveDatastoreFile_Task:
		d.between(req.SourceDatacenter, req.SourceName, req.DestinationDatacenter, req.DestinationName)
	case *types.MakeDirectory:
		d.in(req.Datacenter)
		d.path(req.Name, true)
	case *types.ImportVApp:
		if spec, ok := req.Spec.(*types.VirtualMachineImportSpec); ok {
			d.host = req.Host
			d.config(&spec.ConfigSpec)
		}
	}
	return d.list
}
