// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

type ref = types.ManagedObjectReference

// change is what is to be told about one object. Values are read when it is told, so that changes that follow each other
// become one.
type change struct {
	kind  types.ObjectUpdateKind
	paths []string // of a modify, in the order in which they changed
}

// pending are the changes that a client has not been told, in order.
type pending struct {
	order   []ref
	changes map[ref]*change
}

func (p *pending) empty() bool { return len(p.changes) == 0 }

func (p *pending) add(obj ref, kind types.ObjectUpdateKind, paths ...string) {
	if p.changes == nil {
		p.changes = make(map[ref]*change)
	}
	known := p.changes[obj]
	if known == nil {
		p.changes[obj] = &change{kind: kind, paths: slices.Clone(paths)}
		p.order = append(p.order, obj)
		return
	}
	switch {
	case kind == types.ObjectUpdateKindLeave && known.kind == types.ObjectUpdateKindEnter:
		delete(p.changes, obj) // never told: nothing to take back; the place in the order is skipped
	case kind == types.ObjectUpdateKindLeave:
		known.kind, known.paths = kind, nil
	case kind == types.ObjectUpdateKindEnter: // it was told, left and is back: all of it may have changed
		known.kind, known.paths = types.ObjectUpdateKindModify, []string{everything}
	case known.kind == types.ObjectUpdateKindModify:
		for _, path := range paths {
			if !slices.Contains(known.paths, path) {
				known.paths = append(known.paths, path)
			}
		}
	}
}

// take removes and returns the first change.
func (p *pending) take() (ref, *change) {
	for len(p.order) > 0 {
		obj := p.order[0]
		p.order = p.order[1:]
		if found := p.changes[obj]; found != nil {
			delete(p.changes, obj)
			return obj, found
		}
	}
	p.order = nil
	return ref{}, nil
}
