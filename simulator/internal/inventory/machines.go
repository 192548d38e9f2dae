// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"path"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// addMachines makes the virtual machines that vcsim makes, under the same names and with the same devices. The library takes a
// millisecond of CPU for each, so it makes the first one of each place alone; the others are copies.
func addMachines(model *simulator.Model, finished *taskWatcher, options *Options) error {
	ctx := model.Service.Context
	for _, datacenter := range datacenters(model.Map()) {
		for _, place := range placesOf(ctx.Map, datacenter) {
			if err := fillPlace(ctx, finished, datacenter, place, options); err != nil {
				return fmt.Errorf("virtual machines of %s: %w", place.prefix, err)
			}
		}
	}
	return nil
}

func fillPlace(
	ctx *simulator.Context, finished *taskWatcher, datacenter *simulator.Datacenter, place machinePlace, options *Options,
) error {
	if options.Machines == 0 {
		return nil
	}
	first, err := addMachine(ctx, finished, datacenter, place, 0)
	if err == nil && options.Autostart {
		_, err = finished.run(ctx, first, func(ctx *simulator.Context) soap.HasFault {
			return first.PowerOnVMTask(ctx, &types.PowerOnVM_Task{This: first.Self})
		})
	}
	if err != nil || options.Machines == 1 {
		return err
	}
	others, err := newTwins(ctx, datacenter, place, first)
	if err != nil {
		return err
	}
	for i := 1; i < options.Machines; i++ {
		if _, err := others.add(ctx, place.name(i)); err != nil {
			return err
		}
	}
	return nil
}

// machinePlace is where machines are made.
type machinePlace struct {
	prefix string
	pool   types.ManagedObjectReference
	host   *types.ManagedObjectReference
}

func (p machinePlace) name(index int) string { return fmt.Sprintf("%s_VM%d", p.prefix, index) }

// placesOf lists the places in the order in which vcsim fills them.
func placesOf(registry *simulator.Registry, datacenter *simulator.Datacenter) []machinePlace {
	var standalone, clustered []machinePlace
	for _, group := range hostsOf(registry, datacenter) {
		switch parent := registry.Get(*group[0].Parent).(type) {
		case *simulator.ClusterComputeResource:
			root := registry.Get(*parent.ResourcePool).(*simulator.ResourcePool)
			if len(root.ResourcePool.ResourcePool) == 0 {
				clustered = append(clustered, machinePlace{prefix: parent.Name + "_RP0", pool: root.Self})
			}
			for _, ref := range root.ResourcePool.ResourcePool {
				child := registry.Get(ref).(*simulator.ResourcePool)
				clustered = append(clustered, machinePlace{prefix: child.Name, pool: child.Self})
			}
		case *mo.ComputeResource:
			standalone = append(standalone, machinePlace{prefix: parent.Name, pool: *parent.ResourcePool, host: &group[0].Self})
		}
	}
	return append(standalone, clustered...)
}

func addMachine(
	ctx *simulator.Context, finished *taskWatcher, datacenter *simulator.Datacenter, place machinePlace, index int,
) (*simulator.VirtualMachine, error) {
	folder := ctx.Map.Get(datacenter.VmFolder).(*simulator.Folder)
	create := &types.CreateVM_Task{
		This: folder.Self, Config: machineSpec(place.name(index)), Pool: place.pool, Host: place.host,
	}
	made, err := finished.run(ctx, folder, func(ctx *simulator.Context) soap.HasFault { return folder.CreateVMTask(ctx, create) })
	if err != nil {
		return nil, err
	}
	return ctx.Map.Get(made.(types.ManagedObjectReference)).(*simulator.VirtualMachine), nil
}

func machineSpec(name string) types.VirtualMachineConfigSpec {
	var devices object.VirtualDeviceList
	scsi, _ := devices.CreateSCSIController("pvscsi")
	scsi.(types.BaseVirtualSCSIController).GetVirtualSCSIController().ScsiCtlrUnitNumber = 7
	ide, _ := devices.CreateIDEController()
	cdrom, _ := devices.CreateCdrom(ide.(*types.VirtualIDEController))
	home := "[" + datastoreName(0) + "]"
	disk := devices.CreateDisk(scsi.(types.BaseVirtualController), types.ManagedObjectReference{},
		home+" "+path.Join(name, "disk1.vmdk"))
	disk.CapacityInKB = 10 << 20
	disk.StorageIOAllocation = &types.StorageIOAllocationInfo{Limit: types.NewInt64(-1)}
	changes, _ := append(devices, scsi, cdrom, disk, networkCard()).ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	return types.VirtualMachineConfigSpec{
		Name: name, GuestId: string(types.VirtualMachineGuestOsIdentifierOtherGuest),
		Files: &types.VirtualMachineFileInfo{VmPathName: home}, DeviceChange: changes,
	}
}

// networkCard copies the library's card, all of it: the library writes to the parts.
func networkCard() *types.VirtualE1000 {
	card := esx.EthernetCard
	if backing, ok := card.Backing.(*types.VirtualEthernetCardNetworkBackingInfo); ok {
		own := *backing
		card.Backing = &own
	}
	if card.Connectable != nil {
		own := *card.Connectable
		card.Connectable = &own
	}
	if card.WakeOnLanEnabled != nil {
		card.WakeOnLanEnabled = types.NewBool(*card.WakeOnLanEnabled)
	}
	card.DeviceInfo = nil // the library describes the card
	return &card
}

// taskWatcher hears of tasks that end.
type taskWatcher struct {
	mo.SearchIndex
	lock  sync.Mutex
	ended map[types.ManagedObjectReference]chan types.TaskInfo
}

func newTaskWatcher() *taskWatcher {
	w := &taskWatcher{ended: make(map[types.ManagedObjectReference]chan types.TaskInfo)}
	w.Self = types.ManagedObjectReference{Type: "TaskWatcher", Value: "start"}
	return w
}

// of is where the end of a task is told, which may come before anybody asks.
func (w *taskWatcher) of(task types.ManagedObjectReference) chan types.TaskInfo {
	w.lock.Lock()
	defer w.lock.Unlock()
	c := w.ended[task]
	if c == nil {
		c = make(chan types.TaskInfo, 1)
		w.ended[task] = c
	}
	return c
}

func (w *taskWatcher) forget(task types.ManagedObjectReference) {
	w.lock.Lock()
	delete(w.ended, task)
	w.lock.Unlock()
}

// PutObject implements simulator.RegisterObject.
func (*taskWatcher) PutObject(*simulator.Context, mo.Reference) {}

// RemoveObject implements simulator.RegisterObject.
func (*taskWatcher) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}

// UpdateObject implements simulator.RegisterObject.
func (w *taskWatcher) UpdateObject(_ *simulator.Context, obj mo.Reference, _ []types.PropertyChange) {
	task, ok := obj.(*mo.Task)
	if !ok {
		return
	}
	if state := task.Info.State; state == types.TaskInfoStateSuccess || state == types.TaskInfoStateError {
		w.of(task.Self) <- task.Info
	}
}

// run starts one task and waits for its end.
func (w *taskWatcher) run(
	ctx *simulator.Context, obj mo.Reference, start func(*simulator.Context) soap.HasFault,
) (types.AnyType, error) {
	own := *ctx // locks belong to contexts
	var answer soap.HasFault
	own.WithLock(obj, func() { answer = start(&own) })
	if fault := answer.Fault(); fault != nil {
		return nil, fmt.Errorf("%s %T", fault.String, fault.VimFault())
	}
	var task types.ManagedObjectReference
	switch body := answer.(type) {
	case *methods.CreateVM_TaskBody:
		task = body.Res.Returnval
	case *methods.PowerOnVM_TaskBody:
		task = body.Res.Returnval
	case *methods.AddHost_TaskBody:
		task = body.Res.Returnval
	case *methods.ReconfigureDvs_TaskBody:
		task = body.Res.Returnval
	}
	info := <-w.of(task)
	w.forget(task)
	if info.Error != nil {
		return nil, fmt.Errorf("%s %T", info.Error.LocalizedMessage, info.Error.Fault)
	}
	return info.Result, nil
}
