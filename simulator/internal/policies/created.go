// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/vmware/govmomi/pbm/methods"
	pbmsim "github.com/vmware/govmomi/pbm/simulator"
	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	vimjson "github.com/vmware/govmomi/vim25/json"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// remember notes which policies clients make with PbmProfileProfileManager.PbmCreate: these are saved with the state.
func (f *feature) remember(s *core.Sim) {
	core.Override(s, func(_ *simulator.Context, req *pbm.PbmCreate, next core.Next) soap.HasFault {
		answer := next()
		if body, ok := answer.(*methods.PbmCreateBody); ok && body.Res != nil {
			f.table.Lock()
			f.created[body.Res.Returnval.UniqueId] = true
			f.table.Unlock()
		}
		return answer
	})
}

// keptProfiles writes the policies that clients have made.
func (f *feature) keptProfiles() (profiles []json.RawMessage) {
	f.table.Lock()
	ids := make([]string, 0, len(f.created))
	for id := range f.created {
		ids = append(ids, id)
	}
	f.table.Unlock()
	for _, id := range ids {
		if profile := f.library(id); profile != nil {
			var text bytes.Buffer
			if types.NewJSONEncoder(&text).Encode(profile) == nil {
				profiles = append(profiles, text.Bytes())
			}
		}
	}
	return profiles
}

// loadProfiles has the library make the policies anew, and gives them back the ids and times that they had.
func (f *feature) loadProfiles(texts []json.RawMessage) error {
	var profiles []*pbm.PbmCapabilityProfile
	for _, text := range texts {
		decoder := vimjson.NewDecoder(bytes.NewReader(text))
		decoder.SetDiscriminator("_typeName", "_value", vimjson.DiscriminatorToTypeFunc(pbmType))
		profile := &pbm.PbmCapabilityProfile{}
		if err := decoder.Decode(profile); err != nil {
			return err
		}
		profiles = append(profiles, profile)
	}
	f.sim.OnServe(func() { // when it serves, the library begins with a new manager
		for _, profile := range profiles {
			f.make(profile)
		}
	})
	return nil
}

func pbmType(name string) (reflect.Type, bool) {
	find := types.TypeFunc()
	if found, ok := find("pbm:" + name); ok {
		return found, true
	}
	return find(name)
}

func (f *feature) make(profile *pbm.PbmCapabilityProfile) {
	manager, ok := f.registry().Get(profileManager).(*pbmsim.ProfileManager)
	if !ok {
		return
	}
	ctx := f.sim.Context()
	ctx.Session = &simulator.Session{UserSession: types.UserSession{UserName: profile.CreatedBy}}
	body := manager.PbmCreate(ctx, &pbm.PbmCreate{CreateSpec: pbm.PbmCapabilityProfileCreateSpec{Name: profile.Name}})
	made := f.library(body.(*methods.PbmCreateBody).Res.Returnval.UniqueId)
	*made = *profile
	f.table.Lock()
	f.created[profile.ProfileId.UniqueId] = true
	f.table.Unlock()
}
