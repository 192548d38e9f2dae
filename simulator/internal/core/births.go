// SPDX-License-Identifier: Apache-2.0

package core

import (
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// births hears of objects that are put into the inventory. The library shows them to everybody first and fills them in
// afterwards, without a lock; those that are expected here are locked meanwhile.
type births struct {
	mo.SearchIndex // empty; see dispatcher

	lock     sync.Mutex
	expected map[*birth]bool
}

type birth struct {
	ctx    *simulator.Context
	is     func(mo.Reference) bool
	unlock []func()
}

var birthsRef = types.ManagedObjectReference{Type: "Births", Value: "births"}

func listenForBirths(registry *simulator.Registry) {
	b := &births{expected: make(map[*birth]bool)}
	b.Self = birthsRef
	registry.Put(b) // for Expect
	registry.AddHandler(b)
}

// Expect has the next object that is made, and about which is says true, locked for ctx from the moment when others can see
// it. The function returned, which is to be called in any case, unlocks it. While the first inventory is made, nobody sees it.
func Expect(ctx *simulator.Context, is func(mo.Reference) bool) (ready func()) {
	b, serving := ctx.Map.Get(birthsRef).(*births)
	if !serving {
		return func() {}
	}
	e := &birth{ctx: ctx, is: is}
	b.lock.Lock()
	b.expected[e] = true
	b.lock.Unlock()
	return func() {
		b.lock.Lock()
		delete(b.expected, e)
		unlock := e.unlock
		b.lock.Unlock()
		for _, f := range unlock {
			f()
		}
	}
}

// PutObject implements simulator.RegisterObject.
func (b *births) PutObject(ctx *simulator.Context, obj mo.Reference) {
	b.lock.Lock()
	var found *birth
	for e := range b.expected {
		if e.unlock == nil && e.is(obj) {
			found = e
			break
		}
	}
	b.lock.Unlock()
	if found == nil {
		return
	}
	unlock := ctx.Map.AcquireLock(found.ctx, obj)
	b.lock.Lock()
	found.unlock = append(found.unlock, unlock)
	b.lock.Unlock()
}

// UpdateObject implements simulator.RegisterObject.
func (*births) UpdateObject(*simulator.Context, mo.Reference, []types.PropertyChange) {}

// RemoveObject implements simulator.RegisterObject.
func (*births) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}
