// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"os"
	"sort"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Model is the library's inventory and the folder in which its datastores keep their files.
type Model struct {
	*simulator.Model
	// Dir is the process's working directory from now on, because a datastore's URL (ds:///vmfs/volumes/<uuid>/) is at the
	// same time the path, relative to it, at which the library looks for the datastore's files.
	Dir string
}

// Create makes the inventory. The names are vcsim's.
func Create(options Options) (*Model, error) {
	model := &Model{Model: simulator.VPX()}
	model.Autostart = options.Autostart
	model.Datacenter, model.Cluster = options.Datacenters, options.Clusters
	model.ClusterHost = min(1, options.ClusterHosts) // addHosts makes the others
	model.Host, model.Pool, model.Folder, model.Pod = options.StandaloneHosts, options.Pools, options.Folders, options.Pods
	model.Machine = 0   // addMachines makes them
	model.Datastore = 1 // virtual machines need it while they are made; the other datastores follow
	setAbout(&model.ServiceContent.About, &options)
	if err := model.Model.Create(); err != nil {
		return nil, err
	}
	var err error
	if model.Dir, err = home(model.Map()); err == nil {
		err = os.Chdir(model.Dir)
	}
	if err == nil {
		err = fill(model.Model, &options)
	}
	if err != nil {
		model.Remove()
		return nil, err
	}
	for _, host := range model.Map().All("HostSystem") {
		setHostVersion(host.(*simulator.HostSystem), &options)
	}
	return model, nil
}

// fill adds what there is much of.
func fill(model *simulator.Model, options *Options) error {
	finished := newTaskWatcher()
	registry := model.Map()
	registry.AddHandler(finished)
	defer registry.RemoveHandler(finished)
	if err := addHosts(model, finished, options); err != nil {
		return err
	}
	if err := addMachines(model, finished, options); err != nil {
		return err
	}
	return addDatastores(model, options)
}

// home is the folder that the library made for its files.
func home(registry *simulator.Registry) (string, error) {
	for _, setting := range registry.OptionManager().Setting {
		if option := setting.GetOptionValue(); option.Key == "vcsim.home" {
			return option.Value.(string), nil
		}
	}
	return "", fmt.Errorf("the library names no home folder")
}

func setAbout(about *types.AboutInfo, options *Options) {
	about.ApiVersion, about.Version = options.APIVersion, options.Version()
	if about.InstanceUuid = options.InstanceUUID; about.InstanceUuid == "" { // a state that was saved before there was one
		about.InstanceUuid = uuid.NewString()
	}
	about.Build = "24022515"
	about.FullName = fmt.Sprintf("%s %s build-%s", about.Name, about.Version, about.Build)
	about.LicenseProductVersion = about.Version[:1] + ".0"
}

// hostVersion is the version of the hosts: the vCenter's own, or the last one before it that the library knows, which cannot add
// a host to a cluster otherwise. A vCenter is often younger than its hosts.
func hostVersion(version string) string {
	if _, err := types.ParseESXiVersion(version); err == nil {
		return version
	}
	if version < "8" {
		return "7.0.2"
	}
	return "8.0.2"
}

func setHostVersion(host *simulator.HostSystem, options *Options) {
	version := hostVersion(options.Version())
	product := types.AboutInfo{
		Name: "VMware ESXi", Vendor: "VMware, Inc.", Version: version, Build: "24022510", OsType: "vmnix-x86",
		ProductLineId: "embeddedEsx", ApiType: "HostAgent", ApiVersion: version + ".0", LocaleVersion: "INTL",
		LocaleBuild: "000", LicenseProductName: "VMware ESX Server", LicenseProductVersion: version[:1] + ".0",
	}
	product.FullName = fmt.Sprintf("%s %s build-%s", product.Name, product.Version, product.Build)
	host.Summary.Config.Product = &product
	if host.Config != nil {
		config := *host.Config // the library lets all hosts share one
		config.Product = product
		host.Config = &config
	}
}

// hostsOf lists the hosts of a datacenter by compute resource, in the order in which they were made.
func hostsOf(registry *simulator.Registry, datacenter *simulator.Datacenter) [][]*simulator.HostSystem {
	var groups [][]*simulator.HostSystem
	var walk func(types.ManagedObjectReference)
	walk = func(ref types.ManagedObjectReference) {
		switch object := registry.Get(ref).(type) {
		case *simulator.Folder:
			for _, child := range object.ChildEntity {
				walk(child)
			}
		case *simulator.ClusterComputeResource:
			groups = append(groups, hosts(registry, object.Host))
		case *mo.ComputeResource:
			groups = append(groups, hosts(registry, object.Host))
		}
	}
	walk(datacenter.HostFolder)
	return groups
}

func hosts(registry *simulator.Registry, refs []types.ManagedObjectReference) []*simulator.HostSystem {
	list := make([]*simulator.HostSystem, 0, len(refs))
	for _, ref := range refs {
		list = append(list, registry.Get(ref).(*simulator.HostSystem))
	}
	return list
}

func datacenters(registry *simulator.Registry) []*simulator.Datacenter {
	var list []*simulator.Datacenter
	for _, entity := range registry.All("Datacenter") {
		list = append(list, entity.(*simulator.Datacenter))
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}
