// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/places"
)

// everywhere stands for all datastores, those of the future included.
const everywhere = "*"

// idSpace makes the id of a policy depend on its name only.
var idSpace = uuid.MustParse("0b6a1c3e-7a55-4a2f-9d6c-5f1f0b0c8a41")

// policy is one line of the table: a storage policy and the datastores that satisfy it.
type policy struct {
	name       string
	id         string
	all        bool
	datastores map[types.ManagedObjectReference]bool
	created    time.Time
}

type table struct {
	sync.Mutex
	policies map[string]*policy // by id
}

// set makes a policy, or gives the policy of that name other datastores. They are named, or "*".
func (t *table) set(ctx *simulator.Context, name string, datastores []string) (string, error) {
	if strings.TrimSpace(name) == "" {
		return "", fmt.Errorf("a policy needs a name")
	}
	line := &policy{name: name, id: uuid.NewSHA1(idSpace, []byte(name)).String(), created: time.Now(),
		datastores: make(map[types.ManagedObjectReference]bool)}
	for _, wanted := range datastores {
		if wanted == everywhere {
			line.all = true
			continue
		}
		found := false
		for _, datastore := range places.Datastores(ctx, nil) {
			if places.Name(datastore) == wanted {
				line.datastores[datastore.Self], found = true, true
			}
		}
		if !found {
			return "", fmt.Errorf("policy %q: there is no datastore %q; there are %s", name, wanted, names(ctx))
		}
	}
	t.Lock()
	defer t.Unlock()
	if before, ok := t.policies[line.id]; ok {
		line.created = before.created
	}
	t.policies[line.id] = line
	return line.id, nil
}

func names(ctx *simulator.Context) string {
	var list []string
	for _, datastore := range places.Datastores(ctx, nil) {
		list = append(list, places.Name(datastore))
	}
	const most = 8
	if list = slices.Compact(list); len(list) > most {
		list = append(list[:most], "...")
	}
	return strings.Join(list, ", ")
}

func (t *table) get(id string) *policy {
	t.Lock()
	defer t.Unlock()
	return t.policies[id]
}

func (t *table) remove(id string) bool {
	t.Lock()
	defer t.Unlock()
	_, known := t.policies[id]
	delete(t.policies, id)
	return known
}

// list is sorted by name.
func (t *table) list() []*policy {
	t.Lock()
	defer t.Unlock()
	var list []*policy
	for _, line := range t.policies {
		list = append(list, line)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].name < list[j].name })
	return list
}

func (p *policy) matches(datastore types.ManagedObjectReference) bool {
	return p.all || p.datastores[datastore]
}

// content shows a policy as a vCenter shows one that was made from tags: the tag has the policy's name.
func (p *policy) content() *pbm.PbmCapabilityProfile {
	const category = "simulated"
	return &pbm.PbmCapabilityProfile{
		PbmProfile: pbm.PbmProfile{
			ProfileId: pbm.PbmProfileId{UniqueId: p.id}, Name: p.name,
			CreationTime: p.created, CreatedBy: "Temporary user handle",
			LastUpdatedTime: p.created, LastUpdatedBy: "Temporary user handle",
		},
		ProfileCategory: string(pbm.PbmProfileCategoryEnumREQUIREMENT),
		ResourceType:    storage,
		Constraints: &pbm.PbmCapabilitySubProfileConstraints{SubProfiles: []pbm.PbmCapabilitySubProfile{{
			Name: "Tag based placement",
			Capability: []pbm.PbmCapabilityInstance{{
				Id: pbm.PbmCapabilityMetadataUniqueId{Namespace: tagSpace, Id: category},
				Constraint: []pbm.PbmCapabilityConstraintInstance{{
					PropertyInstance: []pbm.PbmCapabilityPropertyInstance{{
						Id:    "com.vmware.storage.tag." + category + ".property",
						Value: pbm.PbmCapabilityDiscreteSet{Values: []types.AnyType{p.name}},
					}},
				}},
			}},
		}}},
	}
}
