// SPDX-License-Identifier: Apache-2.0

package iorm

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestEditChangesWhatIsNamed(t *testing.T) {
	info := defaults()
	if fault := edit(info, &types.StorageIORMConfigSpec{Enabled: types.NewBool(true), CongestionThreshold: 15}); fault != nil {
		t.Fatal(fault)
	}
	if !info.Enabled || info.CongestionThreshold != 15 || info.CongestionThresholdMode != byHand {
		t.Errorf("enabled %v, threshold %d %s", info.Enabled, info.CongestionThreshold, info.CongestionThresholdMode)
	}
	if !info.StatsCollectionEnabled || info.PercentOfPeakThroughput != peakPercent {
		t.Error("what was not named has changed")
	}
}

func TestSharesOfALevel(t *testing.T) {
	disk := &types.VirtualDisk{StorageIOAllocation: &types.StorageIOAllocationInfo{
		Shares: &types.SharesInfo{Level: types.SharesLevelHigh, Shares: 7}}}
	own := &types.VirtualDisk{StorageIOAllocation: &types.StorageIOAllocationInfo{
		Shares: &types.SharesInfo{Level: types.SharesLevelCustom, Shares: 7}}}
	number([]types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Device: disk}, &types.VirtualDeviceConfigSpec{Device: own},
		&types.VirtualDeviceConfigSpec{Device: &types.VirtualDisk{}}})
	if disk.StorageIOAllocation.Shares.Shares != 2000 || own.StorageIOAllocation.Shares.Shares != 7 {
		t.Errorf("high has %d shares, custom %d", disk.StorageIOAllocation.Shares.Shares, own.StorageIOAllocation.Shares.Shares)
	}
}

func TestCheckRefusesWhatIsOutOfRange(t *testing.T) {
	for _, wrong := range []*types.StorageIOAllocationInfo{
		{Limit: types.NewInt64(0)}, {Limit: types.NewInt64(15)}, {Limit: types.NewInt64(-2)}, {Reservation: types.NewInt32(-1)},
		{Limit: types.NewInt64(100), Reservation: types.NewInt32(101)},
		{Shares: &types.SharesInfo{Level: types.SharesLevelCustom, Shares: 199}},
		{Shares: &types.SharesInfo{Level: types.SharesLevelCustom, Shares: 4001}},
	} {
		if check([]types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
			Device: &types.VirtualDisk{StorageIOAllocation: wrong}}}) == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
	right := &types.StorageIOAllocationInfo{Limit: types.NewInt64(16), Reservation: types.NewInt32(16),
		Shares: &types.SharesInfo{Level: types.SharesLevelCustom, Shares: 200}}
	if fault := check([]types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
		Device: &types.VirtualDisk{StorageIOAllocation: right}}}); fault != nil {
		t.Errorf("%+v is refused", right)
	}
}
