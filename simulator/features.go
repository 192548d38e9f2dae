// SPDX-License-Identifier: Apache-2.0

package main

import (
	"vcenter-sim/internal/collector"
	"vcenter-sim/internal/core"
	"vcenter-sim/internal/door"
)

// features start in this order. Of two overrides of one method, the one registered later runs first.
var features = []core.Feature{
	door.Feature,
	collector.Feature,
}
