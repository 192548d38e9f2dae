// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func TestTheHostsOfAClusterAreAlike(t *testing.T) {
	t.Chdir(t.TempDir())
	options := Defaults()
	options.Clusters, options.ClusterHosts, options.Datastores, options.Machines = 2, 3, 2, 0
	model, err := Create(options)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Remove()
	registry := model.Map()
	var names []string
	for _, entity := range registry.All("ClusterComputeResource") {
		cluster := entity.(*simulator.ClusterComputeResource)
		if summary := cluster.Summary.GetComputeResourceSummary(); summary.NumHosts != 3 || summary.NumEffectiveHosts != 3 {
			t.Errorf("%s counts %d hosts", cluster.Name, summary.NumHosts)
		}
		first := registry.Get(cluster.Host[0]).(*simulator.HostSystem) // the library's own
		uuids := make(map[string]bool)
		for _, ref := range cluster.Host {
			host := registry.Get(ref).(*simulator.HostSystem)
			names = append(names, host.Name)
			uuids[host.Hardware.SystemInfo.Uuid] = true
			if !slices.Equal(host.Network, first.Network) || !slices.Equal(host.Datastore, first.Datastore) {
				t.Errorf("%s has %v and %v, %s has %v and %v", host.Name, host.Network, host.Datastore, first.Name,
					first.Network, first.Datastore)
			}
			if host.Runtime.ConnectionState != types.HostSystemConnectionStateConnected {
				t.Errorf("%s is %s", host.Name, host.Runtime.ConnectionState)
			}
		}
		if len(uuids) != 3 {
			t.Errorf("the uuids of %s are %v", cluster.Name, uuids)
		}
	}
	slices.Sort(names)
	want := []string{"DC0_C0_H0", "DC0_C0_H1", "DC0_C0_H2", "DC0_C1_H0", "DC0_C1_H1", "DC0_C1_H2"}
	if !slices.Equal(names, want) {
		t.Errorf("made %v, want %v", names, want)
	}
	for _, entity := range registry.All("Datastore") {
		if datastore := entity.(*simulator.Datastore); datastore.Name == datastoreName(0) && len(datastore.Host) != 7 {
			t.Errorf("%s is mounted on %d hosts of 7", datastore.Name, len(datastore.Host))
		}
	}
	for _, entity := range registry.All("DistributedVirtualSwitch") {
		dvs := entity.(*simulator.DistributedVirtualSwitch)
		if len(dvs.Summary.HostMember) != 7 {
			t.Errorf("%s has %d hosts of 7", dvs.Name, len(dvs.Summary.HostMember))
		}
	}
}
