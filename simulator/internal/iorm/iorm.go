// SPDX-License-Identifier: Apache-2.0

// Package iorm is Storage I/O Control: how datastores are set to share their throughput.
package iorm

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/figures"
)

// Feature is StorageResourceManager.QueryIORMConfigOption and ConfigureDatastoreIORM_Task, and Datastore.iormConfiguration.
var Feature = core.Feature{Name: "storage I/O control", Start: start}

// What a vCenter sets, and the limits that it has.
const (
	thresholdMs, leastThresholdMs, mostThresholdMs        = 30, 5, 100
	peakPercent, leastPeakPercent, mostPeakPercent        = 90, 50, 100
	automatic                                      string = "automatic"
	byHand                                         string = "manual"
)

func defaults() *types.StorageIORMInfo {
	return &types.StorageIORMInfo{
		Enabled: false, CongestionThreshold: thresholdMs, CongestionThresholdMode: automatic,
		PercentOfPeakThroughput: peakPercent, StatsCollectionEnabled: true,
		StatsAggregationDisabled: types.NewBool(false),
	}
}

func start(s *core.Sim) error {
	for _, entity := range s.Map().All("Datastore") {
		datastore := entity.(*simulator.Datastore)
		if datastore.Capability.StorageIORMSupported && datastore.IormConfiguration == nil {
			datastore.IormConfiguration = defaults()
		}
	}
	figures.Watch(s, func(ctx *simulator.Context, ref types.ManagedObjectReference) { // those that are made later
		datastore, ok := ctx.Map.Get(ref).(*simulator.Datastore)
		if !ok {
			return
		}
		ctx.WithLock(datastore, func() {
			if datastore.Capability.StorageIORMSupported && datastore.IormConfiguration == nil {
				ctx.Update(datastore, []types.PropertyChange{{Name: "iormConfiguration", Val: defaults()}})
			}
		})
	})
	shares(s)
	core.Override(s, func(_ *simulator.Context, req *types.QueryIORMConfigOption, _ core.Next) soap.HasFault {
		if s.Map().Get(req.Host) == nil {
			return core.Fault(&types.ManagedObjectNotFound{Obj: req.Host})
		}
		return &methods.QueryIORMConfigOptionBody{Res: &types.QueryIORMConfigOptionResponse{Returnval: option()}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.ConfigureDatastoreIORM_Task, _ core.Next) soap.HasFault {
		task := core.StartTask(ctx, req.Datastore, "ConfigureDatastoreIORM_Task", func(ctx *simulator.Context,
		) (types.AnyType, types.BaseMethodFault) {
			datastore, ok := ctx.Map.Get(req.Datastore).(*simulator.Datastore)
			if !ok {
				return nil, &types.ManagedObjectNotFound{Obj: req.Datastore}
			}
			return nil, configure(ctx, datastore, &req.Spec)
		})
		return &methods.ConfigureDatastoreIORM_TaskBody{Res: &types.ConfigureDatastoreIORM_TaskResponse{Returnval: task}}
	})
	return nil
}

func option() types.StorageIORMConfigOption {
	return types.StorageIORMConfigOption{
		EnabledOption:                types.BoolOption{Supported: true, DefaultValue: false},
		CongestionThresholdOption:    types.IntOption{Min: leastThresholdMs, Max: mostThresholdMs, DefaultValue: thresholdMs},
		StatsCollectionEnabledOption: types.BoolOption{Supported: true, DefaultValue: true},
		ReservationEnabledOption:     types.BoolOption{Supported: true, DefaultValue: false},
	}
}

func configure(ctx *simulator.Context, datastore *simulator.Datastore, spec *types.StorageIORMConfigSpec) types.BaseMethodFault {
	if !datastore.Capability.StorageIORMSupported {
		return &types.NotSupported{}
	}
	var fault types.BaseMethodFault
	ctx.WithLock(datastore, func() {
		info := defaults()
		if datastore.IormConfiguration != nil {
			*info = *datastore.IormConfiguration
			if old := info.StatsAggregationDisabled; old != nil { // others may be reading the original
				info.StatsAggregationDisabled = types.NewBool(*old)
			}
		}
		if fault = edit(info, spec); fault == nil {
			ctx.Update(datastore, []types.PropertyChange{
				{Name: "iormConfiguration", Val: info},
				{Name: "iormConfiguration.enabled", Val: info.Enabled},
				{Name: "iormConfiguration.congestionThreshold", Val: info.CongestionThreshold},
			})
		}
	})
	return fault
}

// edit changes what the specification names.
func edit(info *types.StorageIORMInfo, spec *types.StorageIORMConfigSpec) types.BaseMethodFault {
	invalid := func(property string) types.BaseMethodFault {
		return &types.InvalidArgument{InvalidProperty: "spec." + property}
	}
	switch mode := spec.CongestionThresholdMode; mode {
	case "":
	case automatic, byHand:
		info.CongestionThresholdMode = mode
	default:
		return invalid("congestionThresholdMode")
	}
	if ms := spec.CongestionThreshold; ms != 0 {
		if ms < leastThresholdMs || ms > mostThresholdMs {
			return invalid("congestionThreshold")
		}
		info.CongestionThreshold = ms
		if spec.CongestionThresholdMode == "" {
			info.CongestionThresholdMode = byHand
		}
	}
	if percent := spec.PercentOfPeakThroughput; percent != 0 {
		if percent < leastPeakPercent || percent > mostPeakPercent {
			return invalid("percentOfPeakThroughput")
		}
		info.PercentOfPeakThroughput = percent
	}
	for _, each := range []struct{ to, from *bool }{
		{&info.Enabled, spec.Enabled},
		{&info.StatsCollectionEnabled, spec.StatsCollectionEnabled},
		{&info.ReservationEnabled, spec.ReservationEnabled},
		{info.StatsAggregationDisabled, spec.StatsAggregationDisabled},
	} {
		if each.from != nil && each.to != nil {
			*each.to = *each.from
		}
	}
	if spec.ReservableIopsThreshold != 0 {
		info.ReservableIopsThreshold = spec.ReservableIopsThreshold
	}
	return nil
}
