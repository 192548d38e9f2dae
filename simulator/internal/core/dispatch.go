// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"log"
	"net/url"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

var rootURL = &url.URL{Path: "/"}

// Call is one SOAP call on its way through the frame.
type Call struct {
	// Name is the method as the API names it: "CreateVM_Task".
	Name string
	// This is the object that the client named.
	This types.ManagedObjectReference
	// Object is that object, as the session sees it.
	Object mo.Reference
	// Body is a pointer to the request: *types.CreateVM_Task.
	Body types.AnyType
}

// Next goes on to the next in line: another override of the method, and at last the library's own method.
type Next func() soap.HasFault

// Around sees a call of any method. It runs before the object is locked, so that it may take its time, and outside of all
// overrides. It either goes on with next, or answers by itself.
type Around func(ctx *simulator.Context, call *Call, next Next) soap.HasFault

type override func(ctx *simulator.Context, call *Call, next Next) soap.HasFault

// Around adds f around every call. The last one added is the outermost.
func (s *Sim) Around(f Around) { s.arounds = append(s.arounds, f) }

// Override has f answer the method whose request type is Req, for example types.CreateVM_Task. Calling next goes on to
// overrides registered earlier, and at last to the library's own method; not calling it replaces them. The object is locked
// meanwhile, as it is for the library's methods. Methods of several types of object (Destroy_Task, Rename_Task) come with
// any of them: look at req.This.Type and go on with next for those that are not yours.
func Override[Req any](s *Sim, f func(ctx *simulator.Context, req *Req, next Next) soap.HasFault) {
	name := reflect.TypeFor[Req]().Name()
	s.overrides[name] = append(s.overrides[name], func(ctx *simulator.Context, call *Call, next Next) soap.HasFault {
		req, ok := call.Body.(*Req)
		if !ok { // a type of the same name in another namespace
			return next()
		}
		return f(ctx, req, next)
	})
}

// dispatcher is the object to which every call is redirected.
type dispatcher struct {
	mo.SearchIndex // the library expects one of the API's types to come first in each of its objects; this one is empty
	sim            *Sim
}

// Lock and Unlock do nothing: calls must not wait for each other here.
func (d *dispatcher) Lock() {}

// Unlock see Lock.
func (d *dispatcher) Unlock() {}

// beforeLogin are the methods that the library lets pass without a session. It knows them by name, so for them the
// redirected call keeps its name, and the dispatcher has a method of that name below.
var beforeLogin = []string{
	"Login", "LoginByToken", "LoginExtensionByCertificate", "CloneSession",
	"RetrieveServiceContent", "PbmRetrieveServiceContent",
	"RetrieveProperties", "RetrievePropertiesEx",
}

// redirect is the library's Registry.Handler: it is asked about each call before the library looks for the method.
func (d *dispatcher) redirect(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if slices.Contains(beforeLogin, method.Name) {
		method.This = d.Self
		return d, nil
	}
	if ctx.Session == nil {
		if d.sim.NoSessionFault != "" && method.Name != "Fetch" && method.This.Type != "LookupService" {
			return nil, d.sim.NoSession(&method.This)
		}
		return nil, nil // the library refuses it, or serves what needs no session
	}
	method.This = d.Self
	method.Name = "Dispatch"
	return d, nil
}

// Dispatch takes a call through the frame. Its name and its object are read from the request itself.
func (d *dispatcher) Dispatch(ctx *simulator.Context, body types.AnyType) soap.HasFault {
	request := reflect.ValueOf(body).Elem()
	call := &Call{
		Name: methodName(request.Type().Name()),
		This: request.FieldByName("This").Interface().(types.ManagedObjectReference),
		Body: body,
	}
	if call.Name == "Fetch" { // names the object whose property it wants; the property collector is what answers
		call.This = d.sim.Model.ServiceContent.PropertyCollector
	}
	ctx.Caller = &call.This
	next := func() soap.HasFault { return d.sim.answer(ctx, call) }
	for _, around := range d.sim.arounds {
		inner := next
		next = func() soap.HasFault { return around(ctx, call, inner) }
	}
	return next()
}

// methodName is the API's name of a method, by its request's type. The library calls the requests of the internal API otherwise.
func methodName(request string) string {
	if stem, ok := strings.CutSuffix(request, "TaskRequest"); ok {
		return stem + "_Task"
	}
	return request
}

// answer locks the object, asks the overrides, and at last the library.
func (s *Sim) answer(ctx *simulator.Context, call *Call) (result soap.HasFault) {
	call.Object = ctx.Map.Get(call.This)
	if ctx.Session != nil {
		if view := ctx.Session.Get(call.This); view != nil {
			call.Object = view
		}
	}
	if call.Object == nil {
		return FaultMessage(fmt.Sprintf("The object '%s' has already been deleted or has not been completely created",
			call.This), &types.ManagedObjectNotFound{Obj: call.This})
	}
	defer func() {
		if cause := recover(); cause != nil {
			log.Printf("%s on %s: %v\n%s", call.Name, call.This, cause, debug.Stack())
			result = FaultMessage(fmt.Sprintf("A general system error occurred: %v", cause),
				&types.SystemError{Reason: fmt.Sprint(cause)})
		}
	}()
	defer ctx.Map.AcquireLock(ctx, call.Object)()

	next := func() soap.HasFault { return library(ctx, call) }
	for _, f := range s.overrides[call.Name] {
		inner := next
		next = func() soap.HasFault { return f(ctx, call, inner) }
	}
	return next()
}

// library calls the library's own method, as simulator.Service does.
func library(ctx *simulator.Context, call *Call) soap.HasFault {
	name := strings.ToUpper(call.Name[:1]) + call.Name[1:]
	if task, is := strings.CutSuffix(name, "_Task"); is {
		name = task + "Task"
	}
	method := reflect.ValueOf(call.Object).MethodByName(name)
	if !method.IsValid() {
		return FaultMessage(fmt.Sprintf("%s does not implement: %s", call.This, call.Name),
			&types.MethodNotFound{Receiver: call.This, Method: call.Name})
	}
	if entity, ok := call.Object.(mo.Entity); ok && slices.Contains(entity.Entity().DisabledMethod, call.Name) {
		return FaultMessage(fmt.Sprintf("%s method is disabled: %s", call.This, call.Name),
			&types.MethodDisabled{})
	}
	var args []reflect.Value
	if method.Type().NumIn() == 2 {
		args = append(args, reflect.ValueOf(ctx))
	}
	args = append(args, reflect.ValueOf(call.Body))
	return method.Call(args)[0].Interface().(soap.HasFault)
}
