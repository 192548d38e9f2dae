// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/places"
)

// place is a file on a datastore.
type place struct {
	ds *simulator.Datastore
	// file is the path below the datastore's folder.
	file string
}

// String is the path as the API writes it: "[LocalDS_0] folder/file".
func (p place) String() string {
	return (&object.DatastorePath{Datastore: places.Name(p.ds), Path: p.file}).String()
}

// local is the path at which the file lies here.
func (p place) local() string { return path.Join(Dir(p.ds), p.file) }

func (p place) dir() place { return place{p.ds, path.Dir(p.file)} }

func (p place) join(name string) place { return place{p.ds, path.Join(p.file, name)} }

func (p place) exists() bool {
	_, err := os.Lstat(p.local())
	return err == nil
}

// in a datacenter, finds what a path of the API means.
func parse(ctx *simulator.Context, dc *simulator.Datacenter, text string) (place, types.BaseMethodFault) {
	var p object.DatastorePath
	if !p.FromString(text) {
		return place{}, &types.InvalidDatastorePath{
			InvalidDatastore: types.InvalidDatastore{}, DatastorePath: text}
	}
	if escapes(p.Path) {
		return place{}, &types.InvalidDatastorePath{DatastorePath: text}
	}
	ds := datastoreNamed(ctx, dc, p.Datastore)
	if ds == nil {
		return place{}, &types.InvalidDatastore{Name: p.Datastore}
	}
	return place{ds, strings.TrimPrefix(path.Clean("/"+p.Path), "/")}, nil
}

// escapes reports whether a path leads out of its datastore.
func escapes(name string) bool {
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "..":
			if depth--; depth < 0 {
				return true
			}
		case "", ".":
		default:
			depth++
		}
	}
	return false
}

func datastoreNamed(ctx *simulator.Context, dc *simulator.Datacenter, name string) (found *simulator.Datastore) {
	if dc == nil {
		return nil
	}
	ctx.WithLock(dc, func() {
		for _, ref := range dc.Datastore {
			if ds, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok && places.Name(ds) == name {
				found = ds
				return
			}
		}
	})
	return found
}

// datacenterArgument is the datacenter of a request; without one, the only one there is.
func datacenterArgument(ctx *simulator.Context, ref *types.ManagedObjectReference) (*simulator.Datacenter, types.BaseMethodFault) {
	if ref == nil {
		if all := ctx.Map.All("Datacenter"); len(all) == 1 {
			return all[0].(*simulator.Datacenter), nil
		}
		return nil, &types.InvalidArgument{InvalidProperty: "datacenter"}
	}
	if dc, ok := ctx.Map.Get(*ref).(*simulator.Datacenter); ok {
		return dc, nil
	}
	return nil, &types.ManagedObjectNotFound{Obj: *ref}
}

// datacenterOf finds the datacenter that an object is in, or nil.
func datacenterOf(ctx *simulator.Context, ref types.ManagedObjectReference) *simulator.Datacenter {
	for range 64 {
		obj := ctx.Map.Get(ref)
		if dc, ok := obj.(*simulator.Datacenter); ok {
			return dc
		}
		entity, ok := obj.(mo.Entity)
		if !ok || entity.Entity().Parent == nil {
			return nil
		}
		ref = *entity.Entity().Parent
	}
	return nil
}

// placeOf finds the datastore of a local path.
func (s *Store) placeOf(ctx *simulator.Context, local string) (place, bool) {
	return s.placeNear(ctx, local, nil)
}

// placeNear finds the datastore of a local path; of several that are the same volume, that of the datacenter in which another one
// is.
func (s *Store) placeNear(ctx *simulator.Context, local string, near *simulator.Datastore) (place, bool) {
	if near != nil && isBelow(local, Dir(near)) {
		return place{near, local[len(Dir(near))+1:]}, true
	}
	for dir := path.Dir(local); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if ds := s.datastoreAt(ctx, dir, near); ds != nil {
			return place{ds, local[len(dir)+1:]}, true
		}
	}
	return place{}, false
}

// datastoreAt finds the datastore whose folder that is, or nil.
func (s *Store) datastoreAt(ctx *simulator.Context, dir string, near *simulator.Datastore) (found *simulator.Datastore) {
	s.lock.Lock()
	refs := slices.Clone(s.mounted[dir])
	s.lock.Unlock()
	for _, ref := range refs {
		ds, ok := ctx.Map.Get(ref).(*simulator.Datastore)
		if !ok || Dir(ds) != dir {
			continue
		}
		if near == nil || len(refs) == 1 || datacenterOf(ctx, ref) == datacenterOf(ctx, near.Self) {
			return ds
		}
		found = ds
	}
	if found != nil || path.Base(path.Dir(dir)) != "volumes" {
		return found
	}
	for _, entity := range ctx.Map.All("Datastore") {
		if ds := entity.(*simulator.Datastore); Dir(ds) == dir {
			return ds
		}
	}
	return nil
}
