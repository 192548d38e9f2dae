// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"
	"sync"

	"github.com/vmware/govmomi/vim25/types"
)

// positions remembers where machines stand in the lists of the datastores, hosts and pools on which they are. A datastore may have
// tens of thousands of machines, and each operation asks whether it lists one of them. The library changes these lists as well,
// so a position counts only if the machine still stands there.
var positions = &listPositions{at: make(map[listed]int)}

type listed struct{ list, ref types.ManagedObjectReference }

type listPositions struct {
	lock sync.Mutex
	at   map[listed]int
}

// contains tells whether an object's list has a reference. The object is locked.
func (p *listPositions) contains(
	of types.ManagedObjectReference, list []types.ManagedObjectReference, ref types.ManagedObjectReference,
) bool {
	key := listed{of, ref}
	p.lock.Lock()
	at, known := p.at[key]
	p.lock.Unlock()
	at = min(at, len(list)-1)
	for known && at >= 0 && list[at] != ref { // others before it were taken out
		at--
	}
	if !known || at < 0 {
		at = slices.Index(list, ref)
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	if at < 0 {
		delete(p.at, key)
		return false
	}
	p.at[key] = at
	return true
}

// forget drops what is known about a reference that is taken out of a list.
func (p *listPositions) forget(of, ref types.ManagedObjectReference) {
	p.lock.Lock()
	delete(p.at, listed{of, ref})
	p.lock.Unlock()
}

// learn notes all positions in an object's list, which is cheaper than to look for each.
func (p *listPositions) learn(of types.ManagedObjectReference, list []types.ManagedObjectReference) {
	p.lock.Lock()
	defer p.lock.Unlock()
	for at, ref := range list {
		p.at[listed{of, ref}] = at
	}
}
