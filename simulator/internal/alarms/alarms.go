// SPDX-License-Identifier: Apache-2.0

// Package alarms has the alarm that a vCenter raises when a datastore fills up.
package alarms

import (
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/figures"
)

// Feature is the alarm "Datastore usage on disk" of a vCenter's AlarmManager: yellow above 75 %, red above 85 % (until
// Alarm.ReconfigureAlarm sets something else), in triggeredAlarmState of the datastore and of all that it is in, and in the
// datastore's overallStatus. Alarms that a client makes with the same metric work in the same way.
var Feature = core.Feature{Name: "alarms", Start: start}

// The metric counts hundredths of a percent.
const (
	usageCounter = 281
	yellowAbove  = 7500
	redAbove     = 8500
)

type feature struct {
	// raised holds, by alarm and datastore, the objects that show the alarm. Only one goroutine uses it.
	raised map[raisedKey][]types.ManagedObjectReference
}

type raisedKey struct{ alarm, datastore types.ManagedObjectReference }

func start(s *core.Sim) error {
	define(s)
	f := &feature{raised: make(map[raisedKey][]types.ManagedObjectReference)}
	figures.Watch(s, f.judge)
	return nil
}

func define(s *core.Sim) {
	manager := s.Map().AlarmManager()
	root := s.Model.ServiceContent.RootFolder
	alarm := &simulator.Alarm{Alarm: mo.Alarm{
		ExtensibleManagedObject: mo.ExtensibleManagedObject{
			Self: types.ManagedObjectReference{Type: "Alarm", Value: "alarm-7"}},
		Info: types.AlarmInfo{
			AlarmSpec: types.AlarmSpec{
				Name: "Datastore usage on disk", SystemName: "alarm.DatastoreDiskUsageAlarm", Enabled: true,
				Description: "Default alarm to monitor datastore disk usage",
				Expression: &types.OrAlarmExpression{Expression: []types.BaseAlarmExpression{&types.MetricAlarmExpression{
					Operator: types.MetricAlarmOperatorIsAbove, Type: "Datastore",
					Metric: types.PerfMetricId{CounterId: usageCounter}, Yellow: yellowAbove, Red: redAbove,
				}}},
				Setting: &types.AlarmSetting{ToleranceRange: 0, ReportingFrequency: 300},
			},
			Entity: root, LastModifiedTime: time.Now(), LastModifiedUser: "", CreationEventId: 0,
		},
	}}
	alarm.Info.Alarm, alarm.Info.Key = alarm.Self, ""
	if s.Map().Get(alarm.Self) == nil { // else it is a vCenter that was saved
		s.Map().Put(alarm)
	}
	for _, each := range s.Map().AllReference("Alarm") {
		if !slices.Contains(manager.GetAlarmResponse.Returnval, each.Reference()) {
			manager.GetAlarmResponse.Returnval = append(manager.GetAlarmResponse.Returnval, each.Reference())
		}
	}
}

// judge raises, changes and clears the alarms of one datastore.
func (f *feature) judge(ctx *simulator.Context, on types.ManagedObjectReference) {
	usage := int64(-1)
	datastore, ok := ctx.Map.Get(on).(*simulator.Datastore)
	if ok {
		ctx.WithLock(datastore, func() {
			if summary := datastore.Summary; summary.Capacity > 0 && summary.Accessible {
				usage = int64(float64(summary.Capacity-summary.FreeSpace) / float64(summary.Capacity) * 10000)
			}
		})
	}
	overall := types.ManagedEntityStatusGreen
	known := make(map[types.ManagedObjectReference]bool)
	manager := ctx.Map.AlarmManager()
	var alarms []types.ManagedObjectReference
	ctx.WithLock(manager, func() { alarms = slices.Clone(manager.GetAlarmResponse.Returnval) })
	for _, ref := range alarms {
		alarm, ok := ctx.Map.Get(ref).(*simulator.Alarm)
		if !ok {
			continue
		}
		known[alarm.Self] = true
		var status types.ManagedEntityStatus
		ctx.WithLock(alarm, func() { status = verdict(&alarm.Info, usage) })
		overall = worse(overall, status)
		f.show(ctx, raisedKey{alarm.Self, on}, status)
	}
	for key := range f.raised { // of alarms that were removed
		if key.datastore == on && !known[key.alarm] {
			f.show(ctx, key, types.ManagedEntityStatusGreen)
		}
	}
	if ok {
		ctx.WithLock(datastore, func() {
			if datastore.OverallStatus != overall {
				ctx.Update(datastore, []types.PropertyChange{{Name: "overallStatus", Val: overall}})
			}
		})
	}
}

// verdict is what an alarm says about a usage; a usage below 0 is not known.
func verdict(info *types.AlarmInfo, usage int64) types.ManagedEntityStatus {
	status := types.ManagedEntityStatusGreen
	if !info.Enabled || usage < 0 {
		return status
	}
	expressions := []types.BaseAlarmExpression{info.Expression}
	if or, ok := info.Expression.(*types.OrAlarmExpression); ok {
		expressions = or.Expression
	}
	for _, base := range expressions {
		metric, ok := base.(*types.MetricAlarmExpression)
		if !ok || strings.TrimPrefix(metric.Type, "vim.") != "Datastore" || metric.Metric.CounterId != usageCounter ||
			metric.Operator != types.MetricAlarmOperatorIsAbove {
			continue
		}
		switch {
		case metric.Red > 0 && usage > int64(metric.Red):
			return types.ManagedEntityStatusRed
		case metric.Yellow > 0 && usage > int64(metric.Yellow):
			status = types.ManagedEntityStatusYellow
		}
	}
	return status
}

func worse(a, b types.ManagedEntityStatus) types.ManagedEntityStatus {
	order := []types.ManagedEntityStatus{
		types.ManagedEntityStatusGreen, types.ManagedEntityStatusYellow, types.ManagedEntityStatusRed}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// show has the datastore, and all that it is in, show a status; green shows nothing.
func (f *feature) show(ctx *simulator.Context, key raisedKey, status types.ManagedEntityStatus) {
	before, known := f.raised[key]
	if !known { // an alarm of before a restart
		before = showing(ctx, key)
	}
	var now []types.ManagedObjectReference
	if status != types.ManagedEntityStatusGreen {
		now = above(ctx, key.datastore)
	}
	if len(before) == 0 && len(now) == 0 {
		return
	}
	for _, ref := range before {
		if !slices.Contains(now, ref) {
			set(ctx, ref, key, types.ManagedEntityStatusGreen)
		}
	}
	for _, ref := range now {
		set(ctx, ref, key, status)
	}
	if f.raised[key] = now; len(now) == 0 {
		delete(f.raised, key)
	}
}

// above lists an object and all that it is in.
func above(ctx *simulator.Context, ref types.ManagedObjectReference) []types.ManagedObjectReference {
	var list []types.ManagedObjectReference
	for {
		entity, ok := ctx.Map.Get(ref).(mo.Entity)
		if !ok {
			return list
		}
		list = append(list, ref)
		if entity.Entity().Parent == nil {
			return list
		}
		ref = *entity.Entity().Parent
	}
}

// showing lists the objects that show an alarm, if the datastore does.
func showing(ctx *simulator.Context, key raisedKey) []types.ManagedObjectReference {
	datastore, ok := ctx.Map.Get(key.datastore).(*simulator.Datastore)
	if !ok {
		return nil
	}
	raised := false
	ctx.WithLock(datastore, func() {
		raised = slices.ContainsFunc(datastore.TriggeredAlarmState, func(state types.AlarmState) bool {
			return state.Alarm == key.alarm && state.Entity == key.datastore
		})
	})
	if !raised {
		return nil
	}
	return above(ctx, key.datastore)
}

// set changes one object's list of alarms.
func set(ctx *simulator.Context, ref types.ManagedObjectReference, key raisedKey, status types.ManagedEntityStatus) {
	entity, ok := ctx.Map.Get(ref).(mo.Entity)
	if !ok {
		return
	}
	name := number(key.alarm) + "." + number(key.datastore) // as the library names them, which acknowledges by this name
	ctx.WithLock(entity, func() {
		states := slices.Clone(entity.Entity().TriggeredAlarmState)
		i := slices.IndexFunc(states, func(state types.AlarmState) bool { return state.Key == name })
		switch {
		case i < 0 && status == types.ManagedEntityStatusGreen, i >= 0 && states[i].OverallStatus == status:
			return
		case status == types.ManagedEntityStatusGreen:
			states = slices.Delete(states, i, i+1)
		case i >= 0:
			states[i].OverallStatus, states[i].Time = status, time.Now()
		default:
			states = append(states, types.AlarmState{
				Key: name, Entity: key.datastore, Alarm: key.alarm, OverallStatus: status, Time: time.Now(),
				Acknowledged: types.NewBool(false), Disabled: types.NewBool(false),
			})
		}
		ctx.Update(entity, []types.PropertyChange{{Name: "triggeredAlarmState", Val: states}})
	})
}

func number(ref types.ManagedObjectReference) string {
	return ref.Value[strings.LastIndex(ref.Value, "-")+1:]
}
