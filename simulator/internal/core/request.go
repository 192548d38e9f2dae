// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"net/http"
	"reflect"
	"unsafe"

	"github.com/vmware/govmomi/simulator"
)

// Connection is done when the client that made a call has gone away. For a call that came from inside, it is never done.
//
// The library keeps the request to itself; reading the pointer is the only way to it.
func Connection(ctx *simulator.Context) context.Context {
	field := reflect.ValueOf(ctx).Elem().FieldByName("req")
	if !field.IsValid() || field.Kind() != reflect.Pointer || field.IsNil() {
		return context.Background()
	}
	return (*http.Request)(unsafe.Pointer(field.Pointer())).Context()
}
