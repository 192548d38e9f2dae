// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"slices"

	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/tagging"
)

// tagSpace is the namespace of the capabilities that a policy made from tags demands.
const tagSpace = "http://www.vmware.com/storage/tag"

// tagDemand is one rule of a policy made from tags: one of the tags of a category. tagDemands are rules that all hold.
type (
	tagDemand  pbm.PbmCapabilityInstance
	tagDemands []tagDemand
)

// satisfied goes by the names of tags, whatever their category: a demand has the category's name, the library tells its id.
func (t tagDemands) satisfied(f *feature, datastore types.ManagedObjectReference) bool {
	if len(t) == 0 {
		return true
	}
	tags := tagging.Of(f.sim)
	if tags == nil {
		return false
	}
	tags.Lock()
	defer tags.Unlock()
	attached, _ := tags.AttachedTags(datastore)
	var has []string
	for _, id := range attached {
		if _, name, fault := tags.GetTagCategoryAndName(id); fault == nil {
			has = append(has, name)
		}
	}
	for _, demand := range t {
		if !demand.satisfied(has) {
			return false
		}
	}
	return true
}

func (d tagDemand) satisfied(tags []string) bool {
	for _, constraint := range d.Constraint {
		for _, property := range constraint.PropertyInstance {
			if slices.ContainsFunc(accepted(property.Value), func(name string) bool { return slices.Contains(tags, name) }) {
				return true
			}
		}
	}
	return false
}

// accepted reads a set of tag names.
func accepted(value types.AnyType) []string {
	var values []types.AnyType
	switch set := value.(type) {
	case pbm.PbmCapabilityDiscreteSet:
		values = set.Values
	case *pbm.PbmCapabilityDiscreteSet:
		values = set.Values
	case string:
		return []string{set}
	}
	var names []string
	for _, v := range values {
		if name, ok := v.(string); ok {
			names = append(names, name)
		}
	}
	return names
}
