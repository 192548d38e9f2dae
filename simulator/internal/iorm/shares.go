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

// shares gives a disk whose shares are asked for by level the number that the level stands for.
func shares(s *core.Sim) {
	s.Around(func(_ *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		switch req := call.Body.(type) {
		case *types.CreateVM_Task:
			number(req.Config.DeviceChange)
		case *types.ReconfigVM_Task:
			number(req.Spec.DeviceChange)
		case *types.CloneVM_Task:
			number(req.Spec.Location.DeviceChange)
			if req.Spec.Config != nil {
				number(req.Spec.Config.DeviceChange)
			}
		case *types.RelocateVM_Task:
			number(req.Spec.DeviceChange)
		}
		return next()
	})
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
