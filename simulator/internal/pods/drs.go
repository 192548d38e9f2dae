// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"fmt"
	"log"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/reply"
)

// waitFor waits for a task of our own or of the library's: both end by a property change.
func waitFor(ctx *simulator.Context, task *simulator.Task) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		var state types.TaskInfoState
		ctx.WithLock(task, func() { state = task.Info.State })
		if state == types.TaskInfoStateSuccess || state == types.TaskInfoStateError {
			return
		}
		time.Sleep(pause)
	}
}

// control lets Storage DRS, or an administrator, move a disk while somebody uses it.
//
//	POST /sdrs/move {"vm": NAME, "disk": KEY, LABEL, UUID or PATH, "datastore": NAME}
//
// The disk goes to the folder of the virtual machine on that datastore, and is named after the machine, as storage migration
// does it; the answer says how: {"path": "[LocalDS_1] server/server.vmdk"}. Another virtual machine that has the same disk keeps
// the path that is no longer true. Without "disk" the whole machine goes.
func (f *feature) control(s *core.Sim) {
	s.Control.HandleFunc("POST /sdrs/move", func(w http.ResponseWriter, r *http.Request) {
		var request struct{ VM, Disk, Datastore string }
		if !reply.Read(w, r, &request) {
			return
		}
		path, err := f.moveNow(s.Context(), request.VM, request.Disk, request.Datastore)
		reply.Result(w, map[string]string{"path": path}, err)
	})
}

func (f *feature) moveNow(ctx *simulator.Context, name, diskName, target string) (string, error) {
	vm := places.Machine(ctx, name)
	if vm == nil {
		return "", fmt.Errorf("there is no virtual machine %q", name)
	}
	datastore := places.Datastore(ctx, places.Datacenter(ctx, vm.Self), target)
	if datastore == nil {
		return "", fmt.Errorf("there is no datastore %q in the datacenter of %q", target, name)
	}
	spec := types.VirtualMachineRelocateSpec{Datastore: &datastore.Self}
	if diskName == "" {
		if fault := f.relocate(ctx, vm.Self, spec); fault != nil {
			return "", fmt.Errorf("%s", core.Message(fault))
		}
		return vm.Config.Files.VmPathName, nil
	}
	disk := find(ctx, vm, diskName)
	if disk == nil {
		return "", fmt.Errorf("virtual machine %q has no disk %q: give its key, label, uuid or path", name, diskName)
	}
	if refs := places.Backings(disk); len(refs) > 0 && refs[0] == datastore.Self {
		return "", fmt.Errorf("the disk is on datastore %q already", target)
	}
	spec = types.VirtualMachineRelocateSpec{
		Disk: []types.VirtualMachineRelocateSpecDiskLocator{{DiskId: disk.Key, Datastore: datastore.Self}}}
	if fault := f.relocate(ctx, vm.Self, spec); fault != nil {
		return "", fmt.Errorf("%s", core.Message(fault))
	}
	moved := find(ctx, vm, strconv.Itoa(int(disk.Key)))
	return moved.Backing.(types.BaseVirtualDeviceFileBackingInfo).GetVirtualDeviceFileBackingInfo().FileName, nil
}

// find finds a disk of a virtual machine by its key, label, uuid or path.
func find(ctx *simulator.Context, vm *simulator.VirtualMachine, name string) (found *types.VirtualDisk) {
	ctx.WithLock(vm, func() {
		for _, device := range vm.Config.Hardware.Device {
			disk, ok := device.(*types.VirtualDisk)
			if !ok {
				continue
			}
			names := []string{strconv.Itoa(int(disk.Key))}
			if description := disk.DeviceInfo; description != nil {
				names = append(names, description.GetDescription().Label)
			}
			if backing, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
				names = append(names, backing.GetVirtualDeviceFileBackingInfo().FileName)
			}
			if flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
				names = append(names, flat.Uuid)
			}
			if slices.ContainsFunc(names, func(each string) bool { return strings.EqualFold(each, name) }) {
				found = disk
			}
		}
	})
	return found
}

// evacuate moves away what is on a datastore that enters maintenance mode, as far as Storage DRS may do it by itself. What
// it may only recommend is returned.
func (f *feature) evacuate(ctx *simulator.Context, datastore *simulator.Datastore) []types.ClusterRecommendation {
	pod, ok := ctx.Map.Get(*datastore.Parent).(*simulator.StoragePod)
	if !ok {
		return nil
	}
	var open []types.ClusterRecommendation
	var moves []*placement
	for _, vm := range places.Machines(ctx, datastore.Self) {
		how := behavior(ctx, pod, vm.Self)
		if how == off {
			continue
		}
		ref := vm.Self
		result, fault := f.recommendFor(ctx, &types.StoragePlacementSpec{
			Type: string(types.StoragePlacementSpecPlacementTypeRelocate), Vm: &ref,
			PodSelectionSpec: types.StorageDrsPodSelectionSpec{StoragePod: &pod.Self},
		})
		if fault != nil || len(result.Recommendations) == 0 {
			continue
		}
		first := result.Recommendations[0]
		action := first.Action[0].(*types.StoragePlacementAction)
		action.RelocateSpec = leaving(ctx, vm, datastore, action.Destination)
		first.Reason = string(types.RecommendationReasonCodeDatastoreMaint)
		first.ReasonText = "Datastore is entering maintenance mode"
		for _, other := range result.Recommendations[1:] {
			f.take(other.Key)
		}
		p := f.take(first.Key)
		p.move = &action.RelocateSpec
		if how == manual {
			first.Key = f.remember(p)
			open = append(open, first)
			continue
		}
		moves = append(moves, p)
	}
	go f.moveAll(core.NewContext(ctx), datastore, moves)
	return open
}

// moveAll moves one virtual machine after the other, as long as the datastore is to be emptied.
func (f *feature) moveAll(ctx *simulator.Context, datastore *simulator.Datastore, moves []*placement) {
	for _, p := range moves {
		var mode string
		ctx.WithLock(datastore, func() { mode = datastore.Summary.MaintenanceMode })
		if mode == string(types.DatastoreSummaryMaintenanceModeStateNormal) {
			return // cancelled
		}
		if _, fault := f.do(ctx, p); fault != nil {
			log.Printf("Storage DRS: %s stays on %s: %s", p.spec.Vm, places.Name(datastore), core.Message(fault))
		}
	}
}

// leaving moves what a virtual machine has on one datastore to another, and leaves what it has elsewhere where it is.
func leaving(ctx *simulator.Context, vm *simulator.VirtualMachine, from *simulator.Datastore, to types.ManagedObjectReference,
) types.VirtualMachineRelocateSpec {
	var spec types.VirtualMachineRelocateSpec
	var home string
	ctx.WithLock(vm, func() {
		home = vm.Config.Files.VmPathName
		for _, device := range vm.Config.Hardware.Device {
			disk, ok := device.(*types.VirtualDisk)
			if !ok {
				continue
			}
			locator := types.VirtualMachineRelocateSpecDiskLocator{DiskId: disk.Key, Datastore: to}
			if refs := places.Backings(disk); len(refs) > 0 && !slices.Contains(refs, from.Self) {
				locator.Datastore = refs[0]
			}
			spec.Disk = append(spec.Disk, locator)
		}
	})
	if at := places.DatastoreOf(ctx, vm.Self, home); at != nil && at.Self == from.Self {
		spec.Datastore = &to
	}
	return spec
}
