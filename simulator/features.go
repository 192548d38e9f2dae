// SPDX-License-Identifier: Apache-2.0

package main

import (
	"vcenter-sim/internal/access"
	"vcenter-sim/internal/alarms"
	"vcenter-sim/internal/attributes"
	"vcenter-sim/internal/browser"
	"vcenter-sim/internal/checks"
	"vcenter-sim/internal/clusters"
	"vcenter-sim/internal/collector"
	"vcenter-sim/internal/core"
	"vcenter-sim/internal/door"
	"vcenter-sim/internal/faults"
	"vcenter-sim/internal/guard"
	"vcenter-sim/internal/history"
	"vcenter-sim/internal/iorm"
	"vcenter-sim/internal/journal"
	"vcenter-sim/internal/logins"
	"vcenter-sim/internal/machines"
	"vcenter-sim/internal/maintenance"
	"vcenter-sim/internal/mounts"
	"vcenter-sim/internal/pods"
	"vcenter-sim/internal/policies"
	"vcenter-sim/internal/privileges"
	"vcenter-sim/internal/rename"
	"vcenter-sim/internal/storage"
	"vcenter-sim/internal/tagging"
	"vcenter-sim/internal/updates"
	"vcenter-sim/internal/volumes"
)

// features start in this order. Of two overrides of one method, the one registered later runs first.
var features = []core.Feature{
	door.Feature,
	collector.Feature,
	storage.Feature,
	rename.Feature,
	maintenance.Feature,
	mounts.Feature,
	access.Feature,
	volumes.Feature,
	pods.Feature,
	clusters.Feature,
	browser.Feature,
	iorm.Feature,
	alarms.Feature,
	attributes.Feature,
	tagging.Feature,
	policies.Feature,

	guard.Feature,
	history.Feature,
	machines.Feature,
	updates.Feature,
	checks.Feature,

	// These stand between the clients and all others, so they come last.
	privileges.Feature,
	logins.Feature,
	faults.Feature,
	journal.Feature,

	// Behind this a cookie's value is the session's key.
	logins.Cookies,
}
