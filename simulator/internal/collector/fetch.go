// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"

	"vcenter-sim/internal/core"
)

// FetchResponse is the answer to Fetch, with which pyVmomi reads one property, for a property that is not set. Its name is the
// API's: the library makes the element's name of it.
type FetchResponse struct{}

type fetchBody struct {
	Res    *FetchResponse `xml:"urn:vim25 FetchResponse,omitempty"`
	Fault_ *soap.Fault    `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *fetchBody) Fault() *soap.Fault { return b.Fault_ }

// unsetIsNothing has Fetch answer with nothing for a property that is not set. (The library answers as to another method, and
// pyVmomi takes that for a property that does not exist.)
func unsetIsNothing(s *core.Sim) {
	s.Around(func(_ *simulator.Context, call *core.Call, next core.Next) soap.HasFault {
		answer := next()
		if _, other := answer.(*methods.RetrievePropertiesExBody); other && call.Name == "Fetch" && answer.Fault() == nil {
			return &fetchBody{Res: &FetchResponse{}}
		}
		return answer
	})
}
