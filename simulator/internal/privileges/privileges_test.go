// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestEveryParameterOfTheTableIsAFieldOfItsRequest(t *testing.T) {
	named := types.TypeFunc()
	for method, rule := range reference.methods {
		_, name, _ := strings.Cut(method, ".")
		request, found := named(name)
		if !found { // a method that the library does not have
			continue
		}
		for _, p := range rule.parameters {
			field, found := request.FieldByName(p.field)
			if !found {
				t.Errorf("%s has no field %s", method, p.field)
				continue
			}
			switch field.Type.String() {
			case "types.ManagedObjectReference", "*types.ManagedObjectReference", "[]types.ManagedObjectReference":
			default:
				t.Errorf("%s.%s is a %s", method, p.field, field.Type)
			}
		}
	}
}

func TestEveryPartOfAConfigurationIsAFieldAndItsPrivilegeIsKnown(t *testing.T) {
	request, _ := types.TypeFunc()("VirtualMachineConfigSpec")
	for part, privilege := range configuring {
		if _, found := request.FieldByName(part); !found {
			t.Errorf("a VirtualMachineConfigSpec has no %s", part)
		}
		if privilege != "" && !isKnown(privilege) {
			t.Errorf("there is no privilege %s", privilege)
		}
	}
}

func TestEveryPrivilegeThatDependsOnATypeIsKnown(t *testing.T) {
	for _, table := range []byType{destroying, renaming, moving} {
		for kind, privilege := range table {
			if !isKnown(privilege) {
				t.Errorf("%s: there is no privilege %s", kind, privilege)
			}
		}
	}
	for _, privilege := range append(atCreation, allocate, apply, settings, view, read, anonymous) {
		if !isKnown(privilege) {
			t.Errorf("there is no privilege %s", privilege)
		}
	}
}

func TestTypesInheritWhatTheyAreDerivedFrom(t *testing.T) {
	if got := destroying.of(ref{Type: "StoragePod"}); got != "Folder.Delete" {
		t.Errorf("destroying a datastore cluster needs %q", got)
	}
	if got := reference.property("ClusterComputeResource", "host"); got != view {
		t.Errorf("reading a cluster's hosts needs %q", got)
	}
	if got := reference.property("VirtualMachine", `config.extraConfig["a"]`); got != read {
		t.Errorf("reading a machine's configuration needs %q", got)
	}
}

func TestUsersAreComparedByNameAndDomain(t *testing.T) {
	for _, name := range []string{`CORP\Cinder`, "cinder@corp", "CINDER@CORP"} {
		if got := fold(name); got != "cinder@corp" {
			t.Errorf("%s is %s", name, got)
		}
	}
}

func TestVersionsAreCompared(t *testing.T) {
	for _, each := range []struct {
		version, than string
		older         bool
	}{{"7.0.3.0", "7.0.3.2", true}, {"8.0.3.0", "8.0.2", false}, {"10.0.0.0", "9.0.0.0", false}, {"8.0.1.0", "8.0.2", true}} {
		if got := older(each.version, each.than); got != each.older {
			t.Errorf("%s is older than %s: %v", each.version, each.than, got)
		}
	}
}
