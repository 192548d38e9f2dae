// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// settings are the feature's flags.
var settings = struct {
	// leaseTimeout ends a lease that is not kept alive.
	leaseTimeout time.Duration
	// copyRate is the bytes that are copied, moved or zeroed in a second; 0 takes no time.
	copyRate int64
	// figuresRefresh is how often datastores say what is free.
	figuresRefresh time.Duration
	// lockRelease is how long a disk stays locked that a running machine has given back.
	lockRelease time.Duration
	// newDiskUUID is what becomes of a uuid that a new disk is given.
	newDiskUUID string
}{newDiskUUID: uuidKept, leaseTimeout: 300 * time.Second, figuresRefresh: 300 * time.Second, lockRelease: time.Second}

// What may become of the uuid in the backing of a disk that is to be created. The API's reference does not say; programs of
// VMware's give one.
const (
	uuidKept    = "kept"
	uuidIgnored = "ignored"
	uuidRefused = "refused"
)

func flags(set *flag.FlagSet) {
	seconds(set, &settings.leaseTimeout, "lease-timeout", 1,
		"end a lease `SECONDS` after the last HttpNfcLeaseProgress")
	set.Func("copy-rate", "let clones, moves between datastores and zeroing take the time of `MIB` per second (default 0: none)",
		func(text string) error {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < 0 {
				return fmt.Errorf("give a whole number of MiB per second, 0 for no time")
			}
			settings.copyRate = n << 20
			return nil
		})
	seconds(set, &settings.figuresRefresh, "figures-refresh", 1,
		"let datastores say what is free every `SECONDS`, if no client asks them to before")
	seconds(set, &settings.lockRelease, "lock-release", 0,
		"keep a disk locked for `SECONDS` after a running machine has given it back")
	set.Func("new-disk-uuid", "say what becomes of the uuid that a new disk is given: `WHAT` is kept, ignored or refused (default kept)",
		func(text string) error {
			if !slices.Contains([]string{uuidKept, uuidIgnored, uuidRefused}, text) {
				return fmt.Errorf("give kept, ignored or refused")
			}
			settings.newDiskUUID = text
			return nil
		})
}

// takeTime waits for as long as it takes to copy so many bytes.
func takeTime(bytes int64) {
	if settings.copyRate > 0 && bytes > 0 {
		time.Sleep(time.Duration(float64(bytes) / float64(settings.copyRate) * float64(time.Second)))
	}
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
