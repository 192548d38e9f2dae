// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/collector"
)

func TestSilentPropertiesExist(t *testing.T) {
	for kind, paths := range silentProperties {
		for _, path := range paths {
			if !collector.ValidPath(kind, path) {
				t.Errorf("%s has no %s", kind, path)
			}
		}
	}
}

func TestSilence(t *testing.T) {
	e := &engine{}
	for name, want := range map[string]bool{
		"recentTask": true, "layoutEx": true, "layoutEx.file": true, "summary.storage.committed": true, "storage": true,
		"summary": false, "summary.config.name": false, "config": false, "layout": false, everything: false,
	} {
		if got := e.silent("VirtualMachine", name); got != want {
			t.Errorf("VirtualMachine %q: %t", name, got)
		}
	}
	if !e.silent("VirtualApp", "summary") || e.silent("Datastore", "summary") || e.silent("Task", "info") {
		t.Error("silence is a type's own, and of the types derived from it")
	}
	if (&engine{tellsAll: true}).silent("VirtualMachine", "layoutEx") {
		t.Error("a lenient one tells it")
	}
}

func TestAChangeIsJudgedWithoutItsSilentParts(t *testing.T) {
	e := &engine{}
	summary := types.VirtualMachineSummary{
		OverallStatus: "green", Storage: &types.VirtualMachineStorageSummary{Committed: 1},
		Runtime: types.VirtualMachineRuntimeInfo{MaxCpuUsage: 5, PowerState: "poweredOn"},
	}
	got := e.audible("VirtualMachine", "summary", summary).(*types.VirtualMachineSummary)
	if got.Storage != nil || got.OverallStatus != "" || got.Runtime.MaxCpuUsage != 0 || got.Runtime.PowerState != "poweredOn" {
		t.Errorf("%+v", got)
	}
	if summary.Storage == nil || summary.Runtime.MaxCpuUsage != 5 {
		t.Error("the value itself was changed")
	}
}
