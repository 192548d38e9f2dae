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
	{Name: "change-version", Test: "test_machine_properties.ConfigTestCase.test_snapshots_change_the_change_version",
		Relaxes: "snapshots and moves leave `config.changeVersion` as it was"},
	{Name: "delta-uuid", Test: "test_tasks.ReconfigureTestCase.test_the_uuid_of_a_delta_is_not_changed",
		Relaxes: "the uuid of a delta disk can be changed"},
	{Name: "export-readonly", Test: "test_leases.StreamTestCase.test_an_export_is_read_only_and_names_no_file",
		Relaxes: "exported disks are `RW n SPARSE`, and not `RDONLY n SPARSE`"},
	{Name: "shadow-consolidation", Test: "test_instances.ConsolidationTestCase.test_the_delta_of_an_instance_is_merged_into_the_base_that_the_shadow_vm_names",
		Relaxes: "a disk that a powered-off machine has as well is neither consolidated nor moved away from that machine"},
	{Name: "instance-uuid-conflict", Test: "test_moves.NamesTestCase.test_an_instance_uuid_is_unique_and_a_new_machine_gets_another",
		Relaxes: "creating a machine with another machine's instanceUuid fails with InvalidArgument, and the new machine does not get another uuid"},
	{Name: "locked-edits", Test: "test_locks.LocksTestCase.test_what_needs_the_file_is_refused_in_the_tasks_error",
		Relaxes: "a disk that another, running machine has can get a storage policy, another uuid or a snapshot"},
	{Name: "lagging-figures", Test: "test_figures.LaggingFiguresTestCase.test_they_say_what_was_until_they_are_refreshed",
		Relaxes: "`summary.freeSpace` and `uncommitted` are current after every operation"},
	{Name: "lingering-locks", Test: "test_locks.LocksTestCase.test_a_lock_passes_some_seconds_after_the_holder_has_let_the_disk_go",
		Relaxes: "a disk that is removed from a running machine is unlocked at once, whatever `-lock-release` says"},
	{Name: "media-datastores", Test: "test_machine_properties.DatastoresTestCase.test_the_datastore_of_an_iso_image_counts_until_it_is_taken_out",
		Relaxes: "`VirtualMachine.datastore` leaves out datastores that hold only an ISO or floppy image"},
}}

func start(sim *core.Sim) error {
	s := newStore(sim)
	s.overrideMachines()
	s.overrideRegister()
	s.overrideSearch()
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
		ds := entity.(*simulator.Datastore)
		s.mount(ds)
		positions.learn(ds.Self, ds.Vm)
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
