// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"encoding/json"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// kept is what is saved with the vCenter's state.
type kept struct {
	Policies     []keptPolicy      `json:"policies"`
	Associations []keptAssociation `json:"associations"`
	Created      []json.RawMessage `json:"created"` // by PbmCreate
}

type keptPolicy struct {
	Name       string                         `json:"name"`
	ID         string                         `json:"id"`
	All        bool                           `json:"all"`
	Datastores []types.ManagedObjectReference `json:"datastores"`
	Created    time.Time                      `json:"created"`
}

type keptAssociation struct {
	Kind   string `json:"kind"`
	Key    string `json:"key"`
	Policy string `json:"policy"`
}

func (f *feature) keep(s *core.Sim) {
	s.Keep("policies", core.Keep{Save: func() any { return f.save() }, Load: f.load})
}

func (f *feature) save() kept {
	k := kept{Created: f.keptProfiles()}
	for _, line := range f.table.list() {
		one := keptPolicy{Name: line.name, ID: line.id, All: line.all, Created: line.created}
		for datastore := range line.datastores {
			one.Datastores = append(one.Datastores, datastore)
		}
		k.Policies = append(k.Policies, one)
	}
	f.associations.lock.Lock()
	defer f.associations.lock.Unlock()
	for e, id := range f.associations.known {
		k.Associations = append(k.Associations, keptAssociation{e.kind, e.key, id})
	}
	return k
}

func (f *feature) load(text []byte) error {
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return err
	}
	f.table.Lock()
	clear(f.table.policies)
	for _, one := range k.Policies {
		line := &policy{name: one.Name, id: one.ID, all: one.All, created: one.Created,
			datastores: make(map[types.ManagedObjectReference]bool)}
		for _, datastore := range one.Datastores {
			line.datastores[datastore] = true
		}
		f.table.policies[line.id] = line
	}
	f.table.Unlock()
	f.associations.lock.Lock()
	defer f.associations.lock.Unlock()
	clear(f.associations.known)
	for _, one := range k.Associations {
		f.associations.known[entity{one.Kind, one.Key}] = one.Policy
	}
	return f.loadProfiles(k.Created)
}
