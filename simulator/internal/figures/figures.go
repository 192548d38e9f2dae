// SPDX-License-Identifier: Apache-2.0

// Package figures tells other features when what datastores say about themselves has changed.
package figures

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Watch has f called with each datastore that there is, and from then on, soon after it happened, with each whose summary,
// name or parent has changed, that was added, or that is gone (ctx.Map.Get finds it no more). The calls come one after the
// other and hold no locks; changes that come fast are told once, as they were at last.
func Watch(s *core.Sim, f func(ctx *simulator.Context, datastore types.ManagedObjectReference)) {
	l := &listener{changed: make(map[types.ManagedObjectReference]bool), wake: make(chan struct{}, 1)}
	l.Self = types.ManagedObjectReference{Type: "DatastoreListener", Value: nextName()}
	for _, entity := range s.Map().All("Datastore") {
		l.note(entity.Reference())
	}
	s.Map().AddHandler(l)
	stop := make(chan struct{})
	s.OnStop(func() { close(stop) })
	ctx := s.Context()
	go func() {
		select {
		case <-stop:
			return
		case <-s.Serving():
		}
		for {
			select {
			case <-stop:
				return
			case <-l.wake:
			}
			for ref := range l.take() {
				f(core.NewContext(ctx), ref)
			}
		}
	}()
}

var names atomic.Int64

func nextName() string { return fmt.Sprintf("datastores-%d", names.Add(1)) }

// listener is one of the registry's.
type listener struct {
	mo.Folder // only its Self is used: the registry knows its listeners by reference

	lock    sync.Mutex
	changed map[types.ManagedObjectReference]bool
	wake    chan struct{}
}

func (l *listener) note(ref types.ManagedObjectReference) {
	l.lock.Lock()
	l.changed[ref] = true
	l.lock.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *listener) take() map[types.ManagedObjectReference]bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	taken := l.changed
	l.changed = make(map[types.ManagedObjectReference]bool)
	return taken
}

// PutObject implements simulator.RegisterObject.
func (l *listener) PutObject(_ *simulator.Context, obj mo.Reference) {
	if datastore, ok := obj.(*simulator.Datastore); ok {
		l.note(datastore.Self)
	}
}

// UpdateObject implements simulator.RegisterObject.
func (l *listener) UpdateObject(_ *simulator.Context, obj mo.Reference, changes []types.PropertyChange) {
	datastore, ok := obj.(*mo.Datastore)
	if !ok {
		return
	}
	for _, change := range changes {
		if change.Name == "name" || change.Name == "parent" || strings.HasPrefix(change.Name, "summary") {
			l.note(datastore.Self)
			return
		}
	}
}

// RemoveObject implements simulator.RegisterObject.
func (l *listener) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) {
	if ref.Type == "Datastore" {
		l.note(ref)
	}
}
