// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

const (
	enter  = types.ObjectUpdateKindEnter
	modify = types.ObjectUpdateKindModify
	leave  = types.ObjectUpdateKindLeave
)

func TestChangesThatFollowEachOtherBecomeOne(t *testing.T) {
	vm := ref{Type: "VirtualMachine", Value: "vm-1"}
	for _, c := range []struct {
		name  string
		kinds []types.ObjectUpdateKind
		want  types.ObjectUpdateKind
		paths []string
	}{
		{"enter, modify", []types.ObjectUpdateKind{enter, modify}, enter, nil},
		{"modify, modify", []types.ObjectUpdateKind{modify, modify}, modify, []string{"name"}},
		{"modify, leave", []types.ObjectUpdateKind{modify, leave}, leave, nil},
		{"enter, leave", []types.ObjectUpdateKind{enter, leave}, "", nil},
		{"leave, enter", []types.ObjectUpdateKind{leave, enter}, modify, []string{everything}},
	} {
		var p pending
		for _, kind := range c.kinds {
			if kind == modify {
				p.add(vm, kind, "name")
			} else {
				p.add(vm, kind)
			}
		}
		_, got := p.take()
		switch {
		case got == nil && c.want == "":
		case got == nil || got.kind != c.want || !slices.Equal(got.paths, c.paths):
			t.Errorf("%s: %+v, want %s %v", c.name, got, c.want, c.paths)
		}
		if !p.empty() {
			t.Errorf("%s: something is left", c.name)
		}
	}
}

func TestChangesKeepTheirOrder(t *testing.T) {
	var p pending
	for _, value := range []string{"a", "b", "c", "a"} {
		p.add(ref{Value: value}, modify, "name")
	}
	p.add(ref{Value: "b"}, leave)
	var got []string
	for !p.empty() {
		obj, _ := p.take()
		got = append(got, obj.Value)
	}
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Error(got)
	}
}
