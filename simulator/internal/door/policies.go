// SPDX-License-Identifier: Apache-2.0

package door

import (
	"github.com/vmware/govmomi/pbm/methods"
	pbm "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"

	"vcenter-sim/internal/core"
)

// answerPolicyQueries makes the storage policy API speak to the WSDLs that oslo.vmware carries.
func answerPolicyQueries(s *core.Sim) {
	core.Override(s, func(ctx *simulator.Context, _ *pbm.PbmRetrieveContent, next core.Next) soap.HasFault {
		answer, ok := next().(*methods.PbmRetrieveContentBody)
		if !ok || answer.Res == nil {
			return answer
		}
		profiles := make([]pbm.BasePbmProfile, len(answer.Res.Returnval))
		for i, profile := range answer.Res.Returnval {
			profiles[i] = withoutKubernetesNames(profile)
		}
		answer.Res.Returnval = profiles
		return answer
	})
}

// withoutKubernetesNames leaves out elements that are younger than oslo.vmware's WSDLs; suds refuses what it does not know.
func withoutKubernetesNames(profile pbm.BasePbmProfile) pbm.BasePbmProfile {
	switch p := profile.(type) {
	case *pbm.PbmCapabilityProfile:
		plain := *p
		plain.K8sCompliantName, plain.OtherK8sCompliantNames = "", nil
		return &plain
	case *pbm.PbmDefaultCapabilityProfile:
		plain := *p
		plain.K8sCompliantName, plain.OtherK8sCompliantNames = "", nil
		return &plain
	}
	return profile
}
