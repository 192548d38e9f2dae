// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"sync"

	"github.com/vmware/govmomi/vim25/types"
)

// keyedLocks lets one operation at a time work on a thing, without holding the library's lock of the object: its properties
// can be read meanwhile.
type keyedLocks struct {
	lock sync.Mutex
	held map[string]*heldLock
}

type heldLock struct {
	sync.Mutex
	waiting int
}

// Lock waits for its turn at a key and returns what ends the turn.
func (k *keyedLocks) Lock(key string) func() {
	k.lock.Lock()
	if k.held == nil {
		k.held = make(map[string]*heldLock)
	}
	h := k.held[key]
	if h == nil {
		h = new(heldLock)
		k.held[key] = h
	}
	h.waiting++
	k.lock.Unlock()
	h.Lock()
	return func() {
		h.Unlock()
		k.lock.Lock()
		if h.waiting--; h.waiting == 0 {
			delete(k.held, key)
		}
		k.lock.Unlock()
	}
}

// workOn has operations on a virtual machine follow each other.
func (s *Store) workOn(vm types.ManagedObjectReference) func() { return s.working.Lock(vm.Value) }

// claim takes a name that is about to be used, so that of two who want it one gets DuplicateName.
func (s *Store) claim(name string) (release func(), ok bool) {
	s.claimsLock.Lock()
	defer s.claimsLock.Unlock()
	if s.claims[name] {
		return func() {}, false
	}
	s.claims[name] = true
	return func() {
		s.claimsLock.Lock()
		delete(s.claims, name)
		s.claimsLock.Unlock()
	}, true
}
