// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// FetchResponse is the answer to Fetch, with which pyVmomi reads one property. Its name is the API's: the library makes the
// element's name of it.
type FetchResponse struct {
	Returnval types.AnyType `xml:"returnval,omitempty,typeattr"`
}

type fetchBody struct {
	Res    *FetchResponse `xml:"urn:vim25 FetchResponse,omitempty"`
	Fault_ *soap.Fault    `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *fetchBody) Fault() *soap.Fault { return b.Fault_ }

// mendFetch has Fetch answer with nothing for a property that is not set (the library answers as to another method, and pyVmomi
// takes that for a property that does not exist), and with all of the service's content (the library leaves out what an old
// ovftool does not know, the manager of first class disks among it).
func mendFetch(s *core.Sim) {
	s.Around(func(ctx *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		if call.Name != "Fetch" {
			return next()
		}
		if fault := mayFetch(ctx, s, call.Body); fault != nil {
			return core.Fault(fault)
		}
		answer := next()
		if answer.Fault() != nil {
			return answer
		}
		if _, other := answer.(*methods.RetrievePropertiesExBody); other {
			return &fetchBody{Res: &FetchResponse{}}
		}
		if obj, path := fetched(call.Body); obj == vim25.ServiceInstance && path == "content" {
			service := s.Map().Get(vim25.ServiceInstance).(*simulator.ServiceInstance)
			return &fetchBody{Res: &FetchResponse{Returnval: service.Content}}
		} else if obj.Type == "ViewManager" && path == "viewList" { // a session's own
			list := viewsOf(ctx)
			if len(list) == 0 {
				return &fetchBody{Res: &FetchResponse{}}
			}
			return &fetchBody{Res: &FetchResponse{Returnval: types.ArrayOfManagedObjectReference{ManagedObjectReference: list}}}
		}
		return answer
	})
}

// fetched is what a request asks for. Its type is the library's own.
func fetched(body types.AnyType) (types.ManagedObjectReference, string) {
	request := reflect.ValueOf(body).Elem()
	obj, _ := request.FieldByName("This").Interface().(types.ManagedObjectReference)
	return obj, request.FieldByName("Prop").String()
}

func mayFetch(ctx *simulator.Context, s *core.Sim, body types.AnyType) types.BaseMethodFault {
	obj, path := fetched(body)
	if _, known := ManagedType(obj.Type); known && !ValidPath(obj.Type, path) {
		return &types.InvalidProperty{Name: path}
	}
	return denied(ctx, s, obj, path)
}
