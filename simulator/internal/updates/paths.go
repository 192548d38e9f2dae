// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/collector"
)

// everything stands for all properties of an object.
const everything = ""

// wanted is what a filter asks of one type of object.
type wanted struct {
	any   bool // whether it asks for the type at all
	all   bool
	paths []string
}

func wantedOf(spec *types.PropertyFilterSpec, kind string, goType reflect.Type) wanted {
	var w wanted
	for _, set := range spec.PropSet {
		if collector.IsA(kind, goType, set.Type) {
			w.any = true
			w.all = w.all || isTrue(set.All)
			w.paths = append(w.paths, set.PathSet...)
		}
	}
	return w
}

// reported says under which paths a change is to be reported. With partial, a change below a path that was asked for is
// reported by itself, as PropertyCollector.CreateFilter documents partialUpdates.
func (w wanted) reported(change string, partial bool) []string {
	if change == everything {
		if w.all {
			return []string{everything}
		}
		return w.paths
	}
	if w.all {
		if partial && !strings.Contains(change, "[") {
			return []string{change}
		}
		top, _, _ := strings.Cut(plainPath(change), ".")
		return []string{top}
	}
	var found []string
	for _, path := range w.paths {
		switch {
		case plainPath(path) == plainPath(change) || below(path, change):
			found = append(found, path)
		case below(change, path) && partial && !strings.Contains(change, "["):
			found = append(found, change)
		case below(change, path):
			found = append(found, path)
		}
	}
	return found
}

// below reports whether path is a part of parent.
func below(path, parent string) bool {
	return strings.HasPrefix(plainPath(path), plainPath(parent)+".")
}

// related reports whether a change of one path changes the other.
func related(change, path string) bool {
	return change == everything || plainPath(change) == plainPath(path) || below(change, path) || below(path, change)
}

// plainPath drops the keys of arrays and what follows: config.hardware.device[4000].backing is config.hardware.device.
func plainPath(path string) string {
	if i := strings.IndexByte(path, '['); i >= 0 {
		return path[:i]
	}
	return path
}

func isTrue(flag *bool) bool { return flag != nil && *flag }
