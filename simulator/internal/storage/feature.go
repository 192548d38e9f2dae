// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"
	"path"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/inventory"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/vdisk"
)

// Feature is true storage.
var Feature = core.Feature{Name: "storage", Flags: flags, Start: start, Rules: []core.Rule{
	{Name: "change-version", Relaxes: "snapshots and moves leave `config.changeVersion` as it was"},
	{Name: "delta-uuid", Relaxes: "the uuid of a disk that reads through another can be changed"},
	{Name: "export-readonly", Relaxes: "exported disks are `RW n SPARSE`, and not `RDONLY n SPARSE`"},
	{Name: "shadow-consolidation",
		Relaxes: "a disk that a powered-off machine names too is neither consolidated nor moved away from it"},
	{Name: "instance-uuid-conflict",
		Relaxes: "a new machine with an instanceUuid that another one has is InvalidArgument, and does not get another uuid"},
	{Name: "locked-edits",
		Relaxes: "a disk that another, running machine holds can get a storage policy, another uuid, a snapshot"},
	{Name: "lagging-figures", Relaxes: "`summary.freeSpace` and `uncommitted` are right after every operation"},
	{Name: "lingering-locks", Relaxes: "a disk that a running machine gives back is free at once, whatever `-lock-release` says"},
	{Name: "media-datastores", Relaxes: "`VirtualMachine.datastore` leaves out datastores that hold only an ISO or floppy image"},
}}

func start(sim *core.Sim) error {
	s := newStore(sim)
	s.overrideMachines()
	s.overrideRegister()
	s.overrideDiskManager()
	s.overrideDiskInfo()
	s.overrideFileManager()
	s.overrideDatastores()
	s.overrideSnapshots()
	s.overridePower()
	s.overrideClone()
	s.overrideRelocate()
	s.overrideTransfers()
	s.overrideTemplates()
	s.overrideTree()
	s.overridePromote()
	s.overrideFirstClassDisks()
	s.serveFolder()
	sim.WrapHTTP(markCleared)
	s.serveLeases()
	s.serveControl()
	places.Follow(sim.Map())
	return s.adopt(sim.Context())
}

// adopt takes over what the inventory was made with: the virtual machines' disks, which the library left empty, and the space
// that others' files take.
func (s *Store) adopt(ctx *simulator.Context) error {
	for _, entity := range ctx.Map.All("Datastore") {
		s.mount(entity.(*simulator.Datastore))
	}
	fresh := !s.sim.Settings.Restored // else the disks have their content, and the files are those of before
	for _, entity := range ctx.Map.All("VirtualMachine") {
		vm := entity.(*simulator.VirtualMachine)
		for _, disk := range disks(vm.Config.Hardware.Device) {
			if err := s.adoptDisk(ctx, disk, fresh); err != nil {
				return err
			}
		}
		s.Settle(ctx, vm)
	}
	for _, entity := range ctx.Map.All("Datastore") {
		ds := entity.(*simulator.Datastore)
		if bytes := inventory.Used[ds.Self]; fresh && bytes > 0 {
			at := place{ds, path.Join("other", "archive.vmdk")}
			if fault := s.CreateDisk(ctx, at, vdisk.Spec{CapacityBytes: bytes}); fault != nil {
				return &os.PathError{Op: "fill", Path: at.String(), Err: os.ErrInvalid}
			}
		}
		if fresh {
			s.Publish(ctx, ds)
		} else {
			s.Changed(ctx, ds)
		}
	}
	return nil
}

func (s *Store) adoptDisk(ctx *simulator.Context, disk *types.VirtualDisk, fresh bool) error {
	at, ok := placeOfDisk(ctx, disk)
	if !ok || !fresh {
		return nil
	}
	_ = os.Remove(at.local())
	_ = os.Remove(vdisk.ExtentName(at.local(), "-flat"))
	spec := vdisk.Spec{CapacityBytes: disk.CapacityInBytes, Thin: true, UUID: backingUUID(disk)}
	if err := vdisk.CreateFlat(at.local(), spec); err != nil {
		return err
	}
	s.describe(disk, at)
	return nil
}
