// SPDX-License-Identifier: Apache-2.0

package vdisk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// BlockBytes is the unit in which a thin disk and a delta take space: VMFS's block.
const BlockBytes = 1 << 20

// volumesRoot is where volumes are found: an absolute path in a descriptor begins with /vmfs/volumes, and the simulator keeps
// that under "ds:" in its working directory.
const volumesRoot = "ds:"

const longestChain = 255

// Disk is an open virtual disk, with all that it reads through.
type Disk struct {
	Path       string // of the descriptor
	Descriptor *Descriptor
	Parent     *Disk

	flat   *os.File
	delta  *delta
	sparse *sparse
}

// Open opens a disk for reading.
func Open(file string) (*Disk, error) { return open(file, os.O_RDONLY, 0) }

// OpenForWriting opens a disk for writing; its parents are only read.
func OpenForWriting(file string) (*Disk, error) { return open(file, os.O_RDWR, 0) }

func open(file string, flag, depth int) (*Disk, error) {
	if depth > longestChain {
		return nil, fmt.Errorf("%s: the chain of parents does not end", file)
	}
	descriptor, err := ReadDescriptor(file)
	if err != nil {
		return nil, err
	}
	d := &Disk{Path: file, Descriptor: descriptor}
	switch descriptor.CreateType {
	case TypeMonolithicSparse, TypeStreamOptimized:
		if flag != os.O_RDONLY {
			return nil, fmt.Errorf("%s: a %s disk is only read", file, descriptor.CreateType)
		}
		d.sparse, err = openSparse(file)
	case TypeDelta:
		if d.delta, err = openDelta(d.extentPath(), flag); err == nil {
			d.Parent, err = open(ParentPath(file, descriptor), os.O_RDONLY, depth+1)
		}
	default:
		d.flat, err = os.OpenFile(d.extentPath(), flag, 0)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Disk) extentPath() string { return ExtentPath(d.Path, d.Descriptor) }

// ExtentPath is where the content of a disk lies: in the folder of its descriptor.
func ExtentPath(file string, descriptor *Descriptor) string {
	return path.Join(path.Dir(file), path.Base(descriptor.Extents[0].File))
}

// ParentPath is where the parent's descriptor lies, or "".
func ParentPath(file string, descriptor *Descriptor) string {
	switch hint := descriptor.ParentHint; {
	case hint == "":
		return ""
	case strings.HasPrefix(hint, "/"):
		return volumesRoot + path.Clean(hint)
	default:
		return path.Join(path.Dir(file), hint)
	}
}

// ParentHint is how a descriptor in a file names a parent: relative if they lie together.
func ParentHint(file, parent string) string {
	if path.Dir(file) == path.Dir(parent) {
		return path.Base(parent)
	}
	return strings.TrimPrefix(parent, volumesRoot)
}

// Close closes the disk and its parents.
func (d *Disk) Close() {
	for ; d != nil; d = d.Parent {
		if d.flat != nil {
			_ = d.flat.Close()
		}
		if d.delta != nil {
			_ = d.delta.file.Close()
		}
		if d.sparse != nil {
			_ = d.sparse.file.Close()
		}
	}
}

// CapacityBytes implements Content.
func (d *Disk) CapacityBytes() int64 { return d.Descriptor.CapacityBytes() }

// ReadAt implements Content. What was written nowhere in the chain reads as zeros.
func (d *Disk) ReadAt(p []byte, off int64) error {
	switch {
	case d.flat != nil:
		n, err := d.flat.ReadAt(p, off)
		if err == io.EOF {
			clear(p[n:])
			err = nil
		}
		return err
	case d.sparse != nil:
		return d.sparse.readAt(p, off)
	}
	for len(p) > 0 {
		grain := off / grainBytes
		n := min(int64(len(p)), (grain+1)*grainBytes-off)
		err := d.readGrain(p[:n], off, grain)
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (d *Disk) readGrain(p []byte, off, grain int64) error {
	if d.delta.has(grain) {
		return d.delta.readAt(p, off)
	}
	return readWithin(d.Parent, p, off)
}

// readWithin reads from a disk that may be smaller than the one above it.
func readWithin(d *Disk, p []byte, off int64) error {
	inside := max(0, min(int64(len(p)), d.CapacityBytes()-off))
	clear(p[inside:])
	if inside == 0 {
		return nil
	}
	return d.ReadAt(p[:inside], off)
}

// WriteAt writes what a guest writes.
func (d *Disk) WriteAt(p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > d.CapacityBytes() {
		return errors.New("this is beyond the end of the disk")
	}
	if d.flat != nil {
		_, err := d.flat.WriteAt(p, off)
		return err
	}
	if d.delta == nil {
		return errors.New("this disk is only read")
	}
	for len(p) > 0 {
		grain := off / grainBytes
		n := min(int64(len(p)), (grain+1)*grainBytes-off)
		if err := d.writeGrain(p[:n], off, grain); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// writeGrain brings the rest of a grain from the parent, when it is first written.
func (d *Disk) writeGrain(p []byte, off, grain int64) error {
	start := grain * grainBytes
	length := min(grainBytes, d.CapacityBytes()-start)
	if d.delta.has(grain) || int64(len(p)) == length {
		return d.delta.writeAt(p, off)
	}
	whole := make([]byte, length)
	if err := readWithin(d.Parent, whole, start); err != nil {
		return err
	}
	copy(whole[off-start:], p)
	return d.delta.writeAt(whole, start)
}

// Ranges implements Content.
func (d *Disk) Ranges() []Range {
	var all []Range
	for layer := d; layer != nil; layer = layer.Parent {
		all = append(all, layer.own()...)
	}
	return clip(union(all), d.CapacityBytes())
}

// own lists what this layer alone holds.
func (d *Disk) own() []Range {
	switch {
	case d.flat != nil:
		return FileRanges(d.flat, d.CapacityBytes())
	case d.sparse != nil:
		return d.sparse.ranges()
	}
	return d.delta.ranges()
}

func clip(ranges []Range, end int64) []Range {
	kept := ranges[:0]
	for _, r := range ranges {
		if r.Start < end {
			kept = append(kept, Range{r.Start, min(r.End, end)})
		}
	}
	return kept
}

// Growth is the space at most, in bytes, that writing the ranges would newly take on this disk.
func (d *Disk) Growth(ranges []Range) int64 {
	if d.flat != nil && !d.Descriptor.Thin() {
		return 0
	}
	own := d.own()
	before := blocks(own, BlockBytes)
	return blocks(union(append(append([]Range(nil), own...), ranges...)), BlockBytes) - before
}

// Bytes is the space that a thin copy of this disk takes.
func Bytes(content Content) int64 { return blocks(content.Ranges(), BlockBytes) }
