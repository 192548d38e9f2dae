// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"sync/atomic"
	"time"
)

var lastVersion atomic.Int64 // microseconds

// NewVersion is a config.changeVersion that no virtual machine has had.
func NewVersion() string {
	for {
		last, now := lastVersion.Load(), time.Now().UnixMicro()
		if now = max(now, last+1); lastVersion.CompareAndSwap(last, now) {
			return version(time.UnixMicro(now))
		}
	}
}

// version writes a time as a vCenter writes a changeVersion: "2022-12-12T11:48:35.473645Z".
func version(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }
