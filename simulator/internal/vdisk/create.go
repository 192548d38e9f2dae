// SPDX-License-Identifier: Apache-2.0

package vdisk

import (
	"fmt"
	"io"
	"math/rand"
	"os"
	"path"
	"strings"
)

// Spec says what a new flat disk is.
type Spec struct {
	CapacityBytes int64
	Thin, Eager   bool
	AdapterType   string // as descriptors write it; "" is lsilogic
	UUID          string // in any notation; "" makes one
}

// CreateFlat makes an empty flat disk. The descriptor is made last: a disk is there when its descriptor is.
func CreateFlat(file string, spec Spec) error {
	extent := ExtentName(file, "-flat")
	f, err := os.OpenFile(extent, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(spec.CapacityBytes)
	if closing := f.Close(); err == nil {
		err = closing
	}
	d := NewDescriptor(TypeVMFS, "VMFS", path.Base(extent), spec.CapacityBytes)
	d.CID = rand.Uint32() &^ 1
	d.SetProvisioning(spec.Thin, spec.Eager)
	if spec.AdapterType != "" {
		d.DDB["adapterType"] = spec.AdapterType
	}
	if err == nil {
		err = setUUID(d, spec.UUID)
	}
	if err == nil {
		err = writeNew(file, d)
	}
	if err != nil {
		_ = os.Remove(extent)
	}
	return err
}

// CreateDelta makes an empty delta on a parent.
func CreateDelta(file, parent string) error {
	under, err := ReadDescriptor(parent)
	if err != nil {
		return err
	}
	extent := ExtentName(file, "-delta")
	if err := createDelta(extent, under.CapacityBytes()); err != nil {
		return err
	}
	d := NewDescriptor(TypeDelta, "VMFSSPARSE", path.Base(extent), under.CapacityBytes())
	d.CID, d.ParentCID = rand.Uint32()&^1, under.CID
	d.ParentHint = ParentHint(file, parent)
	for key, value := range under.DDB {
		d.DDB[key] = value
	}
	delete(d.DDB, "eagerlyScrubbed")
	delete(d.DDB, "thinProvisioned")
	if err := writeNew(file, d); err != nil {
		_ = os.Remove(extent)
		return err
	}
	return nil
}

// ExtentName is the extent's file for a descriptor's: disk.vmdk has disk-flat.vmdk.
func ExtentName(file, suffix string) string {
	return strings.TrimSuffix(file, ".vmdk") + suffix + ".vmdk"
}

func writeNew(file string, d *Descriptor) error {
	if _, err := os.Lstat(file); err == nil {
		return os.ErrExist
	}
	return d.Write(file)
}

func setUUID(d *Descriptor, uuid string) error {
	if uuid == "" {
		uuid = NewUUID()
	}
	return d.SetUUID(uuid)
}

// NewUUID makes a virtual disk's uuid; VMware's begin with 6000C29.
func NewUUID() string {
	return fmt.Sprintf("6000C29%x-%04x-%04x-%04x-%012x", rand.Intn(16), rand.Intn(1<<16), rand.Intn(1<<16), rand.Intn(1<<16),
		rand.Int63n(1<<48))
}

// Fill writes a disk's content into an empty one of at least its capacity. Zeros are not written.
func Fill(target *Disk, source Content) error {
	buffer := make([]byte, BlockBytes)
	for _, r := range source.Ranges() {
		for at := r.Start; at < r.End; {
			n := min(BlockBytes-at%BlockBytes, r.End-at)
			if err := source.ReadAt(buffer[:n], at); err != nil {
				return err
			}
			if err := writeNonZero(target, buffer[:n], at); err != nil {
				return err
			}
			at += n
		}
	}
	return nil
}

func writeNonZero(target *Disk, p []byte, off int64) error {
	for len(p) > 0 {
		n := min(int64(len(p)), grainBytes)
		if !allZero(p[:n]) {
			if err := target.WriteAt(p[:n], off); err != nil {
				return err
			}
		}
		p, off = p[n:], off+n
	}
	return nil
}

// Merge writes a delta's own grains into the disk below it, zeros too: they hide what was there.
func Merge(target, upper *Disk) error {
	buffer := make([]byte, grainBytes)
	for _, r := range upper.delta.ranges() {
		for at := r.Start; at < r.End; at += grainBytes {
			n := min(grainBytes, r.End-at)
			if err := upper.delta.readAt(buffer[:n], at); err != nil {
				return err
			}
			if err := target.WriteAt(buffer[:n], at); err != nil {
				return err
			}
		}
	}
	return nil
}

// OwnRanges lists what a delta alone holds.
func (d *Disk) OwnRanges() []Range { return d.own() }

// Extend makes a flat disk larger. The new part is zeros.
func Extend(file string, capacityBytes int64) error {
	d, err := ReadDescriptor(file)
	if err != nil {
		return err
	}
	if d.CreateType == TypeDelta || len(d.Extents) != 1 {
		return fmt.Errorf("%s: only a flat disk can be extended", file)
	}
	if err := os.Truncate(ExtentPath(file, d), capacityBytes); err != nil {
		return err
	}
	d.Extents[0].Sectors = capacityBytes / SectorBytes
	return d.Write(file)
}

// Files lists the files of one disk: its descriptor and, apart from it, its extents.
func Files(file string, d *Descriptor) []string {
	files := []string{file}
	for _, extent := range d.Extents {
		if name := path.Base(extent.File); d.CreateType != TypeMonolithicSparse && d.CreateType != TypeStreamOptimized {
			files = append(files, path.Join(path.Dir(file), name))
		}
	}
	return files
}

// Remove deletes a disk's files; the parents stay.
func Remove(file string) error {
	d, err := ReadDescriptor(file)
	if err != nil {
		return err
	}
	for _, f := range Files(file, d) {
		if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// Move renames a disk's files, within one file system, and rewrites what the descriptor says about them.
func Move(from, to string) error {
	if err := transfer(from, to, os.Rename); err != nil {
		return err
	}
	if _, err := os.Lstat(from); os.IsNotExist(err) {
		return nil // it was the only file
	}
	return os.Remove(from)
}

// Copy copies one disk's files as they are; the copy reads through the same parents.
func Copy(from, to string) error { return transfer(from, to, CopySparse) }

func transfer(from, to string, file func(from, to string) error) error {
	d, err := ReadDescriptor(from)
	if err != nil {
		return err
	}
	if d.CreateType == TypeMonolithicSparse || d.CreateType == TypeStreamOptimized {
		return file(from, to)
	}
	parent := ParentPath(from, d)
	suffix := "-flat"
	if d.CreateType == TypeDelta {
		suffix = "-delta"
	}
	extent := ExtentName(to, suffix)
	if err := file(ExtentPath(from, d), extent); err != nil {
		return err
	}
	d.Extents[0].File = path.Base(extent)
	if parent != "" {
		d.ParentHint = ParentHint(to, parent)
	}
	return d.Write(to)
}

// CopySparse copies a file and keeps its holes.
func CopySparse(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := target.Truncate(info.Size()); err != nil {
		return err
	}
	for _, r := range FileRanges(source, info.Size()) {
		section := io.NewSectionReader(source, r.Start, r.End-r.Start)
		if _, err := io.Copy(io.NewOffsetWriter(target, r.Start), section); err != nil {
			return err
		}
	}
	return nil
}

// WriteFlat writes a flat extent with a content into a new file.
func WriteFlat(file string, capacityBytes int64, content Content) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(capacityBytes); err != nil {
		return err
	}
	d := &Disk{Descriptor: NewDescriptor(TypeVMFS, "VMFS", path.Base(file), capacityBytes), flat: f}
	return Fill(d, content)
}

// WriteSparsely writes to a file and leaves holes where there are grains of zeros. The file must be new.
func WriteSparsely(f *os.File, p []byte, off int64) error {
	for len(p) > 0 {
		n := min(int64(len(p)), grainBytes)
		if !allZero(p[:n]) {
			if _, err := f.WriteAt(p[:n], off); err != nil {
				return err
			}
		}
		p, off = p[n:], off+n
	}
	return nil
}
