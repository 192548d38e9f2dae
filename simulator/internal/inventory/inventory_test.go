// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"100GiB": 100 << 30, "1.5TiB": 3 << 39, "512MB": 512 << 20, "2T": 2 << 40, "1073741824": 1 << 30, " 1 GiB ": 1 << 30,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "GiB", "-1GiB", "1 parsec", "0", "1KiB", "9999999PiB", "1e3GiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

func TestCheckNamesTheFlagAndTheRemedy(t *testing.T) {
	for _, test := range []struct {
		change func(*Options)
		words  string
	}{
		{func(o *Options) { o.APIVersion = "8" }, "-api-version 8.0.3.0"},
		{func(o *Options) { o.Clusters, o.StandaloneHosts = 0, 0 }, "-cluster -standalone-host"},
		{func(o *Options) { o.CapacityOf["LocalDS_1"] = 1 << 30 }, "-ds-capacity LocalDS_1 LocalDS_0"},
		{func(o *Options) { o.CapacityOf["LocalDS_01"] = 1 << 30 }, "LocalDS_01"},
	} {
		options := Defaults()
		test.change(&options)
		err := options.Check()
		if err == nil {
			t.Errorf("%s: nothing is said", test.words)
			continue
		}
		for word := range strings.FieldsSeq(test.words) {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q lacks %q", err, word)
			}
		}
	}
}

func TestMountRule(t *testing.T) {
	host := func() *simulator.HostSystem { return &simulator.HostSystem{} }
	groups := [][]*simulator.HostSystem{{host()}, {host(), host(), host()}}
	options := Defaults()
	for index, want := range []int{4, 4, 4, 3, 2, 4, 4, 4, 1, 2} {
		if got := len(options.mountedOn(index, groups)); got != want {
			t.Errorf("datastore %d is mounted on %d hosts, not %d", index, got, want)
		}
	}
	one := [][]*simulator.HostSystem{{host()}}
	for index := range 10 {
		if len(options.mountedOn(index, one)) != 1 {
			t.Errorf("datastore %d is not mounted on the only host", index)
		}
	}
	options.MountEverywhere = true
	for index := range 10 {
		if len(options.mountedOn(index, groups)) != 4 {
			t.Errorf("datastore %d is not mounted everywhere", index)
		}
	}
	options.MountByCluster = true
	for index := range 10 {
		if got := options.mountedOn(index, groups); len(got) != len(groups[index%len(groups)]) || got[0] != groups[index%len(groups)][0] {
			t.Errorf("datastore %d is not mounted by one cluster", index)
		}
	}
}
