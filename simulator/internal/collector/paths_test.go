// SPDX-License-Identifier: Apache-2.0

package collector

import "testing"

func TestPathsAreThoseOfTheDeclaredTypes(t *testing.T) {
	for path, want := range map[string]bool{
		"name":                                  true,
		"config":                                true,
		"config.hardware.device":                true,
		"config.hardware.device[4000]":          true,
		"config.hardware.device[4000].backing":  true,
		"config.extraConfig[\"a.b]\"].value":    true,
		"summary.config.managedBy.extensionKey": true,
		"customValue":                           true,
		"parent":                                true,
		"value[5]":                              true,
		"":                                      false,
		"Name":                                  false,
		"self":                                  false,
		"nmae":                                  false,
		"name.length":                           false,
		"runtime.bootTime.year":                 false,
		"parent.value":                          false,
		"config.hardware.device.key":            false,
		"config.hardware.device[4000].backing.fileName": false, // of a subclass of VirtualDeviceBackingInfo
		"config.hardware.device[4000].capacityInKB":     false, // of a subclass of VirtualDevice
		"config.hardware.device[4000":                   false,
		"config.hardware.device[4000]backing":           false,
		"datastore[0]":                                  false,
		"config[0]":                                     false,
		"childEntity":                                   false, // of another type
	} {
		if got := ValidPath("VirtualMachine", path); got != want {
			t.Errorf("%q: %t", path, got)
		}
	}
	if ValidPath("ManagedEntity", "config") || !ValidPath("ManagedEntity", "parent") {
		t.Error("a type has the properties that it declares, not those of types derived from it")
	}
	for kind, want := range map[string]bool{
		"VirtualMachine": true, "ManagedEntity": true, "ManagedObject": true, "Machine": false, "": false,
	} {
		if _, got := ManagedType(kind); got != want {
			t.Errorf("%q: %t", kind, got)
		}
	}
}
