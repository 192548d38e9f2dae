// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"flag"
	"fmt"
	"strconv"
	"time"
)

// settings are the feature's flags.
var settings = struct {
	// leaseTimeout ends a lease that is not kept alive.
	leaseTimeout time.Duration
	// figuresRefresh is how often datastores say what is free.
	figuresRefresh time.Duration
	// lockRelease is how long a disk stays locked that a running machine has given back.
	lockRelease time.Duration
}{leaseTimeout: 300 * time.Second, figuresRefresh: 300 * time.Second, lockRelease: time.Second}

func flags(set *flag.FlagSet) {
	seconds(set, &settings.leaseTimeout, "lease-timeout", 1,
		"end a lease `SECONDS` after the last HttpNfcLeaseProgress")
	seconds(set, &settings.figuresRefresh, "figures-refresh", 1,
		"let datastores say what is free every `SECONDS`, if no client asks them to before")
	seconds(set, &settings.lockRelease, "lock-release", 0,
		"keep a disk locked for `SECONDS` after a running machine has given it back")
}

// seconds declares a flag for a time that is not shorter than so many seconds.
func seconds(set *flag.FlagSet, target *time.Duration, name string, least int, usage string) {
	set.Func(name, fmt.Sprintf("%s (default %d)", usage, *target/time.Second), func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < least {
			return fmt.Errorf("give a whole number of seconds, at least %d", least)
		}
		*target = time.Duration(n) * time.Second
		return nil
	})
}
