// SPDX-License-Identifier: Apache-2.0

package alarms

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestVerdicts(t *testing.T) {
	metric := func(counter int32, operator types.MetricAlarmOperator) *types.AlarmInfo {
		return &types.AlarmInfo{AlarmSpec: types.AlarmSpec{Enabled: true, Expression: &types.OrAlarmExpression{
			Expression: []types.BaseAlarmExpression{&types.EventAlarmExpression{}, &types.MetricAlarmExpression{
				Operator: operator, Type: "vim.Datastore", Metric: types.PerfMetricId{CounterId: counter}, Yellow: 7500, Red: 8500}},
		}}}
	}
	ours := metric(usageCounter, types.MetricAlarmOperatorIsAbove)
	disabled := metric(usageCounter, types.MetricAlarmOperatorIsAbove)
	disabled.Enabled = false
	for _, each := range []struct {
		info  *types.AlarmInfo
		usage int64
		want  types.ManagedEntityStatus
	}{
		{ours, 0, types.ManagedEntityStatusGreen},
		{ours, 7500, types.ManagedEntityStatusGreen},
		{ours, 7501, types.ManagedEntityStatusYellow},
		{ours, 8500, types.ManagedEntityStatusYellow},
		{ours, 8501, types.ManagedEntityStatusRed},
		{ours, 12000, types.ManagedEntityStatusRed},
		{ours, -1, types.ManagedEntityStatusGreen},
		{disabled, 9000, types.ManagedEntityStatusGreen},
		{metric(2, types.MetricAlarmOperatorIsAbove), 9000, types.ManagedEntityStatusGreen},
		{metric(usageCounter, types.MetricAlarmOperatorIsBelow), 9000, types.ManagedEntityStatusGreen},
	} {
		if got := verdict(each.info, each.usage); got != each.want {
			t.Errorf("usage %d: %s, not %s", each.usage, got, each.want)
		}
	}
}
