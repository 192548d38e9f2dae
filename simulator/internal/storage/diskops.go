// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"
	"path"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/vdisk"
)

// What is done to disk files, whoever asks for it. Each reserves the space first, and measures the files afterwards.

// CreateDisk makes an empty flat disk.
func (s *Store) CreateDisk(ctx *simulator.Context, at place, spec vdisk.Spec) types.BaseMethodFault {
	if at.exists() {
		return &types.FileAlreadyExists{FileFault: types.FileFault{File: at.String()}}
	}
	need := spec.CapacityBytes
	if spec.Thin {
		need = 0
	}
	release, fault := s.Reserve(at, need)
	if fault != nil {
		return fault
	}
	defer release()
	if err := os.MkdirAll(path.Dir(at.local()), 0o700); err != nil {
		return fileFault(at, err)
	}
	if spec.Eager {
		takeTime(spec.CapacityBytes)
	}
	err := vdisk.CreateFlat(at.local(), spec)
	s.touchDisk(ctx, at)
	if err != nil {
		return fileFault(at, err)
	}
	return nil
}

// createDelta makes an empty delta on a parent.
func (s *Store) createDelta(ctx *simulator.Context, at, parent place) types.BaseMethodFault {
	if fault := s.checkChain(ctx, parent); fault != nil {
		return fault
	}
	release, fault := s.Reserve(at, vdisk.BlockBytes)
	if fault != nil {
		return fault
	}
	defer release()
	if err := os.MkdirAll(path.Dir(at.local()), 0o700); err != nil {
		return fileFault(at, err)
	}
	err := vdisk.CreateDelta(at.local(), parent.local())
	s.touchDisk(ctx, at)
	if err != nil {
		return fileFault(at, err)
	}
	return nil
}

// checkChain looks whether a disk is there, and all that it reads through: what opens a disk opens its parents as well.
func (s *Store) checkChain(ctx *simulator.Context, at place) types.BaseMethodFault {
	for range 256 {
		d, err := vdisk.ReadDescriptor(at.local())
		if err != nil {
			return fileFault(at, err)
		}
		parent, ok := s.placeNear(ctx, vdisk.ParentPath(at.local(), d), at.ds)
		if !ok {
			return nil
		}
		at = parent
	}
	return &types.CannotAccessFile{FileFault: types.FileFault{File: at.String()}}
}

// touchDisk measures a disk's files again.
func (s *Store) touchDisk(ctx *simulator.Context, at place) {
	local := at.local()
	s.Touch(ctx, at.ds, vdisk.ExtentName(local, "-flat"), vdisk.ExtentName(local, "-delta"), local)
}

// deleteDisk deletes a disk's files, unless a running virtual machine other than one has it open.
func (s *Store) deleteDisk(ctx *simulator.Context, at place, except types.ManagedObjectReference) types.BaseMethodFault {
	if fault := s.locked(at, except); fault != nil {
		return fault
	}
	if !at.exists() {
		return &types.FileNotFound{FileFault: types.FileFault{File: at.String()}}
	}
	err := vdisk.Remove(at.local())
	s.touchDisk(ctx, at)
	if err != nil {
		return fileFault(at, err)
	}
	return nil
}

// deleteChain deletes a disk and the parents that nobody else reads through.
func (s *Store) deleteChain(ctx *simulator.Context, at place, owner types.ManagedObjectReference) {
	held := s.heldBySnapshots(ctx, owner)
	for range 256 {
		local := at.local()
		if held[local] || s.readers(local, owner) > 0 {
			return
		}
		d, err := vdisk.ReadDescriptor(local)
		if err != nil {
			return
		}
		if s.deleteDisk(ctx, at, owner) != nil {
			return
		}
		next := vdisk.ParentPath(local, d)
		var ok bool
		if at, ok = s.placeNear(ctx, next, at.ds); !ok {
			return
		}
	}
}

// heldBySnapshots is the disks that the snapshots of a virtual machine need.
func (s *Store) heldBySnapshots(ctx *simulator.Context, ref types.ManagedObjectReference) map[string]bool {
	held := make(map[string]bool)
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return held
	}
	ctx.WithLock(vm, func() {
		eachSnapshot(ctx, vm, func(snapshot *simulator.VirtualMachineSnapshot) {
			for _, disk := range disks(snapshot.Config.Hardware.Device) {
				if local, ok := localBacking(ctx, disk); ok {
					held[local] = true
					addParents(held, local)
				}
			}
		})
	})
	return held
}

// ExtendDisk makes a flat disk larger. With eager given, it says whether the disk is to be thick from now on, zeroed at once or
// not (ExtendVirtualDisk_Task's eagerZero).
func (s *Store) ExtendDisk(ctx *simulator.Context, at place, capacity int64, eager *bool) types.BaseMethodFault {
	d, err := vdisk.ReadDescriptor(at.local())
	if err != nil {
		return fileFault(at, err)
	}
	if capacity < d.CapacityBytes() {
		return &types.InvalidArgument{InvalidProperty: "newCapacityKb"}
	}
	if d.CreateType != vdisk.TypeVMFS {
		return &types.FileFault{File: at.String()}
	}
	thin := d.Thin() && !isTrue(eager)
	need := capacity - d.CapacityBytes()
	if thin {
		need = 0
	} else if d.Thin() { // it becomes thick
		need = capacity - s.usedBy(at)
	}
	release, fault := s.Reserve(at, need)
	if fault != nil {
		return fault
	}
	defer release()
	if err = vdisk.Extend(at.local(), capacity); err == nil && isTrue(eager) {
		err = changeDescriptor(at, func(d *vdisk.Descriptor) error { d.SetProvisioning(false, true); return nil })
	}
	s.touchDisk(ctx, at)
	if err != nil {
		return fileFault(at, err)
	}
	return nil
}

// usedBy is the space that a disk's own extent takes.
func (s *Store) usedBy(at place) int64 {
	var used int64
	for _, suffix := range []string{"-flat", "-delta"} {
		extent := vdisk.ExtentName(at.local(), suffix)
		if info, err := os.Lstat(extent); err == nil {
			used += vdisk.CostOf(extent, info).Used
		}
	}
	return used
}

func changeDescriptor(at place, change func(*vdisk.Descriptor) error) error {
	d, err := vdisk.ReadDescriptor(at.local())
	if err != nil {
		return err
	}
	if err := change(d); err != nil {
		return err
	}
	return d.Write(at.local())
}

// SetUUID writes a disk's uuid into its descriptor.
func (s *Store) SetUUID(ctx *simulator.Context, at place, uuid string) types.BaseMethodFault {
	d, err := vdisk.ReadDescriptor(at.local())
	if err != nil {
		return fileFault(at, err)
	}
	if d.SetUUID(uuid) != nil {
		return &types.InvalidArgument{InvalidProperty: "uuid"}
	}
	if d.CreateType == vdisk.TypeMonolithicSparse || d.CreateType == vdisk.TypeStreamOptimized {
		return &types.FileFault{File: at.String()}
	}
	if err := d.Write(at.local()); err != nil {
		return fileFault(at, err)
	}
	s.touchDisk(ctx, at)
	return nil
}

// CopyDisk makes a flat disk with the content of another, of whatever format. The spec's capacity and uuid do not matter.
func (s *Store) CopyDisk(ctx *simulator.Context, from, to place, spec vdisk.Spec) types.BaseMethodFault {
	source, err := vdisk.Open(from.local())
	if err != nil {
		return fileFault(from, err)
	}
	defer source.Close()
	return s.WriteDisk(ctx, source, to, spec)
}

// WriteDisk makes a flat disk with a content.
func (s *Store) WriteDisk(ctx *simulator.Context, source vdisk.Content, to place, spec vdisk.Spec) types.BaseMethodFault {
	if to.exists() {
		return &types.FileAlreadyExists{FileFault: types.FileFault{File: to.String()}}
	}
	spec.CapacityBytes = max(spec.CapacityBytes, source.CapacityBytes())
	need := spec.CapacityBytes
	if spec.Thin {
		need = vdisk.Bytes(source)
	}
	release, fault := s.Reserve(to, need)
	if fault != nil {
		return fault
	}
	defer release()
	if err := os.MkdirAll(path.Dir(to.local()), 0o700); err != nil {
		return fileFault(to, err)
	}
	written := vdisk.Bytes(source)
	if spec.Eager {
		written = spec.CapacityBytes
	}
	takeTime(written)
	err := vdisk.CreateFlat(to.local(), spec)
	if err == nil {
		if err = fill(to, source); err != nil {
			_ = vdisk.Remove(to.local())
		}
	}
	s.touchDisk(ctx, to)
	if err != nil {
		return fileFault(to, err)
	}
	return nil
}

func fill(to place, source vdisk.Content) error {
	target, err := vdisk.OpenForWriting(to.local())
	if err != nil {
		return err
	}
	defer target.Close()
	return vdisk.Fill(target, source)
}

// moveDisk gives a disk's files another place. Disks that read through it are told.
func (s *Store) moveDisk(ctx *simulator.Context, from, to place) types.BaseMethodFault {
	if to.exists() {
		return &types.FileAlreadyExists{FileFault: types.FileFault{File: to.String()}}
	}
	release := func() {}
	if from.ds != to.ds {
		var fault types.BaseMethodFault
		if release, fault = s.Reserve(to, s.usedBy(from)); fault != nil {
			return fault
		}
		takeTime(s.usedBy(from))
	}
	defer release()
	if err := os.MkdirAll(path.Dir(to.local()), 0o700); err != nil {
		return fileFault(to, err)
	}
	err := vdisk.Move(from.local(), to.local())
	s.touchDisk(ctx, from)
	s.touchDisk(ctx, to)
	if err != nil {
		return fileFault(from, err)
	}
	return nil
}

// convert changes how a disk takes its space. The content stays.
func (s *Store) convert(ctx *simulator.Context, at place, thin, eager bool) types.BaseMethodFault {
	d, err := vdisk.ReadDescriptor(at.local())
	if err != nil {
		return fileFault(at, err)
	}
	if d.CreateType != vdisk.TypeVMFS {
		return &types.FileFault{File: at.String()}
	}
	need := int64(0)
	if d.Thin() && !thin {
		need = d.CapacityBytes() - s.usedBy(at)
	}
	release, fault := s.Reserve(at, need)
	if fault != nil {
		return fault
	}
	defer release()
	if eager && !d.Eager() {
		takeTime(d.CapacityBytes())
	}
	d.SetProvisioning(thin, eager)
	if err := d.Write(at.local()); err != nil {
		return fileFault(at, err)
	}
	s.touchDisk(ctx, at)
	return nil
}
