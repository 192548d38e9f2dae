// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"

	"vcenter-sim/internal/inventory"
)

var lastNumber = regexp.MustCompile("[0-9]+$")

// addHosts adds the hosts that clients added to clusters after the start, under their references: the library numbers what
// belongs to a host, and then the host, one after the other.
func (s *Saved) addHosts(model *simulator.Model) error {
	for self, r := range s.records {
		if self.Type != "HostSystem" || model.Map().Get(self) != nil {
			continue
		}
		var host mo.HostSystem
		if err := unmarshal(r.Object, &host); err != nil {
			return fmt.Errorf("%s: %w", self, err)
		}
		first := host.ConfigManager.DatastoreSystem
		if first == nil || host.Parent == nil || host.Parent.Type != "ClusterComputeResource" ||
			model.Map().Get(*host.Parent) == nil {
			continue // make says that it cannot be made
		}
		number, err := strconv.ParseInt(lastNumber.FindString(first.Value), 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", self, err)
		}
		ownField(model.Map(), "counter").SetInt(number - 2) // here, the task that adds it takes a number, too
		made, err := inventory.AddHost(model, *host.Parent, host.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", self, err)
		}
		if made.Self != self {
			return s.unknown(self) // others were numbered among what belongs to it
		}
	}
	return nil
}
