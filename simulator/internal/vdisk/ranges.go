// SPDX-License-Identifier: Apache-2.0

package vdisk

import (
	"os"
	"sort"
)

// Range is a part of a disk, from Start to before End, in bytes.
type Range struct{ Start, End int64 }

// lseek's requests for the next data and the next hole, as Linux numbers them.
const (
	seekData = 3
	seekHole = 4
)

// FileRanges lists where a sparse file holds data. Where the file system cannot tell, all of it counts as data.
func FileRanges(f *os.File, size int64) []Range {
	var ranges []Range
	for at := int64(0); at < size; {
		start, err := f.Seek(at, seekData)
		if err != nil { // beyond the last data, or not supported
			if _, holes := f.Seek(0, seekHole); holes != nil {
				return []Range{{0, size}}
			}
			break
		}
		end, err := f.Seek(start, seekHole)
		if err != nil || end > size {
			end = size
		}
		if start >= size {
			break
		}
		ranges = append(ranges, Range{start, end})
		at = end
	}
	return ranges
}

// union merges ranges, of however many disks, into ordered ones that do not touch.
func union(ranges []Range) []Range {
	sort.Slice(ranges, func(i, j int) bool { return ranges[i].Start < ranges[j].Start })
	var merged []Range
	for _, r := range ranges {
		if n := len(merged); n > 0 && r.Start <= merged[n-1].End {
			merged[n-1].End = max(merged[n-1].End, r.End)
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// blocks counts the bytes of the blocks of a size that ranges touch.
func blocks(ranges []Range, block int64) int64 {
	var count, next int64 // next is the first block that is not counted yet
	for _, r := range ranges {
		first, last := max(r.Start/block, next), (r.End-1)/block
		if r.End > r.Start && last >= first {
			count += last - first + 1
			next = last + 1
		}
	}
	return count * block
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
