// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// addHosts fills the clusters, which have one host each, under vcsim's names. The library would wait for two tasks per host,
// 40 ms for each, and reconfigure the switch for each; here the tasks say that they have ended, and all hosts of a datacenter
// join the switch at once.
func addHosts(model *simulator.Model, finished *taskWatcher, options *Options) error {
	ctx := model.Service.Context
	for _, datacenter := range datacenters(ctx.Map) {
		local := ctx.Map.Get(datacenter.Datastore[0]).(*simulator.Datastore)
		var added []*simulator.HostSystem
		for _, group := range hostsOf(ctx.Map, datacenter) {
			cluster, ok := ctx.Map.Get(*group[0].Parent).(*simulator.ClusterComputeResource)
			if !ok {
				continue // a standalone host
			}
			for i := len(group); i < options.ClusterHosts; i++ {
				host, err := addHost(ctx, finished, cluster, fmt.Sprintf("%s_H%d", cluster.Name, i))
				if err != nil {
					return fmt.Errorf("host %d of %s: %w", i, cluster.Name, err)
				}
				configureLike(ctx, host, group[0])
				added = append(added, host)
			}
		}
		if err := join(ctx, finished, datacenter, added); err != nil {
			return err
		}
		for _, host := range added {
			Mount(ctx, local, host)
		}
	}
	return nil
}

// AddHost adds a host to a cluster, as a client does by AddHost_Task.
func AddHost(
	model *simulator.Model, cluster types.ManagedObjectReference, name string,
) (*simulator.HostSystem, error) {
	finished := newTaskWatcher()
	registry := model.Map()
	registry.AddHandler(finished)
	defer registry.RemoveHandler(finished)
	at, ok := registry.Get(cluster).(*simulator.ClusterComputeResource)
	if !ok {
		return nil, fmt.Errorf("%s is no cluster", cluster.Value)
	}
	ctx := model.Service.Context
	host, err := addHost(ctx, finished, at, name)
	if err == nil && at.Host[0] != host.Self {
		configureLike(ctx, host, registry.Get(at.Host[0]).(*simulator.HostSystem))
	}
	return host, err
}

func addHost(
	ctx *simulator.Context, finished *taskWatcher, cluster *simulator.ClusterComputeResource, name string,
) (*simulator.HostSystem, error) {
	defer shorten()()
	add := &types.AddHost_Task{This: cluster.Self, Spec: types.HostConnectSpec{HostName: name}, AsConnected: true}
	made, err := finished.run(ctx, cluster, func(ctx *simulator.Context) soap.HasFault { return cluster.AddHostTask(ctx, add) })
	if err != nil {
		return nil, err
	}
	return ctx.Map.Get(made.(types.ManagedObjectReference)).(*simulator.HostSystem), nil
}

// shorten has the library make hosts with what it needs of their configuration alone, until what is returned is called. It would
// copy all of it by XML; configureLike adds the rest.
func shorten() (restore func()) {
	whole := esx.HostSystem.Config
	esx.HostSystem.Config = &types.HostConfigInfo{
		Network: &types.HostNetworkInfo{Portgroup: whole.Network.Portgroup}, Product: whole.Product,
	}
	return func() { esx.HostSystem.Config = whole }
}

// configureLike gives a host the configuration of another one, but for what the library's other objects of the host share.
func configureLike(ctx *simulator.Context, host, other *simulator.HostSystem) {
	own := copyOf(other.Config)
	own.Host, own.Option, own.Network.Portgroup = host.Self, host.Config.Option, host.Config.Network.Portgroup
	*host.Config = *own // the manager of its options has a pointer to it
	certificates := func(of *simulator.HostSystem) *simulator.HostCertificateManager {
		return ctx.Map.Get(*of.ConfigManager.CertificateManager).(*simulator.HostCertificateManager)
	}
	certificates(host).CertificateInfo = *copyOf(&certificates(other).CertificateInfo)
}

// join connects hosts to the switches of their datacenter.
func join(
	ctx *simulator.Context, finished *taskWatcher, datacenter *simulator.Datacenter, hosts []*simulator.HostSystem,
) error {
	spec := types.DVSConfigSpec{}
	for _, host := range hosts {
		spec.Host = append(spec.Host, types.DistributedVirtualSwitchHostMemberConfigSpec{
			Operation: string(types.ConfigSpecOperationAdd), Host: host.Self,
		})
	}
	for _, ref := range switchesBelow(ctx.Map, datacenter.NetworkFolder) {
		dvs := ctx.Map.Get(ref).(*simulator.DistributedVirtualSwitch)
		request := &types.ReconfigureDvs_Task{This: ref, Spec: &spec}
		_, err := finished.run(ctx, dvs, func(ctx *simulator.Context) soap.HasFault {
			return dvs.ReconfigureDvsTask(ctx, request)
		})
		if err != nil {
			return fmt.Errorf("switch %s: %w", dvs.Name, err)
		}
	}
	return nil
}

func switchesBelow(registry *simulator.Registry, folder types.ManagedObjectReference) []types.ManagedObjectReference {
	var found []types.ManagedObjectReference
	for _, ref := range registry.Get(folder).(*simulator.Folder).ChildEntity {
		switch registry.Get(ref).(type) {
		case *simulator.DistributedVirtualSwitch:
			found = append(found, ref)
		case *simulator.Folder:
			found = append(found, switchesBelow(registry, ref)...)
		}
	}
	return found
}
