// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"reflect"
	"strings"
	"sync"

	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/collector"
)

// silentProperties are those of which the API's reference says that servers after vSphere API 5.0 might not generate property
// collector update notifications, and the statistics, which "do not support notification". A client sees their values when
// it retrieves them, when a filter first tells an object, and beside another change of the data object that they are in.
var silentProperties = map[string][]string{
	"ManagedEntity": {
		"overallStatus", "configStatus", "disabledMethod", "recentTask", "triggeredAlarmState",
	},
	"TaskManager": {"recentTask"},
	"VirtualMachine": {
		"layoutEx", "storage", "summary.storage", "summary.overallStatus", "summary.quickStats", "config.datastoreUrl",
		"runtime.device", "runtime.maxCpuUsage", "runtime.maxMemoryUsage", "summary.runtime.device",
		"summary.runtime.maxCpuUsage", "summary.runtime.maxMemoryUsage",
	},
	"HostSystem": {
		"configManager", "summary.overallStatus", "summary.quickStats", "capability.ftSupported",
	},
	"ResourcePool":             {"summary", "runtime"},
	"ComputeResource":          {"summary.overallStatus"},
	"DistributedVirtualSwitch": {"summary.vm"},
}

var silentOfKind sync.Map // name of a type -> []string

// silents are the silent properties of a type and of those that it is derived from.
func silents(kind string) []string {
	if known, ok := silentOfKind.Load(kind); ok {
		return known.([]string)
	}
	var paths []string
	if goType, ok := collector.ManagedType(kind); ok {
		for declaring, properties := range silentProperties {
			if collector.IsA(kind, goType, declaring) {
				paths = append(paths, properties...)
			}
		}
	}
	silentOfKind.Store(kind, paths)
	return paths
}

// silent reports whether a property, or the one of which it is a part, gives no notice of its changes.
func (e *engine) silent(kind, name string) bool {
	if e.tellsAll || name == everything {
		return false
	}
	plain := plainPath(name)
	for _, path := range silents(kind) {
		if plain == path || strings.HasPrefix(plain, path+".") {
			return true
		}
	}
	return false
}

// audible is a property's value without its silent parts: what a change is judged by.
func (e *engine) audible(kind, name string, value types.AnyType) types.AnyType {
	if e.tellsAll || value == nil {
		return value
	}
	var parts []string
	for _, path := range silents(kind) {
		if part, is := strings.CutPrefix(path, name+"."); is {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return value
	}
	whole := reflect.ValueOf(value)
	if whole.Kind() == reflect.Pointer {
		whole = whole.Elem()
	}
	if whole.Kind() != reflect.Struct {
		return value
	}
	copied := reflect.New(whole.Type())
	copied.Elem().Set(whole)
	for _, part := range parts {
		clear(copied.Elem(), strings.Split(part, "."))
	}
	return copied.Interface()
}

// clear empties a part of a value. What it changes on the way it copies first.
func clear(value reflect.Value, path []string) {
	field := value.FieldByName(strings.ToUpper(path[0][:1]) + path[0][1:])
	switch {
	case !field.IsValid():
	case len(path) == 1:
		field.SetZero()
	case field.Kind() == reflect.Struct:
		clear(field, path[1:])
	case field.Kind() == reflect.Pointer && !field.IsNil() && field.Elem().Kind() == reflect.Struct:
		copied := reflect.New(field.Type().Elem())
		copied.Elem().Set(field.Elem())
		field.Set(copied)
		clear(copied.Elem(), path[1:])
	}
}
