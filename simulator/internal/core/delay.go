// SPDX-License-Identifier: Apache-2.0

package core

import (
	"math/rand"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
)

// Delays slow the simulated vCenter down, as vcsim's flags of the same names do.
type Delays struct {
	// All is waited for by every call.
	All time.Duration
	// Methods is waited for by the methods named, in addition.
	Methods map[string]time.Duration
	// Jitter is the coefficient of variation of a call's delay.
	Jitter float64
	// Task is waited for by every task before it does its work.
	Task time.Duration
}

var (
	taskDelay  atomic.Int64
	taskNumber atomic.Int64
)

// nextTaskNumber counts on its own, above the library's, which counts all objects from 1.
func nextTaskNumber() int64 { return 1_000_000 + taskNumber.Add(1) }

func simulatedTaskDelay() {
	if d := time.Duration(taskDelay.Load()); d > 0 {
		time.Sleep(d)
	}
}

// SetDelays turns the delays on.
func (s *Sim) SetDelays(d Delays) {
	taskDelay.Store(int64(d.Task))
	delayLibrary(d.Task)
	if d.All <= 0 && len(d.Methods) == 0 {
		return
	}
	s.Around(func(ctx *simulator.Context, call *Call, next Next) soap.HasFault {
		wait := d.All + d.Methods[call.Name]
		if d.Jitter > 0 {
			wait += time.Duration(rand.NormFloat64() * d.Jitter * float64(wait))
		}
		if wait > 0 {
			time.Sleep(wait)
		}
		return next()
	})
}

// delayLibrary delays the tasks that are still the library's own. Those that are a part of ours (Sim.Inner) have waited already.
func delayLibrary(wait time.Duration) {
	if wait <= 0 {
		return
	}
	milliseconds := int(wait / time.Millisecond)
	delays := map[string]int{"LockHandoff": 0} // the object can be read meanwhile
	for _, name := range []string{"PowerOn", "PowerOff", "Suspend", "Reset", "EnterMaintenanceMode", "ExitMaintenanceMode"} {
		delays[name] = milliseconds
	}
	simulator.TaskDelay.MethodDelay = delays
}
