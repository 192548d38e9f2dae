// SPDX-License-Identifier: Apache-2.0

// Package door lets a Cinder or Nova driver in: what stops oslo.vmware at a stock simulator is mended here.
package door

import (
	"github.com/vmware/govmomi/pbm/simulator"

	"vcenter-sim/internal/core"
)

// Feature is the door.
var Feature = core.Feature{
	Name: "door",
	Rules: []core.Rule{{Name: "schema", Test: "test_schema.RequestsTestCase.test_elements_out_of_order_are_refused",
		Relaxes: "requests are accepted whose elements are unknown, missing or in another order than " +
			"in the WSDL"}},
	Start: start,
}

func start(s *core.Sim) error {
	serveWSDL(s)
	s.WrapHTTP(zoneTimestamps)
	if !s.Lenient("schema") {
		s.WrapHTTP(checkRequests)
	}
	policies := simulator.New()
	s.Model.Service.RegisterSDK(policies)
	s.Attach(policies)
	answerPolicyQueries(s)
	return nil
}
