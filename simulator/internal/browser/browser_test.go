// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestPatterns(t *testing.T) {
	for _, each := range []struct {
		patterns    []string
		insensitive bool
		name        string
		want        bool
	}{
		{nil, false, "any", true},
		{[]string{"*.vmdk"}, false, "a.vmdk", true},
		{[]string{"*.VMDK"}, false, "a.vmdk", false},
		{[]string{"*.VMDK"}, true, "a.vmdk", true},
		{[]string{"a?"}, false, "ab", true},
		{[]string{"[ab]"}, false, "a", false},
		{[]string{"[ab]*"}, false, "[ab]c", true},
		{[]string{"x", "y"}, false, "y", true},
	} {
		s := &search{spec: types.HostDatastoreBrowserSearchSpec{
			MatchPattern: each.patterns, SearchCaseInsensitive: types.NewBool(each.insensitive)}}
		if got := s.named(each.name); got != each.want {
			t.Errorf("%q with %q: %v", each.name, each.patterns, got)
		}
	}
}

func TestFoldersAreJoined(t *testing.T) {
	for where, want := range map[string]string{
		"[ds]": "[ds] x", "[ds] a": "[ds] a/x", "[ds] a/": "[ds] a/x",
	} {
		if got := joined(where, "x"); got != want {
			t.Errorf("%q and x make %q", where, got)
		}
	}
}
