// SPDX-License-Identifier: Apache-2.0

package vdisk

import (
	"io/fs"
	"os"
	"path"
	"strings"
)

// Cost is the space that a file takes on its datastore, in bytes.
type Cost struct {
	Used int64
	// Uncommitted is what it may take in addition, if it is written in full.
	Uncommitted int64
	// Disk is the descriptor that the file is an extent of, or "".
	Disk string
}

// CostOf measures a file: a thick disk takes its capacity; a thin disk and a delta the blocks that were written; any other file
// its length, but a log nothing, for it grows by itself, and a file in the making (x~) nothing yet.
func CostOf(file string, info fs.FileInfo) Cost {
	name := path.Base(file)
	switch {
	case info.IsDir() || strings.HasSuffix(name, ".log") || strings.HasSuffix(name, "~"):
		return Cost{}
	case strings.HasSuffix(name, "-flat.vmdk"):
		return flatCost(file, strings.TrimSuffix(file, "-flat.vmdk")+".vmdk", info)
	case strings.HasSuffix(name, "-delta.vmdk"):
		return deltaCost(file, strings.TrimSuffix(file, "-delta.vmdk")+".vmdk", info)
	}
	return Cost{Used: info.Size()}
}

func flatCost(file, descriptor string, info fs.FileInfo) Cost {
	d, err := ReadDescriptor(descriptor)
	if err != nil || ExtentPath(descriptor, d) != file {
		return Cost{Used: info.Size()}
	}
	capacity := max(d.CapacityBytes(), info.Size())
	if !d.Thin() {
		return Cost{Used: capacity, Disk: descriptor}
	}
	f, err := os.Open(file)
	if err != nil {
		return Cost{Used: info.Size()}
	}
	defer f.Close()
	used := blocks(FileRanges(f, info.Size()), BlockBytes)
	return Cost{Used: used, Uncommitted: max(0, capacity-used), Disk: descriptor}
}

func deltaCost(file, descriptor string, info fs.FileInfo) Cost {
	d, err := openDelta(file, os.O_RDONLY)
	if err != nil {
		return Cost{Used: info.Size()}
	}
	defer d.file.Close()
	used := blocks(d.ranges(), BlockBytes)
	return Cost{Used: BlockBytes + used, Uncommitted: max(0, d.capacity-used), Disk: descriptor}
}
