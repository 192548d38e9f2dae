// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"flag"
	"io"
	"testing"

	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/vim25/types"
)

func TestTheFlagIsRead(t *testing.T) {
	defer func() { wanted = nil }()
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	flags(set)
	if err := set.Parse([]string{"-policy", "gold=a,b", "-policy", "none="}); err != nil {
		t.Fatal(err)
	}
	if len(wanted) != 2 || wanted[0] != "gold=a,b" {
		t.Errorf("wanted is %q", wanted)
	}
	for _, bad := range []string{"gold", "=a", " =a"} {
		if set.Parse([]string{"-policy", bad}) == nil {
			t.Errorf("-policy %q was taken", bad)
		}
	}
}

func TestDemandsOfAPolicy(t *testing.T) {
	profile := func(namespace, id string, value types.AnyType) *pbm.PbmCapabilityProfile {
		return &pbm.PbmCapabilityProfile{ResourceType: storage, Constraints: &pbm.PbmCapabilitySubProfileConstraints{
			SubProfiles: []pbm.PbmCapabilitySubProfile{{Capability: []pbm.PbmCapabilityInstance{{
				Id: pbm.PbmCapabilityMetadataUniqueId{Namespace: namespace, Id: id},
				Constraint: []pbm.PbmCapabilityConstraintInstance{{
					PropertyInstance: []pbm.PbmCapabilityPropertyInstance{{Id: "x", Value: value}}}},
			}}}}}}
	}
	if kind, tags := demands(profile("VSAN", "stripeWidth", int32(1))); kind != "vsan" || tags != nil {
		t.Errorf("a vSAN policy demands %q %v", kind, tags)
	}
	set := pbm.PbmCapabilityDiscreteSet{Values: []types.AnyType{"fast", "faster"}}
	kind, tags := demands(profile(tagSpace, "tier", set))
	if kind != "" || len(tags) != 1 {
		t.Fatalf("a policy of tags demands %q %v", kind, tags)
	}
	if !tags[0].satisfied([]string{"x", "faster"}) || tags[0].satisfied([]string{"slow"}) || tags[0].satisfied(nil) {
		t.Error("one of the tags named satisfies, and no other does")
	}
	if kind, tags := demands(profile("com.vmware.storageprofile.dataservice", "x", "x")); kind != "" || tags != nil {
		t.Errorf("a data service demands %q %v of a datastore", kind, tags)
	}
}

func TestWishesOfAConfiguration(t *testing.T) {
	defined := func(id string) []types.BaseVirtualMachineProfileSpec {
		return []types.BaseVirtualMachineProfileSpec{&types.VirtualMachineDefinedProfileSpec{ProfileId: id}}
	}
	change := func(op types.VirtualDeviceConfigSpecOperation, key int32, profile []types.BaseVirtualMachineProfileSpec,
	) *types.VirtualDeviceConfigSpec {
		return &types.VirtualDeviceConfigSpec{Operation: op, Profile: profile,
			Device: &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: key}}}
	}
	w := &wish{disks: make(map[int32]*string), removed: make(map[int32]bool)}
	wishedByConfig(w, &types.VirtualMachineConfigSpec{
		VmProfile: []types.BaseVirtualMachineProfileSpec{&types.VirtualMachineEmptyProfileSpec{}},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{
			change(types.VirtualDeviceConfigSpecOperationAdd, -1, defined("a")),
			change(types.VirtualDeviceConfigSpecOperationAdd, -2, nil),
			change(types.VirtualDeviceConfigSpecOperationEdit, 2000, defined("b")),
			change(types.VirtualDeviceConfigSpecOperationRemove, 2001, nil),
		}})
	if w.home == nil || *w.home != "" {
		t.Error("the home's policy is not taken away")
	}
	if len(w.newDisks) != 2 || *w.newDisks[0] != "a" || w.newDisks[1] != nil {
		t.Errorf("new disks: %v", w.newDisks)
	}
	if *w.disks[2000] != "b" || *w.disks[2001] != "" {
		t.Errorf("disks: %v", w.disks)
	}
}
