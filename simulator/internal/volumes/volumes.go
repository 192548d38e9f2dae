// SPDX-License-Identifier: Apache-2.0

// Package volumes makes, grows, unmounts and destroys datastores.
package volumes

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/inventory"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/reply"
	"vcenter-sim/internal/storage"
)

// Feature is HostDatastoreSystem's making and removing of datastores, Datastore.DestroyDatastore and Destroy_Task, the flags
// -disk and -nfs, and the control endpoint /disks.
var Feature = core.Feature{Name: "volumes", Flags: flags, Start: start}

// wanted are the sizes in bytes of -disk.
var wanted []int64

func flags(set *flag.FlagSet) {
	set.Func("disk", "let the hosts of each datacenter see an unused disk of `SIZE` (as 100GiB) for VMFS; repeatable",
		func(text string) error {
			bytes, err := inventory.ParseSize(text)
			wanted = append(wanted, bytes)
			return err
		})
	set.Func("nfs", "mount an NFS export on all hosts of all datacenters, as `NAME` or NAME=SIZE (default 1TiB): one storage, which "+
		"is a datastore in each; repeatable", func(text string) error {
		name, size, sized := strings.Cut(text, "=")
		bytes, err := int64(exportBytes), error(nil)
		if sized {
			bytes, err = inventory.ParseSize(size)
		}
		if err == nil && name == "" {
			err = errors.New("give NAME or NAME=SIZE, as shared=10TiB")
		}
		exports = append(exports, export{name, bytes})
		return err
	})
}

// export is one value of -nfs.
type export struct {
	name  string
	bytes int64
}

var exports []export

type feature struct {
	sim    *core.Sim
	disks  *disks
	adding sync.Mutex // one datastore is made after the other: each locks one host after the other
}

func start(s *core.Sim) error {
	f := &feature{sim: s, disks: &disks{}}
	f.keep(s)
	ctx := s.Context()
	for _, entity := range ctx.Map.All("Datacenter") {
		datacenter := entity.(*simulator.Datacenter)
		for _, datastore := range places.Datastores(ctx, datacenter) {
			if info, ok := datastore.Info.(*types.VmfsDatastoreInfo); ok && info.Vmfs != nil && len(info.Vmfs.Extent) > 0 {
				f.disks.adopt(datacenter.Self, datastore, info.Vmfs.Extent[0].DiskName)
			}
		}
		for _, bytes := range wanted {
			f.disks.add(datacenter.Self, bytes)
		}
	}
	if !s.Settings.Restored {
		if err := f.everywhere(ctx); err != nil {
			return err
		}
	}
	f.vmfs(s)
	f.expand(s)
	f.shared(s)
	f.remove(s)
	f.control(s)
	return nil
}

// space is what keeps the figures of datastores, or nil.
func (f *feature) space() *storage.Store { return storage.Of(f.sim) }

// control adds disks, and lets those below datastores grow.
//
//	POST /disks {"size": "500GiB"}                         a new disk in each datacenter
//	POST /disks {"size": "500GiB", "datacenter": NAME}     in that one
//	POST /disks {"size": "2TiB", "datastore": NAME}        that datastore's disk gets that size
func (f *feature) control(s *core.Sim) {
	s.Control.HandleFunc("POST /disks", func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Size, Datacenter, Datastore string }
		if reply.Read(w, r, &request) {
			reply.Result(w, nil, f.resize(request.Size, request.Datacenter, request.Datastore))
		}
	})
}

func (f *feature) resize(text, datacenterName, datastoreName string) error {
	bytes, err := inventory.ParseSize(text)
	if err != nil {
		return err
	}
	ctx := f.sim.Context()
	if datastoreName != "" {
		datastore := places.Datastore(ctx, nil, datastoreName)
		if datastore == nil || f.disks.of(datastore.Self) == nil {
			return fmt.Errorf("there is no VMFS datastore %q", datastoreName)
		}
		below := f.disks.of(datastore.Self)
		if bytes < below.bytes {
			return fmt.Errorf("a disk does not shrink: that of %q has %d bytes", datastoreName, below.bytes)
		}
		f.disks.Lock()
		below.bytes = bytes
		f.disks.Unlock()
		return nil
	}
	found := false
	for _, entity := range ctx.Map.All("Datacenter") {
		if datacenterName == "" || entity.Entity().Name == datacenterName {
			f.disks.add(entity.Reference(), bytes)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("there is no datacenter %q", datacenterName)
	}
	return nil
}
