// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// A datastore's summary lags behind its files: the server refreshes freeSpace and uncommitted "periodically", and when it is asked
// to. What fits is decided by the files.

// overrideDatastores has datastores keep their figures.
func (s *Store) overrideDatastores() {
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RefreshDatastore, next core.Next) soap.HasFault {
		ds, ok := ctx.Map.Get(req.This).(*simulator.Datastore)
		if !ok {
			return next()
		}
		s.Touch(ctx, ds, Dir(ds))
		s.publish(ctx, ds, false)
		return &methods.RefreshDatastoreBody{Res: &types.RefreshDatastoreResponse{}}
	})
	core.Override(s.sim, func(ctx *simulator.Context, req *types.RefreshDatastoreStorageInfo, _ core.Next) soap.HasFault {
		if ds, ok := ctx.Map.Get(req.This).(*simulator.Datastore); ok {
			s.Touch(ctx, ds, Dir(ds))
			s.Publish(ctx, ds)
		}
		return &methods.RefreshDatastoreStorageInfoBody{Res: &types.RefreshDatastoreStorageInfoResponse{}}
	})
	if s.lags() {
		s.refreshPeriodically()
	}
}

func (s *Store) lags() bool { return !s.sim.Lenient("lagging-figures") }

// Changed is called when the files of a datastore have changed, or may have: its properties say so, unless they lag.
func (s *Store) Changed(ctx *simulator.Context, ds *simulator.Datastore) {
	if !s.lags() {
		s.Publish(ctx, ds)
	}
}

// refreshPeriodically lets all datastores say what is free, every now and then.
func (s *Store) refreshPeriodically() {
	stop := make(chan struct{})
	s.sim.OnStop(func() { close(stop) })
	ctx := s.sim.Context()
	go func() {
		select {
		case <-stop:
			return
		case <-s.sim.Serving():
		}
		ticker := time.NewTicker(settings.figuresRefresh)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			for _, entity := range ctx.Map.All("Datastore") {
				s.Publish(core.NewContext(ctx), entity.(*simulator.Datastore))
			}
		}
	}()
}

// Publish lets the datastore's properties say what is free, if that has changed; and those of others that are the same volume.
func (s *Store) Publish(ctx *simulator.Context, ds *simulator.Datastore) { s.publish(ctx, ds, true) }

func (s *Store) publish(ctx *simulator.Context, ds *simulator.Datastore, uncommitted bool) {
	dir := Dir(ds)
	for _, ref := range s.mount(ds) {
		if each, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok && Dir(each) == dir {
			s.publishOne(ctx, each, uncommitted)
		}
	}
}

// mount notes whose folder is whose, and returns all datastores that have this one's.
func (s *Store) mount(ds *simulator.Datastore) []types.ManagedObjectReference {
	dir := Dir(ds)
	s.lock.Lock()
	defer s.lock.Unlock()
	if !slices.Contains(s.mounted[dir], ds.Self) {
		s.mounted[dir] = append(s.mounted[dir], ds.Self)
	}
	return slices.Clone(s.mounted[dir])
}

func (s *Store) publishOne(ctx *simulator.Context, ds *simulator.Datastore, all bool) {
	ctx.WithLock(ds, func() {
		s.lock.Lock()
		v := s.volume(Dir(ds))
		free, uncommitted := ds.Summary.Capacity-v.used, v.uncommitted
		s.lock.Unlock()
		if !all {
			uncommitted = ds.Summary.Uncommitted
		}
		info := ds.Info.GetDatastoreInfo()
		if ds.Summary.FreeSpace == free && ds.Summary.Uncommitted == uncommitted && info.FreeSpace == free {
			return
		}
		now := time.Now()
		fresh := deepCopy(ds.Info) // the one that is there may be on its way to a client
		fresh.GetDatastoreInfo().FreeSpace, fresh.GetDatastoreInfo().Timestamp = free, &now
		ctx.Update(ds, []types.PropertyChange{
			{Name: "summary.freeSpace", Val: free},
			{Name: "summary.uncommitted", Val: uncommitted},
			{Name: "info", Val: fresh},
		})
	})
}

// Space is what the files of a datastore say, beside what is known of them.
type Space struct {
	Datastore   string `json:"datastore"`
	Moref       string `json:"moref"`
	Capacity    int64  `json:"capacity_bytes"`
	FreeSpace   int64  `json:"free_bytes"`
	Uncommitted int64  `json:"uncommitted_bytes"`
	// FilesBytes is measured at the files, now.
	FilesBytes            int64 `json:"files_bytes"`
	FilesUncommittedBytes int64 `json:"files_uncommitted_bytes"`
	Files                 int   `json:"files"`
	Reserved              int64 `json:"reserved_bytes"`
	OK                    bool  `json:"ok"`
}

// Measure compares what is known of a datastore's files with the files, and the summary with both, unless it may lag.
func (s *Store) Measure(ctx *simulator.Context, ds *simulator.Datastore) Space {
	space := Space{Moref: ds.Self.Value}
	costs := measure(Dir(ds))
	var used, free, uncommitted int64
	s.lock.Lock()
	for _, cost := range costs {
		space.FilesBytes += cost.Used
		space.Files++
		if s.tops[cost.Disk] > 0 {
			space.FilesUncommittedBytes += cost.Uncommitted
		}
	}
	v := s.volume(Dir(ds))
	space.Reserved, used, space.Uncommitted = v.reservedBytes(), v.used, v.uncommitted
	s.lock.Unlock()
	ctx.WithLock(ds, func() {
		space.Datastore, space.Capacity = ds.Name, ds.Summary.Capacity
		free, uncommitted = ds.Summary.FreeSpace, ds.Summary.Uncommitted
	})
	space.FreeSpace = space.Capacity - used
	space.OK = used == space.FilesBytes && space.Uncommitted == space.FilesUncommittedBytes &&
		(s.lags() || free == space.FreeSpace && uncommitted == space.Uncommitted)
	return space
}

// Forget drops what is known about a datastore that is gone. The same volume may be another datastore, too.
func (s *Store) Forget(ds *simulator.Datastore) {
	dir := Dir(ds)
	s.lock.Lock()
	defer s.lock.Unlock()
	s.mounted[dir] = slices.DeleteFunc(s.mounted[dir], func(ref types.ManagedObjectReference) bool { return ref == ds.Self })
	if len(s.mounted[dir]) == 0 {
		delete(s.mounted, dir)
		delete(s.volumes, dir)
	}
}
