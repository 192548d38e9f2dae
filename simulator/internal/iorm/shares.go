// SPDX-License-Identifier: Apache-2.0

package iorm

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// diskShares are what the levels of SharesInfo stand for with disks.
var diskShares = map[types.SharesLevel]int32{
	types.SharesLevelLow: 500, types.SharesLevelNormal: 1000, types.SharesLevelHigh: 2000,
}

// What the reference allows: a limit in I/O operations a second, or none, and shares that are asked for by number.
const (
	unlimited, leastLimit   = -1, 16
	leastShares, mostShares = 200, 4000
)

// shares gives a disk whose shares are asked for by level the number that the level stands for, and refuses what is out of range.
func shares(s *core.Sim) {
	s.Around(func(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		var changes []types.BaseVirtualDeviceConfigSpec
		switch req := call.Body.(type) {
		case *types.CreateVM_Task:
			changes = req.Config.DeviceChange
		case *types.ReconfigVM_Task:
			changes = req.Spec.DeviceChange
		case *types.CloneVM_Task:
			changes = req.Spec.Location.DeviceChange
			if req.Spec.Config != nil {
				changes = append(changes[:len(changes):len(changes)], req.Spec.Config.DeviceChange...)
			}
		case *types.RelocateVM_Task:
			changes = req.Spec.DeviceChange
		}
		if fault := check(changes); fault != nil {
			return core.FailedTask(ctx, call, fault)
		}
		number(changes)
		return next()
	})
}

// check refuses the allocation of a disk that is out of range.
func check(changes []types.BaseVirtualDeviceConfigSpec) types.BaseMethodFault {
	for index, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		disk, ok := spec.Device.(*types.VirtualDisk)
		if !ok || disk.StorageIOAllocation == nil || spec.Operation == types.VirtualDeviceConfigSpecOperationRemove {
			continue
		}
		asked := disk.StorageIOAllocation
		wrong := ""
		switch own := asked.Shares; {
		case asked.Limit != nil && *asked.Limit != unlimited && *asked.Limit < leastLimit:
			wrong = "limit"
		case asked.Reservation != nil && *asked.Reservation < 0:
			wrong = "reservation"
		case asked.Limit != nil && *asked.Limit != unlimited && asked.Reservation != nil && int64(*asked.Reservation) > *asked.Limit:
			wrong = "reservation"
		case own != nil && own.Level == types.SharesLevelCustom && (own.Shares < leastShares || own.Shares > mostShares):
			wrong = "shares"
		}
		if wrong != "" {
			return &types.InvalidDeviceSpec{
				InvalidVmConfig: types.InvalidVmConfig{Property: "storageIOAllocation." + wrong}, DeviceIndex: int32(index)}
		}
	}
	return nil
}

func number(changes []types.BaseVirtualDeviceConfigSpec) {
	for _, change := range changes {
		disk, ok := change.GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk)
		if !ok || disk.StorageIOAllocation == nil || disk.StorageIOAllocation.Shares == nil {
			continue
		}
		asked := disk.StorageIOAllocation.Shares
		if known, ok := diskShares[asked.Level]; ok {
			asked.Shares = known
		}
	}
}
