// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/places"
)

// A virtual machine that is unregistered leaves its configuration in its .vmx file, and its snapshots: so it is the same one when
// it is registered again. The file is written in lines that people can read, and one that is read.

// vmxMark begins the line that is read.
const vmxMark = "# vcenter-sim: "

// vmxFile is what a configuration file holds. Disks' names have no datastore in them: those in the machine's folder go where the
// file goes, and those elsewhere are found by the volume, whatever the datastore is called by then.
type vmxFile struct {
	Name     string                         `json:"name"`
	Config   types.VirtualMachineConfigInfo `json:"config"`
	Snapshot []vmxSnapshot                  `json:"snapshot,omitempty"`
	Current  int32                          `json:"current,omitempty"` // the id of the current snapshot
}

type vmxSnapshot struct {
	Tree     types.VirtualMachineSnapshotTree `json:"tree"` // without references and children
	Config   types.VirtualMachineConfigInfo   `json:"config"`
	Children []vmxSnapshot                    `json:"children,omitempty"`
}

// writeVMX writes a virtual machine's configuration file. Its lock is held.
func (s *Store) writeVMX(ctx *simulator.Context, vm *simulator.VirtualMachine) error {
	dc := datacenterOf(ctx, vm.Self)
	home, fault := parse(ctx, dc, vm.Config.Files.VmPathName)
	if fault != nil {
		return fmt.Errorf("%s: %T", vm.Config.Files.VmPathName, fault)
	}
	file := vmxFile{Name: vm.Name, Config: portable(ctx, home, *vm.Config)}
	if vm.Snapshot != nil {
		file.Snapshot = vmxSnapshots(ctx, home, vm.Snapshot.RootSnapshotList)
		if current := vm.Snapshot.CurrentSnapshot; current != nil {
			if node := findNode(vm.Snapshot.RootSnapshotList, *current); node != nil {
				file.Current = node.Id
			}
		}
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, ".encoding = \"UTF-8\"\ndisplayName = %q\nguestOS = %q\nuuid.bios = %q\nvc.uuid = %q\n",
		vm.Name, vm.Config.GuestId, vm.Config.Uuid, vm.Config.InstanceUuid)
	for _, disk := range disks(file.Config.Hardware.Device) {
		fmt.Fprintf(&text, "%s.fileName = %q\n", deviceName(file.Config.Hardware.Device, disk), fileOf(disk))
	}
	text.WriteString(vmxMark)
	if err := types.NewJSONEncoder(&text).Encode(file); err != nil { // in one line
		return err
	}
	if err := os.WriteFile(home.local(), text.Bytes(), 0o600); err != nil {
		return err
	}
	s.Touch(ctx, home.ds, home.local())
	return nil
}

func vmxSnapshots(ctx *simulator.Context, home place, tree []types.VirtualMachineSnapshotTree) (kept []vmxSnapshot) {
	for _, node := range tree {
		each := vmxSnapshot{Tree: node, Children: vmxSnapshots(ctx, home, node.ChildSnapshotList)}
		each.Tree.ChildSnapshotList = nil
		if snapshot, ok := ctx.Map.Get(node.Snapshot).(*simulator.VirtualMachineSnapshot); ok {
			each.Config = portable(ctx, home, snapshot.Config)
		}
		kept = append(kept, each)
	}
	return kept
}

// portable names the disks of a configuration so that they are found wherever its file is.
func portable(ctx *simulator.Context, home place, config types.VirtualMachineConfigInfo) types.VirtualMachineConfigInfo {
	config = deepCopy(config)
	for _, disk := range disks(config.Hardware.Device) {
		local, ok := localBacking(ctx, disk)
		if !ok {
			continue
		}
		info := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo).GetVirtualDeviceFileBackingInfo()
		info.Datastore = nil
		if info.FileName = strings.TrimPrefix(local, "ds:"); path.Dir(local) == home.dir().local() {
			info.FileName = path.Base(local)
		}
		if flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			flat.Parent = nil // the descriptor says it
		}
	}
	return config
}

// readVMX reads a configuration file; nil if it is one that says nothing.
func readVMX(home place) (*vmxFile, error) {
	text, err := os.ReadFile(home.local())
	if err != nil {
		return nil, err
	}
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		if rest, ok := bytes.CutPrefix(line, []byte(vmxMark)); ok {
			file := new(vmxFile)
			return file, types.NewJSONDecoder(bytes.NewReader(rest)).Decode(file)
		}
	}
	return nil, nil
}

// resolved is a configuration with its disks where they are now.
func (s *Store) resolved(ctx *simulator.Context, home place, config types.VirtualMachineConfigInfo) types.VirtualMachineConfigInfo {
	for _, disk := range disks(config.Hardware.Device) {
		backing, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo)
		if !ok {
			continue
		}
		info := backing.GetVirtualDeviceFileBackingInfo()
		at, found := home.dir().join(info.FileName), !path.IsAbs(info.FileName)
		if !found {
			at, found = s.placeNear(ctx, "ds:"+info.FileName, home.ds)
		}
		if !found { // the datastore is gone
			continue
		}
		info.FileName, info.Datastore = at.String(), &at.ds.Self
		s.describe(disk, at)
	}
	folder := home.dir().String()
	config.Files = types.VirtualMachineFileInfo{
		VmPathName: home.String(), SnapshotDirectory: folder, SuspendDirectory: folder, LogDirectory: folder}
	return config
}

// fill makes a bare virtual machine what its configuration file says.
func (s *Store) fill(ctx *simulator.Context, vm *simulator.VirtualMachine, home place, file *vmxFile, instance string) {
	config := s.resolved(ctx, home, file.Config)
	config.Name, config.Template, config.InstanceUuid = vm.Name, false, instance
	var info *types.VirtualMachineSnapshotInfo
	if len(file.Snapshot) > 0 {
		info = &types.VirtualMachineSnapshotInfo{}
		info.RootSnapshotList = s.restoreSnapshots(ctx, vm, home, file, file.Snapshot, info)
	}
	ctx.WithLock(vm, func() {
		summary := vm.Summary.Config
		summary.Uuid, summary.InstanceUuid, summary.GuestId = config.Uuid, instance, config.GuestId
		summary.GuestFullName, summary.Annotation, summary.ManagedBy = config.GuestFullName, config.Annotation, config.ManagedBy
		summary.NumCpu, summary.MemorySizeMB = config.Hardware.NumCPU, config.Hardware.MemoryMB
		summary.NumVirtualDisks = int32(len(disks(config.Hardware.Device)))
		ctx.Update(vm, []types.PropertyChange{
			{Name: "config", Val: &config}, {Name: "summary.config", Val: summary},
			{Name: "config.hardware.device", Val: config.Hardware.Device}})
		if info != nil {
			publishSnapshots(ctx, vm, info)
		}
	})
}

// restoreSnapshots makes the snapshots of a registered machine anew. Their references are new.
func (s *Store) restoreSnapshots(
	ctx *simulator.Context, vm *simulator.VirtualMachine, home place, file *vmxFile, kept []vmxSnapshot,
	info *types.VirtualMachineSnapshotInfo,
) (tree []types.VirtualMachineSnapshotTree) {
	for _, each := range kept {
		snapshot := &simulator.VirtualMachineSnapshot{}
		snapshot.Vm, snapshot.Config = vm.Self, s.resolved(ctx, home, each.Config)
		ctx.Map.Put(snapshot)
		node := each.Tree
		node.Vm, node.Snapshot = vm.Self, snapshot.Self
		if node.Id == file.Current {
			info.CurrentSnapshot = &snapshot.Self
		}
		node.ChildSnapshotList = s.restoreSnapshots(ctx, vm, home, file, each.Children, info)
		for _, child := range node.ChildSnapshotList {
			snapshot.ChildSnapshot = append(snapshot.ChildSnapshot, child.Snapshot)
		}
		tree = append(tree, node)
	}
	return tree
}

// registered finds the virtual machine that has a configuration file.
func registered(ctx *simulator.Context, home place) *simulator.VirtualMachine {
	for _, vm := range places.Machines(ctx, home.ds.Self) {
		var name string
		ctx.WithLock(vm, func() { name = vm.Config.Files.VmPathName })
		if at, fault := parse(ctx, datacenterOf(ctx, vm.Self), name); fault == nil && at.local() == home.local() {
			return vm
		}
	}
	return nil
}
