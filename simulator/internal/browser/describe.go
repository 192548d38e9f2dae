// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"io/fs"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/vdisk"
)

// kinds are the files that the API knows by more than their names: the query for such files, and what it answers with.
var kinds = []struct {
	query types.BaseFileQuery
	is    func(name string) bool
	info  func(types.FileInfo) types.BaseFileInfo
}{
	{&types.VmConfigFileQuery{}, suffixed(".vmx"), func(i types.FileInfo) types.BaseFileInfo {
		return &types.VmConfigFileInfo{FileInfo: i}
	}},
	{&types.TemplateConfigFileQuery{}, suffixed(".vmtx"), func(i types.FileInfo) types.BaseFileInfo {
		return &types.TemplateConfigFileInfo{VmConfigFileInfo: types.VmConfigFileInfo{FileInfo: i}}
	}},
	{&types.VmLogFileQuery{}, suffixed(".log"), func(i types.FileInfo) types.BaseFileInfo {
		return &types.VmLogFileInfo{FileInfo: i}
	}},
	{&types.VmNvramFileQuery{}, suffixed(".nvram"), func(i types.FileInfo) types.BaseFileInfo {
		return &types.VmNvramFileInfo{FileInfo: i}
	}},
	{&types.VmSnapshotFileQuery{}, suffixed(".vmsn"), func(i types.FileInfo) types.BaseFileInfo {
		return &types.VmSnapshotFileInfo{FileInfo: i}
	}},
	{&types.IsoImageFileQuery{}, suffixed(".iso"), func(i types.FileInfo) types.BaseFileInfo {
		return &types.IsoImageFileInfo{FileInfo: i}
	}},
	{&types.FloppyImageFileQuery{}, suffixed(".flp", ".img"), func(i types.FileInfo) types.BaseFileInfo {
		return &types.FloppyImageFileInfo{FileInfo: i}
	}},
}

func suffixed(endings ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(endings, strings.ToLower(path.Ext(name))) }
}

// describe says what is known about a file, as far as it is asked for; nil if no query is about such files.
func (s *search) describe(file string, stat fs.FileInfo) types.BaseFileInfo {
	info := s.plain(file, stat)
	details := s.details()
	disk := s.diskQuery()
	isDisk := !stat.IsDir() && isDiskFile(file)
	switch {
	case len(s.spec.Query) == 0 && !details.FileType:
		if stat.IsDir() {
			return &types.FolderFileInfo{FileInfo: info}
		}
		return &info
	case stat.IsDir():
		if len(s.spec.Query) == 0 || s.asks(&types.FolderFileQuery{}) || s.asks(&types.FileQuery{}) {
			return &types.FolderFileInfo{FileInfo: info}
		}
		return nil
	case isDisk && (len(s.spec.Query) == 0 || disk != nil):
		return s.disk(file, info, disk)
	}
	for _, kind := range kinds {
		if kind.is(stat.Name()) && (len(s.spec.Query) == 0 || s.asks(kind.query)) {
			return kind.info(info)
		}
	}
	if len(s.spec.Query) == 0 || s.asks(&types.FileQuery{}) {
		return &info
	}
	return nil
}

func (s *search) details() types.FileQueryFlags {
	if s.spec.Details == nil {
		return types.FileQueryFlags{}
	}
	return *s.spec.Details
}

func (s *search) plain(file string, stat fs.FileInfo) types.FileInfo {
	info := types.FileInfo{Path: stat.Name()}
	details := s.details()
	if details.FileSize {
		info.FileSize = sizeOf(file, stat)
	}
	if details.Modification {
		modified := stat.ModTime()
		info.Modification = &modified
	}
	if details.FileOwner {
		info.Owner = "root"
	}
	return info
}

// sizeOf is what a file takes on the datastore: for a disk's extent that is not its length.
func sizeOf(file string, stat fs.FileInfo) int64 {
	if cost := vdisk.CostOf(file, stat); cost.Disk != "" {
		return cost.Used
	}
	return stat.Size()
}

// asks reports whether there is a query of a kind.
func (s *search) asks(kind types.BaseFileQuery) bool {
	return slices.ContainsFunc(s.spec.Query, func(query types.BaseFileQuery) bool {
		return reflect.TypeOf(query) == reflect.TypeOf(kind)
	})
}

// diskQuery is the query for virtual disks, or nil.
func (s *search) diskQuery() *types.VmDiskFileQuery {
	for _, query := range s.spec.Query {
		if disk, ok := query.(*types.VmDiskFileQuery); ok {
			return disk
		}
	}
	return nil
}

// isDiskFile reports whether a file is a disk's descriptor, which stands for the disk; its extents are not disks.
func isDiskFile(file string) bool {
	return strings.EqualFold(path.Ext(file), ".vmdk") &&
		!strings.HasSuffix(file, "-flat.vmdk") && !strings.HasSuffix(file, "-delta.vmdk")
}

// disk describes a virtual disk. Its size is that of the descriptor and of the extent.
func (s *search) disk(file string, info types.FileInfo, query *types.VmDiskFileQuery) types.BaseFileInfo {
	result := &types.VmDiskFileInfo{FileInfo: info}
	descriptor, err := vdisk.ReadDescriptor(file)
	if err != nil {
		return result
	}
	extent := vdisk.ExtentPath(file, descriptor)
	if stat, err := os.Stat(extent); err == nil && s.details().FileSize && extent != file {
		result.FileSize += sizeOf(extent, stat)
	}
	if query == nil {
		return result
	}
	known := know(descriptor, extent)
	if query.Filter != nil && !known.fits(query.Filter) {
		return nil
	}
	known.tell(result, query.Details)
	return result
}

// knowledge is what a descriptor says in the API's words.
type knowledge struct {
	diskType, controller string
	hardware             int32
	thin                 bool
	capacityKb           int64
	extent               string
}

// controllers are the device types for a descriptor's adapter types.
var controllers = map[string]string{
	"ide": "VirtualIDEController", "buslogic": "VirtualBusLogicController", "lsilogic": "VirtualLsiLogicController",
	"lsisas1068": "VirtualLsiLogicSASController", "pvscsi": "ParaVirtualSCSIController",
}

func know(descriptor *vdisk.Descriptor, extent string) knowledge {
	k := knowledge{
		diskType: "VirtualDiskFlatVer2BackingInfo", controller: controllers[strings.ToLower(descriptor.DDB["adapterType"])],
		thin: descriptor.Thin(), capacityKb: descriptor.CapacityBytes() >> 10, extent: path.Base(extent),
	}
	if descriptor.CreateType == vdisk.TypeMonolithicSparse || descriptor.CreateType == vdisk.TypeStreamOptimized {
		k.diskType = "VirtualDiskSparseVer2BackingInfo"
	}
	if version, err := strconv.ParseInt(descriptor.DDB["virtualHWVersion"], 10, 32); err == nil {
		k.hardware = int32(version)
	}
	return k
}

func (k *knowledge) fits(filter *types.VmDiskFileQueryFilter) bool {
	return (len(filter.DiskType) == 0 || slices.Contains(filter.DiskType, k.diskType)) &&
		(len(filter.ControllerType) == 0 || slices.Contains(filter.ControllerType, k.controller)) &&
		(len(filter.MatchHardwareVersion) == 0 || slices.Contains(filter.MatchHardwareVersion, k.hardware)) &&
		(filter.Thin == nil || *filter.Thin == k.thin) && !isTrue(filter.Encrypted)
}

func (k *knowledge) tell(info *types.VmDiskFileInfo, asked *types.VmDiskFileQueryFlags) {
	if asked == nil {
		return
	}
	if asked.DiskType {
		info.DiskType = k.diskType
	}
	if asked.CapacityKb {
		info.CapacityKb = k.capacityKb
	}
	if asked.HardwareVersion {
		info.HardwareVersion = k.hardware
	}
	if isTrue(asked.ControllerType) {
		info.ControllerType = k.controller
	}
	if isTrue(asked.DiskExtents) {
		info.DiskExtents = []string{k.extent}
	}
	if isTrue(asked.Thin) {
		info.Thin = types.NewBool(k.thin)
	}
}
