// SPDX-License-Identifier: Apache-2.0

// Package inventory makes the inventory that a simulated vCenter starts with.
package inventory

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// Options say what a vCenter is made of.
type Options struct {
	// APIVersion is four numbers, as 8.0.3.0.
	APIVersion string
	// InstanceUUID is about.instanceUuid: each vCenter has its own.
	InstanceUUID    string
	Datacenters     int
	Clusters        int // per datacenter
	ClusterHosts    int // per cluster
	StandaloneHosts int // per datacenter
	Datastores      int // per datacenter
	Machines        int // per resource pool
	Pools           int // per cluster
	Folders         int
	Pods            int // per datacenter
	Autostart       bool
	// Capacity in bytes of every datastore; 0 gives them different capacities, and something on them.
	Capacity int64
	// CapacityOf is the capacity in bytes of the datastores named.
	CapacityOf map[string]int64
	// MountEverywhere mounts every datastore on every host of its datacenter.
	MountEverywhere bool
	// MountByCluster mounts each datastore on the hosts of one cluster, or on one standalone host: in turn, from the first.
	MountByCluster bool
}

// Defaults are those of vcsim.
func Defaults() Options {
	return Options{
		APIVersion: "8.0.3.0", Datacenters: 1, Clusters: 1, ClusterHosts: 3, StandaloneHosts: 1, Datastores: 1, Machines: 2,
		Autostart: true, CapacityOf: make(map[string]int64),
	}
}

var versionPattern = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$`)

// Check finds what cannot be made, and chooses what is left open.
func (o *Options) Check() error {
	if !versionPattern.MatchString(o.APIVersion) {
		return fmt.Errorf("invalid value %q for flag -api-version: give four numbers, as 8.0.3.0", o.APIVersion)
	}
	if o.Clusters*o.ClusterHosts+o.StandaloneHosts == 0 {
		return fmt.Errorf("there is no host to mount a datastore: give -cluster and -host, or -standalone-host, at least 1")
	}
	if o.InstanceUUID == "" {
		o.InstanceUUID = uuid.NewString()
	}
	if parsed, err := uuid.Parse(o.InstanceUUID); err != nil || parsed.String() != o.InstanceUUID {
		return fmt.Errorf("invalid value %q for flag -instance-uuid: give a uuid in small letters, as "+
			"4c4c4544-0036-4a10-8044-b7c04f4d3333", o.InstanceUUID)
	}
	for name := range o.CapacityOf {
		var index int
		if _, err := fmt.Sscanf(name, "LocalDS_%d", &index); err != nil || name != datastoreName(index) ||
			index < 0 || index >= o.Datastores {
			return fmt.Errorf("-ds-capacity names a datastore %q that is not made: with -ds %d they are %s", name,
				o.Datastores, datastoreNames(o.Datastores))
		}
	}
	return nil
}

// Version is the product's version that goes with the API's: 8.0.3 for 8.0.3.0.
func (o *Options) Version() string { return o.APIVersion[:strings.LastIndex(o.APIVersion, ".")] }

func datastoreName(index int) string { return fmt.Sprintf("LocalDS_%d", index) }

func datastoreNames(count int) string {
	if count == 1 {
		return datastoreName(0)
	}
	return datastoreName(0) + " to " + datastoreName(count-1)
}
