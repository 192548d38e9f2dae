// SPDX-License-Identifier: Apache-2.0

package privileges

import "sync"

// answers keeps what was found out, until something changes that it may depend on.
type answers struct {
	lock  sync.RWMutex
	known map[question]below
	free  map[string]bool
	epoch int // how often all was forgotten
}

type question struct {
	user   string
	object ref
}

// below are the roles that an object gives to what is below it, and whether it gives any.
type below struct {
	roles []*role
	any   bool
}

// forget is called after each change of users, roles, permissions, or of the place of an object in the inventory.
func (a *answers) forget() {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.known, a.free = make(map[question]below), make(map[string]bool)
	a.epoch++
}

// below answers from what is known, or finds out. It is kept if it may be, and if nothing changed meanwhile.
func (a *answers) below(user string, object ref, find func() (found below, keep bool)) below {
	asked := question{user, object}
	a.lock.RLock()
	found, known := a.known[asked]
	epoch := a.epoch
	a.lock.RUnlock()
	if known {
		return found
	}
	found, keep := find()
	a.lock.Lock()
	defer a.lock.Unlock()
	if keep && epoch == a.epoch {
		a.known[asked] = found
	}
	return found
}

// unlimited answers whether a user may do everything, from what is known, or finds out.
func (a *answers) unlimited(user string, find func() bool) bool {
	a.lock.RLock()
	free, known := a.free[user]
	epoch := a.epoch
	a.lock.RUnlock()
	if known {
		return free
	}
	free = find()
	a.lock.Lock()
	defer a.lock.Unlock()
	if epoch == a.epoch {
		a.free[user] = free
	}
	return free
}
