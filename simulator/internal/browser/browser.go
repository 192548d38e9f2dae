// SPDX-License-Identifier: Apache-2.0

// Package browser is HostDatastoreBrowser: it lists the files of a datastore, with the sizes that they take there.
package browser

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/mounts"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/storage"
)

// Feature is HostDatastoreBrowser.SearchDatastore_Task and SearchDatastoreSubFolders_Task.
var Feature = core.Feature{Name: "datastore browser", Start: start}

func start(s *core.Sim) error {
	core.Override(s, func(ctx *simulator.Context, req *types.SearchDatastore_Task, _ core.Next) soap.HasFault {
		task := run(ctx, req.This, "SearchDatastore_Task", req.DatastorePath, req.SearchSpec, false)
		return &methods.SearchDatastore_TaskBody{Res: &types.SearchDatastore_TaskResponse{Returnval: task}}
	})
	core.Override(s, func(ctx *simulator.Context, req *types.SearchDatastoreSubFolders_Task, _ core.Next) soap.HasFault {
		task := run(ctx, req.This, "SearchDatastoreSubFolders_Task", req.DatastorePath, req.SearchSpec, true)
		return &methods.SearchDatastoreSubFolders_TaskBody{
			Res: &types.SearchDatastoreSubFolders_TaskResponse{Returnval: task}}
	})
	return nil
}

// search is one search. Without a specification it finds all files, and tells their paths only, as the API documents.
type search struct {
	datastore *simulator.Datastore
	spec      types.HostDatastoreBrowserSearchSpec
	recurse   bool
	results   []types.HostDatastoreBrowserSearchResults
}

// run starts the task, which is one of the datastore.
func run(ctx *simulator.Context, this types.ManagedObjectReference, name, where string,
	spec *types.HostDatastoreBrowserSearchSpec, recurse bool) types.ManagedObjectReference {
	datastore := owner(ctx, this)
	if datastore == nil { // a browser of something else than a datastore
		datastore = anyNamed(ctx, this, where)
	}
	entity := ctx.Map.Any("Datacenter").Reference()
	if datastore != nil {
		entity = datastore.Self
	}
	return core.StartTask(ctx, entity, name, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		s := &search{datastore: datastore, recurse: recurse}
		if spec != nil {
			s.spec = *spec
		}
		if fault := s.start(ctx, where); fault != nil {
			return nil, fault
		}
		if recurse {
			return types.ArrayOfHostDatastoreBrowserSearchResults{HostDatastoreBrowserSearchResults: s.results}, nil
		}
		return s.results[0], nil
	})
}

// owner is the datastore that a browser belongs to, or nil.
func owner(ctx *simulator.Context, browser types.ManagedObjectReference) *simulator.Datastore {
	for _, datastore := range places.Datastores(ctx, nil) {
		if datastore.Browser == browser {
			return datastore
		}
	}
	return nil
}

func anyNamed(ctx *simulator.Context, browser types.ManagedObjectReference, where string) *simulator.Datastore {
	var parsed object.DatastorePath
	object, ok := ctx.Map.Get(browser).(*simulator.HostDatastoreBrowser)
	if !parsed.FromString(where) || !ok {
		return nil
	}
	found, _ := ctx.Map.FindByName(parsed.Datastore, object.Datastore).(*simulator.Datastore)
	return found
}

func (s *search) start(ctx *simulator.Context, where string) types.BaseMethodFault {
	var parsed object.DatastorePath
	if !parsed.FromString(where) || slices.Contains(strings.Split(parsed.Path, "/"), "..") {
		return &types.InvalidDatastorePath{DatastorePath: where}
	}
	if s.datastore == nil || places.Name(s.datastore) != parsed.Datastore {
		return &types.InvalidDatastore{Name: parsed.Datastore}
	}
	var list []types.DatastoreHostMount
	ctx.WithLock(s.datastore, func() { list = slices.Clone(s.datastore.Host) })
	if !slices.ContainsFunc(list, func(mount types.DatastoreHostMount) bool { return mounts.Serves(ctx, mount) }) {
		return &types.InaccessibleDatastore{
			InvalidDatastore: types.InvalidDatastore{Datastore: &s.datastore.Self, Name: places.Name(s.datastore)}}
	}
	dir := path.Join(storage.Dir(s.datastore), parsed.Path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return &types.FileNotFound{FileFault: types.FileFault{File: where}}
	}
	s.folder(where, dir)
	return nil
}

// folder lists a folder, and then those in it.
func (s *search) folder(where, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // gone meanwhile
	}
	if isTrue(s.spec.SortFoldersFirst) {
		slices.SortStableFunc(entries, func(a, b fs.DirEntry) int {
			switch {
			case a.IsDir() == b.IsDir():
				return 0
			case a.IsDir():
				return -1
			}
			return 1
		})
	}
	result := types.HostDatastoreBrowserSearchResults{Datastore: &s.datastore.Self, FolderPath: where}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && s.named(entry.Name()) {
			if file := s.describe(path.Join(dir, entry.Name()), info); file != nil {
				result.File = append(result.File, file)
			}
		}
	}
	s.results = append(s.results, result)
	for _, entry := range entries {
		if s.recurse && entry.IsDir() {
			s.folder(joined(where, entry.Name()), path.Join(dir, entry.Name()))
		}
	}
}

func joined(where, name string) string {
	if strings.HasSuffix(where, "]") {
		return where + " " + name
	}
	return strings.TrimSuffix(where, "/") + "/" + name
}

// named reports whether a name fits one of the patterns, in which only * and ? stand for others.
func (s *search) named(name string) bool {
	if len(s.spec.MatchPattern) == 0 {
		return true
	}
	return slices.ContainsFunc(s.spec.MatchPattern, func(pattern string) bool {
		if isTrue(s.spec.SearchCaseInsensitive) {
			pattern, name = strings.ToLower(pattern), strings.ToLower(name)
		}
		pattern = strings.NewReplacer(`\`, `\\`, "[", `\[`).Replace(pattern)
		fits, _ := path.Match(pattern, name)
		return fits
	})
}

func isTrue(flag *bool) bool { return flag != nil && *flag }
