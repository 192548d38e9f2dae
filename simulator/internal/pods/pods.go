// SPDX-License-Identifier: Apache-2.0

// Package pods is datastore clusters (StoragePod) and Storage DRS.
package pods

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/figures"
	"vcenter-sim/internal/maintenance"
	"vcenter-sim/internal/places"
)

// Feature is StoragePod, StorageResourceManager as far as it concerns pods, the flag -datastore-cluster, and the control
// endpoint /sdrs.
var Feature = core.Feature{Name: "datastore clusters", Flags: flags, Start: start}

const (
	manual    = string(types.StorageDrsPodConfigInfoBehaviorManual)
	automated = string(types.StorageDrsPodConfigInfoBehaviorAutomated)
	off       = "off"
)

// cluster is one value of -datastore-cluster.
type cluster struct {
	name, behavior string
	members        []string
}

var wanted []cluster

func flags(set *flag.FlagSet) {
	set.Func("datastore-cluster", "make a datastore cluster, as `NAME=DATASTORE,...[:manual|automated|off]`: how its "+
		"Storage DRS works (default manual); repeatable", func(text string) error {
		name, rest, ok := strings.Cut(text, "=")
		members, behavior, given := strings.Cut(rest, ":")
		if !given {
			behavior = manual
		}
		if !ok || name == "" || members == "" || !slices.Contains([]string{manual, automated, off}, behavior) {
			return fmt.Errorf("give NAME=DATASTORE,... as POD=LocalDS_0,LocalDS_1 and, if it is not to be manual, " +
				"POD=LocalDS_0,LocalDS_1:automated or :off")
		}
		wanted = append(wanted, cluster{name, behavior, strings.Split(members, ",")})
		return nil
	})
}

type feature struct {
	sim *core.Sim

	lock sync.Mutex
	// open are the recommendations that were made and not applied, by key.
	open map[string]*placement
	last int
}

func start(s *core.Sim) error {
	f := &feature{sim: s, open: make(map[string]*placement)}
	if s.Settings.Restored {
		wanted = nil
	}
	for _, each := range wanted {
		if err := f.make(s.Context(), each); err != nil {
			return fmt.Errorf("-datastore-cluster %s: %w", each.name, err)
		}
	}
	for _, entity := range s.Map().All("StoragePod") {
		pod := entity.(*simulator.StoragePod)
		if pod.PodStorageDrsEntry.StorageDrsConfig.PodConfig.DefaultVmBehavior == "" { // made by the flag -pod
			complete(pod)
		}
		refresh(s.Context(), pod)
	}
	f.inventory(s)
	f.configure(s)
	f.recommend(s)
	f.apply(s)
	f.control(s)
	maintenance.Evacuate = f.evacuate
	figures.Watch(s, func(ctx *simulator.Context, ref types.ManagedObjectReference) {
		datastore, ok := ctx.Map.Get(ref).(*simulator.Datastore)
		if !ok { // gone, from wherever it was
			for _, entity := range ctx.Map.All("StoragePod") {
				refresh(ctx, entity.(*simulator.StoragePod))
			}
			return
		}
		var parent types.ManagedObjectReference
		ctx.WithLock(datastore, func() { parent = *datastore.Parent })
		if pod, ok := ctx.Map.Get(parent).(*simulator.StoragePod); ok {
			refresh(ctx, pod)
		}
	})
	return nil
}

// make makes a datastore cluster for the flag.
func (f *feature) make(ctx *simulator.Context, wanted cluster) error {
	var members []*simulator.Datastore
	for _, name := range wanted.members {
		datastore := places.Datastore(ctx, nil, name)
		if datastore == nil {
			return fmt.Errorf("there is no datastore %q", name)
		}
		members = append(members, datastore)
	}
	datacenter := places.Datacenter(ctx, members[0].Self)
	for _, datastore := range members {
		if places.Datacenter(ctx, datastore.Self) != datacenter {
			return fmt.Errorf("%q and %q are in different datacenters", places.Name(members[0]), places.Name(datastore))
		}
	}
	folder := ctx.Map.Get(datacenter.DatastoreFolder).(*simulator.Folder)
	answer := folder.CreateStoragePod(ctx, &types.CreateStoragePod{This: folder.Self, Name: wanted.name})
	if answer.Fault() != nil {
		return fmt.Errorf("there is something of that name")
	}
	pod := ctx.Map.Get(ctx.Map.FindByName(wanted.name, folder.ChildEntity).Reference()).(*simulator.StoragePod)
	complete(pod)
	config := &pod.PodStorageDrsEntry.StorageDrsConfig.PodConfig
	config.Enabled = wanted.behavior != off
	if config.Enabled {
		config.DefaultVmBehavior = wanted.behavior
	}
	for _, datastore := range members {
		move(ctx, datastore, pod)
	}
	return nil
}

// complete gives a new pod what the API requires of one.
func complete(pod *simulator.StoragePod) {
	pod.Summary.Name = pod.Name
	config := &pod.PodStorageDrsEntry.StorageDrsConfig.PodConfig
	config.DefaultVmBehavior = manual
	config.LoadBalanceInterval = 480
	config.DefaultIntraVmAffinity = types.NewBool(true)
	config.SpaceLoadBalanceConfig = &types.StorageDrsSpaceLoadBalanceConfig{
		SpaceThresholdMode:        string(types.StorageDrsSpaceLoadBalanceConfigSpaceThresholdModeUtilization),
		SpaceUtilizationThreshold: 80, MinSpaceUtilizationDifference: 5,
	}
}

// members lists the datastores of a pod, sorted by name.
func members(ctx *simulator.Context, pod *simulator.StoragePod) []*simulator.Datastore {
	var refs []types.ManagedObjectReference
	ctx.WithLock(pod, func() { refs = slices.Clone(pod.ChildEntity) })
	var list []*simulator.Datastore
	for _, ref := range refs {
		if datastore, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok {
			list = append(list, datastore)
		}
	}
	slices.SortFunc(list, func(a, b *simulator.Datastore) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// refresh makes a pod's summary the sum over its members.
func refresh(ctx *simulator.Context, pod *simulator.StoragePod) {
	var capacity, free int64
	for _, datastore := range members(ctx, pod) {
		ctx.WithLock(datastore, func() {
			capacity += datastore.Summary.Capacity
			free += datastore.Summary.FreeSpace
		})
	}
	ctx.WithLock(pod, func() {
		if pod.Summary.Capacity == capacity && pod.Summary.FreeSpace == free && pod.Summary.Name == pod.Name {
			return
		}
		ctx.Update(pod, []types.PropertyChange{
			{Name: "summary.name", Val: pod.Name},
			{Name: "summary.capacity", Val: capacity},
			{Name: "summary.freeSpace", Val: free},
		})
	})
}
