// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Managed finds the API's own type (of govmomi's package mo) in an object of the inventory or of the session. It is invalid
// if the object is gone.
func Managed(ctx *simulator.Context, ref types.ManagedObjectReference) (mo.Reference, reflect.Value) {
	obj := object(ctx, ref)
	if obj == nil {
		return nil, reflect.Value{}
	}
	return obj, managed(obj)
}

// References reads a property that holds references, of an object that Managed found. The caller has locked it.
func References(value reflect.Value, property string) []types.ManagedObjectReference {
	return references(value, property)
}

// ManagedValue finds the API's own type in an object.
func ManagedValue(obj mo.Reference) reflect.Value { return managed(obj) }
