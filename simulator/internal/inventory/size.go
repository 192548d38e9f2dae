// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

var sizePattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) *([KMGTP]?)(i?B)?$`)

// ParseSize reads a size in bytes: "100GiB", "1.5TiB", "512MB", "1073741824". GB is taken for GiB, as VMware does.
func ParseSize(text string) (int64, error) {
	match := sizePattern.FindStringSubmatch(strings.TrimSpace(text))
	if match == nil {
		return 0, fmt.Errorf("%q is no size: give a number and a unit, as 100GiB or 2TiB", text)
	}
	number, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no size: %w", text, err)
	}
	power := strings.Index("KMGTP", match[2]) + 1
	if match[2] == "" {
		power = 0
	}
	bytes := number * math.Pow(1024, float64(power))
	if bytes < 1<<20 || bytes > 1<<60 {
		return 0, fmt.Errorf("%q is out of range: a datastore holds 1MiB to 1024PiB", text)
	}
	return int64(bytes), nil
}
