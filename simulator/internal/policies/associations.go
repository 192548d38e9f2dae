// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
	"sync"

	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

const (
	machineType = string(pbm.PbmObjectTypeVirtualMachine)
	diskType    = string(pbm.PbmObjectTypeVirtualDiskId)
	bothType    = string(pbm.PbmObjectTypeVirtualMachineAndDisks)
)

// entity is what a policy can be associated with: a virtual machine's home, or one disk of it ("vm-12:2000").
type entity struct{ kind, key string }

func machineEntity(vm types.ManagedObjectReference) entity { return entity{machineType, vm.Value} }

func diskEntity(vm types.ManagedObjectReference, key int32) entity {
	return entity{diskType, fmt.Sprintf("%s:%d", vm.Value, key)}
}

// machine is the virtual machine that an entity belongs to.
func (e entity) machine() types.ManagedObjectReference {
	value, _, _ := strings.Cut(e.key, ":")
	return types.ManagedObjectReference{Type: "VirtualMachine", Value: value}
}

// associations remember the policies with which virtual machines and disks were made, changed or moved.
type associations struct {
	mo.Folder // only its Self is used: the registry knows its listeners by reference

	lock    sync.Mutex
	known   map[entity]string
	pending map[types.ManagedObjectReference]func(*simulator.Context, types.AnyType)
}

// wish is what a request asks for. A nil policy leaves things as they are, an empty one takes the policy away.
type wish struct {
	home     *string
	newDisks []*string         // the disks added, in their order
	disks    map[int32]*string // disks that are there already, by key
	removed  map[int32]bool    // disks that are taken away
}

func (w *wish) empty() bool { return w.home == nil && len(w.newDisks) == 0 && len(w.disks) == 0 }

// after has f called with the task's result when the task succeeds.
func (a *associations) after(ctx *simulator.Context, body soap.HasFault, f func(*simulator.Context, types.AnyType)) {
	ref, ok := taskOf(body)
	if !ok {
		return
	}
	task, ok := ctx.Map.Get(ref).(*simulator.Task)
	if !ok {
		return
	}
	a.lock.Lock()
	a.pending[ref] = f
	a.lock.Unlock()
	var info types.TaskInfo
	own := core.NewContext(ctx)
	own.WithLock(task, func() { info = task.Info })
	a.settle(own, &info)
}

// taskOf finds the task in a reply.
func taskOf(body soap.HasFault) (ref types.ManagedObjectReference, ok bool) {
	if body == nil || body.Fault() != nil {
		return ref, false
	}
	field := reflect.ValueOf(body).Elem().FieldByName("Res")
	if !field.IsValid() || field.IsNil() {
		return ref, false
	}
	ref, ok = field.Elem().FieldByName("Returnval").Interface().(types.ManagedObjectReference)
	return ref, ok && ref.Type == "Task"
}

func (a *associations) settle(ctx *simulator.Context, info *types.TaskInfo) {
	if info.State != types.TaskInfoStateSuccess && info.State != types.TaskInfoStateError {
		return
	}
	a.lock.Lock()
	f := a.pending[info.Task]
	delete(a.pending, info.Task)
	a.lock.Unlock()
	if f != nil && info.State == types.TaskInfoStateSuccess {
		f(ctx, info.Result)
	}
}

// UpdateObject hears of tasks that end. It is a part of simulator.RegisterObject.
func (a *associations) UpdateObject(ctx *simulator.Context, obj mo.Reference, _ []types.PropertyChange) {
	if task, ok := obj.(*mo.Task); ok {
		a.settle(ctx, &task.Info)
	}
}

// PutObject is a part of simulator.RegisterObject.
func (a *associations) PutObject(*simulator.Context, mo.Reference) {}

// RemoveObject forgets what is gone. It is a part of simulator.RegisterObject.
func (a *associations) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) {
	if ref.Type != "VirtualMachine" {
		return
	}
	a.lock.Lock()
	defer a.lock.Unlock()
	for key := range a.known {
		if key.machine() == ref {
			delete(a.known, key)
		}
	}
}

// apply remembers what was wished for a virtual machine; had are the keys of the disks that it had before.
func (a *associations) apply(ctx *simulator.Context, ref types.ManagedObjectReference, w *wish, had map[int32]bool) {
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	var fresh []int32
	ctx.WithLock(vm, func() {
		for _, key := range diskKeys(vm) {
			if !had[key] {
				fresh = append(fresh, key)
			}
		}
	})
	a.lock.Lock()
	defer a.lock.Unlock()
	a.associate(machineEntity(ref), w.home)
	for key, id := range w.disks {
		a.associate(diskEntity(ref, key), id)
	}
	for i, id := range w.newDisks {
		if i < len(fresh) {
			a.associate(diskEntity(ref, fresh[i]), id)
		}
	}
}

func (a *associations) associate(e entity, id *string) {
	switch {
	case id == nil:
	case *id == "":
		delete(a.known, e)
	default:
		a.known[e] = *id
	}
}

func (a *associations) profile(e entity) string {
	a.lock.Lock()
	defer a.lock.Unlock()
	return a.known[e]
}

// entities lists what is associated with a policy, sorted.
func (a *associations) entities(id string) []entity {
	a.lock.Lock()
	defer a.lock.Unlock()
	var list []entity
	for e, profile := range a.known {
		if profile == id {
			list = append(list, e)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].key < list[j].key })
	return list
}

func diskKeys(vm *simulator.VirtualMachine) []int32 {
	var keys []int32
	if vm.Config == nil {
		return nil
	}
	for _, device := range vm.Config.Hardware.Device {
		if disk, ok := device.(*types.VirtualDisk); ok {
			keys = append(keys, disk.Key)
		}
	}
	return keys
}

// wished reads the profiles of a specification: nil if there is none.
func wished(profiles []types.BaseVirtualMachineProfileSpec) *string {
	for _, profile := range profiles {
		id := ""
		if defined, ok := profile.(*types.VirtualMachineDefinedProfileSpec); ok {
			id = defined.ProfileId
		}
		return &id
	}
	return nil
}

func wishedByConfig(w *wish, spec *types.VirtualMachineConfigSpec) {
	if spec == nil {
		return
	}
	if home := wished(spec.VmProfile); home != nil {
		w.home = home
	}
	for _, base := range spec.DeviceChange {
		change := base.GetVirtualDeviceConfigSpec()
		disk, ok := change.Device.(*types.VirtualDisk)
		switch {
		case !ok:
		case change.Operation == types.VirtualDeviceConfigSpecOperationAdd:
			w.newDisks = append(w.newDisks, wished(change.Profile))
		case change.Operation == types.VirtualDeviceConfigSpecOperationRemove:
			none := ""
			w.disks[disk.Key] = &none
			w.removed[disk.Key] = true // a disk that the same request adds may get the key
		default:
			w.disks[disk.Key] = wished(change.Profile)
		}
	}
}

func wishedByRelocation(w *wish, spec *types.VirtualMachineRelocateSpec) {
	if home := wished(spec.Profile); home != nil {
		w.home = home
	}
	for _, disk := range spec.Disk {
		w.disks[disk.DiskId] = wished(disk.Profile)
	}
}

// listen learns the policies that specifications name. It stands around all features that answer these methods by themselves.
func (a *associations) listen(s *core.Sim) {
	s.Around(func(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		w := &wish{disks: make(map[int32]*string), removed: make(map[int32]bool)}
		switch req := call.Body.(type) {
		case *types.CreateVM_Task:
			wishedByConfig(w, &req.Config)
			return a.made(ctx, next(), w)
		case *types.CloneVM_Task:
			wishedByRelocation(w, &req.Spec.Location)
			wishedByConfig(w, req.Spec.Config)
			w.newDisks = nil // a clone has its source's disks first, and the key of one is the same as there
			return a.made(ctx, next(), w)
		case *types.ReconfigVM_Task:
			wishedByConfig(w, &req.Spec)
			return a.changed(ctx, call.This, next, w)
		case *types.RelocateVM_Task:
			wishedByRelocation(w, &req.Spec)
			return a.changed(ctx, call.This, next, w)
		}
		return next()
	})
}

func (a *associations) made(ctx *simulator.Context, body soap.HasFault, w *wish) soap.HasFault {
	if !w.empty() {
		a.after(ctx, body, func(ctx *simulator.Context, result types.AnyType) {
			if ref, ok := result.(types.ManagedObjectReference); ok {
				a.apply(ctx, ref, w, nil)
			}
		})
	}
	return body
}

func (a *associations) changed(
	ctx *simulator.Context, ref types.ManagedObjectReference, next core.Next, w *wish,
) soap.HasFault {
	had := make(map[int32]bool)
	if vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine); ok && !w.empty() {
		own := core.NewContext(ctx)
		own.WithLock(vm, func() {
			for _, key := range diskKeys(vm) {
				had[key] = !w.removed[key]
			}
		})
	}
	body := next()
	if !w.empty() {
		a.after(ctx, body, func(ctx *simulator.Context, _ types.AnyType) { a.apply(ctx, ref, w, had) })
	}
	return body
}
