// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/vdisk"
)

// queryInfoBody answers QueryVirtualDiskInfo_Task, a method of the internal API, whose types the library keeps to itself.
type queryInfoBody struct {
	Res    *queryInfoResponse `xml:"urn:vim25 QueryVirtualDiskInfo_TaskResponse,omitempty"`
	Fault_ *soap.Fault        `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

type queryInfoResponse struct {
	Returnval types.ManagedObjectReference `xml:"returnval"`
}

// Fault implements soap.HasFault.
func (b *queryInfoBody) Fault() *soap.Fault { return b.Fault_ }

// overrideDiskInfo tells the type of a disk, and the disks that it reads through.
func (s *Store) overrideDiskInfo() {
	s.sim.Around(func(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		if call.Name != "QueryVirtualDiskInfo_Task" || ctx.Session == nil {
			return next()
		}
		request := reflect.ValueOf(call.Body).Elem()
		name, parents := request.FieldByName("Name").String(), request.FieldByName("IncludeParents").Bool()
		datacenter, _ := request.FieldByName("Datacenter").Interface().(*types.ManagedObjectReference)
		task := core.StartTask(ctx, call.This, call.Name,
			func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
				at, fault := resolve(ctx, datacenter, name)
				if fault != nil {
					return nil, fault
				}
				return s.diskInfos(ctx, at, parents)
			})
		return &queryInfoBody{Res: &queryInfoResponse{Returnval: task}}
	})
}

// diskInfos lists a disk, and if asked those that it reads through, as values of the library's own type.
func (s *Store) diskInfos(ctx *simulator.Context, at place, parents bool) (types.AnyType, types.BaseMethodFault) {
	kind, known := types.TypeFunc()("VirtualDiskInfo")
	if !known {
		return nil, &types.NotSupported{}
	}
	list := reflect.MakeSlice(reflect.SliceOf(kind), 0, 1)
	for range 256 {
		d, err := vdisk.ReadDescriptor(at.local())
		if err != nil {
			return nil, fileFault(at, err)
		}
		info := reflect.New(kind).Elem()
		info.FieldByName("Name").SetString(at.String())
		info.FieldByName("DiskType").SetString(string(typeOf(d)))
		under, ok := s.placeNear(ctx, vdisk.ParentPath(at.local(), d), at.ds)
		if ok {
			info.FieldByName("Parent").SetString(under.String())
		}
		list = reflect.Append(list, info)
		if !ok || !parents {
			break
		}
		at = under
	}
	return list.Interface(), nil
}

// typeOf is what VirtualDiskManager calls the type of a disk.
func typeOf(d *vdisk.Descriptor) types.VirtualDiskType {
	switch {
	case d.CreateType == vdisk.TypeDelta:
		return types.VirtualDiskTypeDelta
	case d.CreateType == vdisk.TypeMonolithicSparse || d.CreateType == vdisk.TypeStreamOptimized:
		return types.VirtualDiskTypeSparseMonolithic
	case d.Thin():
		return types.VirtualDiskTypeThin
	case d.Eager():
		return types.VirtualDiskTypeEagerZeroedThick
	}
	return types.VirtualDiskTypePreallocated
}
