// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"slices"
	"testing"
)

func TestReportedPaths(t *testing.T) {
	for _, c := range []struct {
		name    string
		wanted  wanted
		change  string
		partial bool
		want    []string
	}{
		{"the same", wanted{paths: []string{"name"}}, "name", false, []string{"name"}},
		{"another one", wanted{paths: []string{"name"}}, "names", false, nil},
		{"a beginning of the name is not a part", wanted{paths: []string{"summary.free"}}, "summary.freeSpace", false, nil},
		{"a part as the whole", wanted{paths: []string{"summary"}}, "summary.freeSpace", false, []string{"summary"}},
		{"a part by itself", wanted{paths: []string{"summary"}}, "summary.freeSpace", true, []string{"summary.freeSpace"}},
		{"the whole by its parts", wanted{paths: []string{"summary.name", "name"}}, "summary", false, []string{"summary.name"}},
		{"an element as the array", wanted{paths: []string{"config.hardware.device"}}, "config.hardware.device[4000]", true,
			[]string{"config.hardware.device"}},
		{"all, by the property", wanted{all: true}, "info.state", false, []string{"info"}},
		{"all, by the part", wanted{all: true}, "info.state", true, []string{"info.state"}},
		{"everything, of some", wanted{paths: []string{"a", "b"}}, everything, false, []string{"a", "b"}},
	} {
		if got := c.wanted.reported(c.change, c.partial); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
