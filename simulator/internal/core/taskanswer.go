// SPDX-License-Identifier: Apache-2.0

package core

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// taskBody answers any method that returns a task.
type taskBody struct {
	Res *taskResponse
}

// Fault implements soap.HasFault.
func (*taskBody) Fault() *soap.Fault { return nil }

type taskResponse struct {
	method    string
	Returnval types.ManagedObjectReference
}

// MarshalXML names the element by the method.
func (r *taskResponse) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	start.Name.Local = r.method + "Response"
	return e.EncodeElement(types.CreateVM_TaskResponse{Returnval: r.Returnval}, start)
}

// TaskAnswer answers a method that returns a task, whatever its name ("CreateVM_Task").
func TaskAnswer(method string, task types.ManagedObjectReference) soap.HasFault {
	return &taskBody{Res: &taskResponse{method: method, Returnval: task}}
}

// FailedTask answers a method that returns a task with one that fails.
func FailedTask(ctx *simulator.Context, call *Call, fault types.BaseMethodFault) soap.HasFault {
	return TaskAnswer(call.Name, StartTask(ctx, call.This, call.Name,
		func(*simulator.Context) (types.AnyType, types.BaseMethodFault) { return nil, fault }))
}
