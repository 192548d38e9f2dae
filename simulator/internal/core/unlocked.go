// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"log"
	"runtime/debug"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Unlocked has f answer the method whose request type is Req, as Override does, but before the object is locked, and before
// all overrides: for methods that lock other objects, which tasks lock in the other order. The context given to f holds no
// locks either.
func Unlocked[Req any](s *Sim, f func(ctx *simulator.Context, req *Req, next Next) soap.HasFault) {
	s.Around(func(ctx *simulator.Context, call *Call, next Next) (result soap.HasFault) {
		req, ok := call.Body.(*Req)
		if !ok || ctx.Session == nil || ctx.Map.Get(call.This) == nil {
			return next()
		}
		defer func() {
			if cause := recover(); cause != nil {
				log.Printf("%s on %s: %v\n%s", call.Name, call.This, cause, debug.Stack())
				result = Fault(&types.SystemError{Reason: fmt.Sprint(cause)})
			}
		}()
		return f(NewContext(ctx), req, next)
	})
}
