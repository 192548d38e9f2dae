// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"
	"path"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/vdisk"
)

// overrideFileManager answers FileManager's methods. They know files and folders, and nothing of disks.
func (s *Store) overrideFileManager() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.DeleteDatastoreFile_Task, _ core.Next) soap.HasFault {
		task := s.fileTask(ctx, req.This, "DeleteDatastoreFile_Task", req.Datacenter, req.Name,
			func(ctx *simulator.Context, at place) types.BaseMethodFault { return s.deleteFile(ctx, at) })
		return &methods.DeleteDatastoreFile_TaskBody{Res: &types.DeleteDatastoreFile_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.MoveDatastoreFile_Task, _ core.Next) soap.HasFault {
		task := s.fileTask(ctx, req.This, "MoveDatastoreFile_Task", req.SourceDatacenter, req.SourceName,
			func(ctx *simulator.Context, from place) types.BaseMethodFault {
				to, fault := destination(ctx, req.DestinationDatacenter, req.SourceDatacenter, req.DestinationName)
				if fault != nil {
					return fault
				}
				return s.moveFile(ctx, from, to, isTrue(req.Force))
			})
		return &methods.MoveDatastoreFile_TaskBody{Res: &types.MoveDatastoreFile_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.CopyDatastoreFile_Task, _ core.Next) soap.HasFault {
		task := s.fileTask(ctx, req.This, "CopyDatastoreFile_Task", req.SourceDatacenter, req.SourceName,
			func(ctx *simulator.Context, from place) types.BaseMethodFault {
				to, fault := destination(ctx, req.DestinationDatacenter, req.SourceDatacenter, req.DestinationName)
				if fault != nil {
					return fault
				}
				return s.copyFile(ctx, from, to, isTrue(req.Force))
			})
		return &methods.CopyDatastoreFile_TaskBody{Res: &types.CopyDatastoreFile_TaskResponse{Returnval: task}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.MakeDirectory, _ core.Next) soap.HasFault {
		at, fault := resolve(ctx, req.Datacenter, req.Name)
		if fault != nil {
			return core.Fault(fault)
		}
		make := os.Mkdir
		if isTrue(req.CreateParentDirectories) {
			make = os.MkdirAll
			if at.exists() {
				return core.Fault(&types.FileAlreadyExists{FileFault: types.FileFault{File: at.String()}})
			}
		}
		if err := make(at.local(), 0o700); err != nil {
			return core.Fault(fileFault(at, err))
		}
		return &methods.MakeDirectoryBody{Res: &types.MakeDirectoryResponse{}}
	})
}

func (s *Store) fileTask(
	ctx *simulator.Context, manager types.ManagedObjectReference, name string, datacenter *types.ManagedObjectReference,
	file string, run func(*simulator.Context, place) types.BaseMethodFault,
) types.ManagedObjectReference {
	return core.StartTask(ctx, manager, name, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		at, fault := resolve(ctx, datacenter, file)
		if fault != nil {
			return nil, fault
		}
		if !at.exists() {
			return nil, &types.FileNotFound{FileFault: types.FileFault{File: at.String()}}
		}
		return nil, run(ctx, at)
	})
}

func (s *Store) deleteFile(ctx *simulator.Context, at place) types.BaseMethodFault {
	if at.file == "" {
		return &types.InvalidDatastorePath{DatastorePath: at.String()}
	}
	if fault := s.lockedBelow(at); fault != nil {
		return fault
	}
	err := os.RemoveAll(at.local())
	s.Touch(ctx, at.ds, at.local())
	s.touchExtentOf(ctx, at)
	if err != nil {
		return fileFault(at, err)
	}
	return nil
}

// touchExtentOf measures the extent anew after its descriptor was changed as a mere file.
func (s *Store) touchExtentOf(ctx *simulator.Context, at place) {
	if path.Ext(at.file) == ".vmdk" {
		s.touchDisk(ctx, at)
	}
}

func (s *Store) moveFile(ctx *simulator.Context, from, to place, force bool) types.BaseMethodFault {
	fault := s.lockedBelow(from)
	if fault == nil {
		fault = replaceable(to, force)
	}
	if fault != nil {
		return fault
	}
	release := func() {}
	if from.ds != to.ds {
		if release, fault = s.Reserve(to, s.costBelow(from)); fault != nil {
			return fault
		}
	}
	defer release()
	err := os.Rename(from.local(), to.local())
	s.Touch(ctx, from.ds, from.local())
	s.Touch(ctx, to.ds, to.local())
	s.touchExtentOf(ctx, from)
	s.touchExtentOf(ctx, to)
	if err != nil {
		return fileFault(from, err)
	}
	return nil
}

func replaceable(to place, force bool) types.BaseMethodFault {
	if to.exists() && !force {
		return &types.FileAlreadyExists{FileFault: types.FileFault{File: to.String()}}
	}
	if _, err := os.Stat(path.Dir(to.local())); err != nil {
		return &types.FileNotFound{FileFault: types.FileFault{File: to.dir().String()}}
	}
	return nil
}

// costBelow is the space that a file, or all files in a folder, take.
func (s *Store) costBelow(at place) (bytes int64) {
	for _, cost := range measure(at.local()) {
		bytes += cost.Used
	}
	return bytes
}

func (s *Store) copyFile(ctx *simulator.Context, from, to place, force bool) types.BaseMethodFault {
	if fault := s.lockedBelow(from); fault != nil {
		return fault
	}
	if fault := replaceable(to, force); fault != nil {
		return fault
	}
	info, err := os.Stat(from.local())
	if err != nil || info.IsDir() {
		return &types.CannotAccessFile{FileFault: types.FileFault{File: from.String()}}
	}
	release, fault := s.Reserve(to, info.Size())
	if fault != nil {
		return fault
	}
	defer release()
	err = vdisk.CopySparse(from.local(), to.local())
	s.Touch(ctx, to.ds, to.local())
	s.touchExtentOf(ctx, to)
	if err != nil {
		_ = os.Remove(to.local())
		return fileFault(to, err)
	}
	return nil
}
