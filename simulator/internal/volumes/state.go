// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"encoding/json"

	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// keptDisk is a LUN in the saved state.
type keptDisk struct {
	Name       string                        `json:"name"`
	Datacenter types.ManagedObjectReference  `json:"datacenter"`
	Bytes      int64                         `json:"bytes"`
	Datastore  *types.ManagedObjectReference `json:"datastore,omitempty"`
}

func (f *feature) keep(s *core.Sim) {
	s.Keep("disks", core.Keep{
		Save: func() any {
			f.disks.Lock()
			defer f.disks.Unlock()
			kept := make([]keptDisk, 0, len(f.disks.list))
			for _, d := range f.disks.list {
				kept = append(kept, keptDisk{d.name, d.datacenter, d.bytes, d.datastore})
			}
			return kept
		},
		Load: func(text []byte) error {
			var kept []keptDisk
			if err := json.Unmarshal(text, &kept); err != nil {
				return err
			}
			f.disks.Lock()
			defer f.disks.Unlock()
			f.disks.list = nil
			for _, d := range kept {
				f.disks.list = append(f.disks.list, &disk{d.Name, d.Datacenter, d.Bytes, d.Datastore})
			}
			return nil
		},
	})
}
