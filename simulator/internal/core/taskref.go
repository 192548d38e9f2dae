// SPDX-License-Identifier: Apache-2.0

package core

import (
	"reflect"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Ref reads an object's reference, and nothing else of it: obj.Reference() copies much of the object, which others may change.
func Ref(obj mo.Reference) types.ManagedObjectReference {
	return reflect.ValueOf(obj).Elem().FieldByName("Self").Interface().(types.ManagedObjectReference)
}

// TaskRef points at the reference to a task in a method's answer; it is nil if the answer holds none.
func TaskRef(answer soap.HasFault) *types.ManagedObjectReference {
	if answer == nil || answer.Fault() != nil {
		return nil
	}
	body := reflect.ValueOf(answer)
	if body.Kind() != reflect.Pointer || body.Elem().Kind() != reflect.Struct {
		return nil
	}
	response := body.Elem().FieldByName("Res")
	if !response.IsValid() || response.Kind() != reflect.Pointer || response.IsNil() || response.Elem().Kind() != reflect.Struct {
		return nil
	}
	field := response.Elem().FieldByName("Returnval")
	if !field.IsValid() || !field.CanAddr() {
		return nil
	}
	if ref, ok := field.Addr().Interface().(*types.ManagedObjectReference); ok && ref.Type == "Task" {
		return ref
	}
	return nil
}
