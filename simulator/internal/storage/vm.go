// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/sha256"
	"os"
	"path"
	"strings"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

func (s *Store) overrideMachines() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.CreateVM_Task, _ core.Next) soap.HasFault {
		return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{
			Returnval: core.StartTask(ctx, req.This, "CreateVM_Task",
				func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
					return result(s.createMachine(ctx, req, false))
				})}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.ReconfigVM_Task, _ core.Next) soap.HasFault {
		return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{
			Returnval: s.machineTask(ctx, req.This, "ReconfigVM_Task",
				func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
					return nil, s.reconfigure(ctx, vm, &req.Spec)
				})}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.Destroy_Task, next core.Next) soap.HasFault {
		if req.This.Type != "VirtualMachine" {
			return next()
		}
		return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{
			Returnval: s.machineTask(ctx, req.This, "Destroy_Task",
				func(ctx *simulator.Context, vm *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault) {
					return nil, s.destroy(ctx, vm)
				})}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RefreshStorageInfo, _ core.Next) soap.HasFault {
		if vm, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachine); ok {
			s.Settle(ctx, vm)
		}
		return &methods.RefreshStorageInfoBody{Res: &types.RefreshStorageInfoResponse{}}
	})
}

func result(ref *types.ManagedObjectReference, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
	if fault != nil {
		return nil, fault
	}
	return *ref, nil
}

// machineTask starts a task on a virtual machine; the operations on one follow each other.
func (s *Store) machineTask(
	ctx *simulator.Context, ref types.ManagedObjectReference, name string,
	run func(*simulator.Context, *simulator.VirtualMachine) (types.AnyType, types.BaseMethodFault),
) types.ManagedObjectReference {
	return core.StartTask(ctx, ref, name, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		defer s.workOn(ref)()
		vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
		if !ok || datacenterOf(ctx, ref) == nil {
			return nil, &types.ManagedObjectNotFound{Obj: ref}
		}
		return run(ctx, vm)
	})
}

// createMachine does what Folder.CreateVM_Task does. In an import, disks may come without a capacity.
func (s *Store) createMachine(
	ctx *simulator.Context, req *types.CreateVM_Task, importing bool,
) (*types.ManagedObjectReference, types.BaseMethodFault) {
	folder, ok := ctx.Map.Get(req.This).(*simulator.Folder)
	dc := datacenterOf(ctx, req.This)
	if !ok || dc == nil {
		return nil, &types.ManagedObjectNotFound{Obj: req.This}
	}
	spec := req.Config // a copy: what is sent to the library differs
	if spec.Name == "" {
		return nil, &types.InvalidVmConfig{Property: "configSpec.name"}
	}
	if spec.Files == nil || spec.Files.VmPathName == "" {
		return nil, &types.InvalidVmConfig{Property: "configSpec.files.vmPathName"}
	}
	files := *spec.Files
	spec.Files = &files
	release, fault := s.claimMachine(ctx, &folder.Folder, spec.Name, "")
	if fault != nil {
		return nil, fault
	}
	defer release()
	if spec.InstanceUuid, release, fault = s.newInstanceUUID(spec.InstanceUuid); fault != nil {
		return nil, fault
	}
	defer release()
	home, fault := parse(ctx, dc, spec.Files.VmPathName)
	if fault != nil {
		return nil, fault
	}
	host, fault := chooseHost(ctx, req.Host, &req.Pool, home.ds)
	if fault != nil {
		return nil, fault
	}
	var changes []*diskChange
	spec.DeviceChange, changes = split(nil, spec.DeviceChange)
	release, at := s.homeFor(home, &spec)
	defer release()
	spec.Files.VmPathName = at.String()
	if spec.Uuid == "" { // the library makes uuids of the path, which somebody had before, perhaps
		spec.Uuid = newUUID()
	}
	vm, fault := s.libraryCreate(ctx, folder, &types.CreateVM_Task{
		This: req.This, Config: spec, Pool: req.Pool, Host: &host})
	if fault != nil {
		s.Touch(ctx, at.ds, at.dir().local())
		return nil, fault
	}
	for _, change := range changes {
		change.importing = importing
	}
	fault = s.plan(ctx, vm, changes)
	if fault == nil {
		_, fault = s.makeFiles(ctx, vm, changes)
	}
	if fault != nil {
		s.remove(ctx, vm)
		return nil, fault
	}
	s.apply(ctx, vm, changes)
	s.Settle(ctx, vm)
	return &vm.Self, nil
}

// claimMachine takes a name in a folder.
func (s *Store) claimMachine(
	ctx *simulator.Context, folder *mo.Folder, name, except string,
) (release func(), fault types.BaseMethodFault) {
	release, ok := s.claim(folder.Self.Value + "/" + name)
	var children []types.ManagedObjectReference
	ctx.WithLock(folder, func() { children = append(children, folder.ChildEntity...) })
	for _, child := range children {
		entity, isEntity := ctx.Map.Get(child).(mo.Entity)
		if isEntity && child.Value != except && strings.EqualFold(entity.Entity().Name, name) {
			release()
			return func() {}, &types.DuplicateName{Name: name, Object: child}
		}
	}
	if !ok {
		return func() {}, &types.DuplicateName{Name: name, Object: folder.Self}
	}
	return release, nil
}

// uuidsFree refuses an instance uuid that another virtual machine has: vCenter keeps them unique.
func (s *Store) uuidsFree(instance string, except types.ManagedObjectReference) types.BaseMethodFault {
	if instance == "" {
		return nil
	}
	for _, ref := range s.instances.find(instance) {
		if ref != except {
			return &types.InvalidArgument{InvalidProperty: "configSpec.instanceUuid"}
		}
	}
	return nil
}

// newInstanceUUID is the instance uuid of a new virtual machine, and keeps it from others until it is released. One that
// another machine has, a vCenter changes.
func (s *Store) newInstanceUUID(asked string) (uuid string, release func(), fault types.BaseMethodFault) {
	if asked == "" {
		return newUUID(), func() {}, nil
	}
	release, free := s.claim("instanceUuid " + strings.ToLower(asked))
	if free && s.uuidsFree(asked, types.ManagedObjectReference{}) == nil {
		return asked, release, nil
	}
	release()
	if s.sim.Lenient("instance-uuid-conflict") {
		return "", func() {}, &types.InvalidArgument{InvalidProperty: "configSpec.instanceUuid"}
	}
	return newUUID(), func() {}, nil
}

func newUUID() string { return uuid.NewString() }

// homeFor finds the configuration file of a new virtual machine. A folder that exists belongs to somebody else.
func (s *Store) homeFor(home place, spec *types.VirtualMachineConfigSpec) (release func(), at place) {
	if path.Ext(home.file) == ".vmx" {
		return func() {}, home
	}
	name := home.file
	if name == "" {
		name = spec.Name
	}
	folder, release := s.freeName(place{home.ds, ""}, name, "")
	return release, folder.join(fileName(spec.Name) + ".vmx")
}

// chooseHost finds a host for a virtual machine: the one asked for, or one of the pool's, that mounts the datastores.
func chooseHost(
	ctx *simulator.Context, asked, pool *types.ManagedObjectReference, datastores ...*simulator.Datastore,
) (types.ManagedObjectReference, types.BaseMethodFault) {
	candidates, fault := poolHosts(ctx, pool)
	if fault != nil {
		return types.ManagedObjectReference{}, fault
	}
	if asked != nil {
		if _, ok := ctx.Map.Get(*asked).(*simulator.HostSystem); !ok {
			return *asked, &types.ManagedObjectNotFound{Obj: *asked}
		}
		if pool != nil && simulator.FindReference(candidates, *asked) == nil {
			return *asked, &types.InvalidArgument{InvalidProperty: "host"}
		}
		candidates = []types.ManagedObjectReference{*asked}
	}
	for _, host := range candidates {
		if mountsAll(ctx, host, datastores) && (asked != nil || usable(ctx, host)) {
			return host, nil
		}
	}
	if len(datastores) == 0 {
		return types.ManagedObjectReference{}, &types.InvalidArgument{InvalidProperty: "host"}
	}
	return types.ManagedObjectReference{}, &types.InvalidDatastore{
		Datastore: &datastores[0].Self, Name: datastores[0].Name}
}

func mountsAll(ctx *simulator.Context, host types.ManagedObjectReference, datastores []*simulator.Datastore) bool {
	for _, ds := range datastores {
		if !hostMounts(ctx, host, ds) {
			return false
		}
	}
	return true
}

func usable(ctx *simulator.Context, ref types.ManagedObjectReference) bool {
	host, ok := ctx.Map.Get(ref).(*simulator.HostSystem)
	return ok && !host.Runtime.InMaintenanceMode &&
		host.Runtime.ConnectionState == types.HostSystemConnectionStateConnected
}

// poolHosts lists the hosts under a resource pool's compute resource.
func poolHosts(ctx *simulator.Context, pool *types.ManagedObjectReference) ([]types.ManagedObjectReference, types.BaseMethodFault) {
	if pool == nil {
		return nil, nil
	}
	ref := *pool
	for range 64 {
		switch obj := ctx.Map.Get(ref).(type) {
		case *simulator.ClusterComputeResource:
			return obj.Host, nil
		case *mo.ComputeResource:
			return obj.Host, nil
		case mo.Entity:
			if obj.Entity().Parent == nil {
				return nil, &types.InvalidArgument{InvalidProperty: "pool"}
			}
			ref = *obj.Entity().Parent
		default:
			return nil, &types.ManagedObjectNotFound{Obj: *pool}
		}
	}
	return nil, &types.InvalidArgument{InvalidProperty: "pool"}
}

// libraryCreate lets the library make a virtual machine that has no disks yet.
func (s *Store) libraryCreate(
	ctx *simulator.Context, folder *simulator.Folder, req *types.CreateVM_Task,
) (*simulator.VirtualMachine, types.BaseMethodFault) {
	places.Naming.RLock()
	defer places.Naming.RUnlock()
	ds := places.DatastoreOf(ctx, folder.Self, req.Config.Files.VmPathName)
	if ds == nil { // renamed, or gone, meanwhile
		return nil, &types.InvalidDatastorePath{DatastorePath: req.Config.Files.VmPathName}
	}
	var done []func()
	temporary := libraryUUID(req.Config.Files.VmPathName)
	info, fault := s.sim.Inner(ctx, folder.Self, func(ctx *simulator.Context) soap.HasFault {
		// The library reads the datastore, and fills in the machine that all can see already, without a lock.
		done = append(done, core.Expect(ctx, func(obj mo.Reference) bool {
			vm, ok := obj.(*simulator.VirtualMachine)
			return ok && vm.Config.Uuid == temporary
		}), ctx.Map.AcquireLock(ctx, ds))
		return folder.CreateVMTask(ctx, req)
	})
	for _, f := range done {
		f()
	}
	if fault != nil {
		return nil, fault
	}
	return ctx.Map.Get(info.Result.(types.ManagedObjectReference)).(*simulator.VirtualMachine), nil
}

// libraryUUID is what the library calls a new machine before it looks at the specification.
func libraryUUID(vmPathName string) string {
	return uuid.NewHash(sha256.New(), uuid.NameSpaceOID, []byte(vmPathName), 5).String()
}

// inner runs a task of the library's within one of ours.
func (s *Store) inner(
	ctx *simulator.Context, entity types.ManagedObjectReference, start func(*simulator.Context) soap.HasFault,
) types.BaseMethodFault {
	_, fault := s.sim.Inner(ctx, entity, start)
	return fault
}

// reconfigure does what VirtualMachine.ReconfigVM_Task does.
func (s *Store) reconfigure(
	ctx *simulator.Context, vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec,
) types.BaseMethodFault {
	if spec.Name != "" && spec.Name != vm.Name {
		if folder, ok := ctx.Map.Get(*vm.Parent).(*simulator.Folder); ok {
			release, fault := s.claimMachine(ctx, &folder.Folder, spec.Name, vm.Self.Value)
			if fault != nil {
				return fault
			}
			defer release()
		}
	}
	if fault := s.uuidsFree(spec.InstanceUuid, vm.Self); fault != nil {
		return fault
	}
	plain := *spec
	if plain.Annotation == cleared {
		plain.Annotation = ""
	}
	var changes []*diskChange
	plain.DeviceChange, changes = split(devicesOf(ctx, vm), spec.DeviceChange)
	if len(changes) > 0 && vm.Config.Template {
		return &types.NotSupported{}
	}
	if fault := s.plan(ctx, vm, changes); fault != nil {
		return fault
	}
	undo, fault := s.makeFiles(ctx, vm, changes)
	if fault != nil {
		return fault
	}
	if fault := s.libraryReconfigure(ctx, vm, &plain); fault != nil {
		undo()
		return fault
	}
	if spec.Annotation == cleared {
		clearAnnotation(ctx, vm)
	}
	s.apply(ctx, vm, changes)
	s.Settle(ctx, vm)
	s.destroyFiles(ctx, vm, changes)
	return nil
}

func (s *Store) libraryReconfigure(
	ctx *simulator.Context, vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec,
) types.BaseMethodFault {
	return s.inner(ctx, vm.Self, func(ctx *simulator.Context) (answer soap.HasFault) {
		ctx.WithLock(vm, func() { answer = vm.ReconfigVMTask(ctx, &types.ReconfigVM_Task{This: vm.Self, Spec: *spec}) })
		return answer
	})
}

// destroy does what VirtualMachine.Destroy_Task does: it unregisters the virtual machine and deletes its files.
func (s *Store) destroy(ctx *simulator.Context, vm *simulator.VirtualMachine) types.BaseMethodFault {
	if places.Running(vm) {
		return &types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOff,
			ExistingState: types.VirtualMachinePowerStatePoweredOn}
	}
	for _, disk := range disks(devicesOf(ctx, vm)) {
		if at, ok := placeOfDisk(ctx, disk); ok {
			if fault := s.locked(at, vm.Self); fault != nil {
				return fault
			}
		}
	}
	return s.remove(ctx, vm)
}

func (s *Store) remove(ctx *simulator.Context, vm *simulator.VirtualMachine) types.BaseMethodFault {
	home, homeFault := parse(ctx, datacenterOf(ctx, vm.Self), vm.Config.Files.VmPathName)
	var chains []place
	seen := make(map[string]bool)
	collect := func(devices []types.BaseVirtualDevice) {
		for _, disk := range disks(devices) {
			if at, ok := placeOfDisk(ctx, disk); ok && !seen[at.local()] {
				seen[at.local()] = true
				chains = append(chains, at)
			}
		}
	}
	collect(devicesOf(ctx, vm))
	ctx.WithLock(vm, func() {
		eachSnapshot(ctx, vm, func(snapshot *simulator.VirtualMachineSnapshot) { collect(snapshot.Config.Hardware.Device) })
	})
	var answer soap.HasFault
	own := core.NewContext(ctx)
	own.WithLock(vm, func() { answer = vm.UnregisterVM(own, &types.UnregisterVM{This: vm.Self}) })
	if answer.Fault() != nil {
		return answer.Fault().VimFault().(types.BaseMethodFault)
	}
	s.unlink(ctx, vm)
	for _, at := range chains {
		s.deleteChain(ctx, at, vm.Self)
	}
	if homeFault == nil {
		s.removeHome(ctx, home)
	}
	return nil
}

// removeHome deletes the files of a virtual machine's folder that are no disks: those that are left belong to somebody.
func (s *Store) removeHome(ctx *simulator.Context, home place) {
	folder := home.dir()
	if folder.file == "" || folder.file == "." {
		return
	}
	entries, _ := os.ReadDir(folder.local())
	for _, entry := range entries {
		if !entry.IsDir() && path.Ext(entry.Name()) != ".vmdk" {
			_ = os.Remove(folder.join(entry.Name()).local())
		}
	}
	_ = os.Remove(folder.local()) // only if it is empty
	s.Touch(ctx, folder.ds, folder.local())
}

// unlink forgets a virtual machine that was unregistered, and its snapshots.
func (s *Store) unlink(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	touched := append([]types.ManagedObjectReference(nil), vm.Datastore...)
	eachSnapshot(ctx, vm, func(snapshot *simulator.VirtualMachineSnapshot) { ctx.Map.Remove(ctx, snapshot.Self) })
	s.Unlearn(vm.Self)
	for _, ref := range touched {
		if ds, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok {
			setReferences(ctx, ds, "vm", &ds.Vm, vm.Self, false)
			s.Changed(ctx, ds)
		}
	}
}
