// SPDX-License-Identifier: Apache-2.0

package vdisk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"
)

// A delta's extent is a map of the grains that were written, one bit each, and the grains at their own places behind it. (A
// host's format differs; drivers never look inside.)
const (
	deltaMagic   = "VSIMDELT"
	deltaHeader  = 4096
	grainBytes   = 64 << 10
	deltaAlignTo = 1 << 20
)

type delta struct {
	file     *os.File
	capacity int64
	written  []byte // the map
	data     int64  // where the grains begin
}

func createDelta(path string, capacity int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	header := make([]byte, 16)
	copy(header, deltaMagic)
	binary.LittleEndian.PutUint64(header[8:], uint64(capacity))
	if _, err := f.WriteAt(header, 0); err != nil {
		return err
	}
	return f.Truncate(dataOffset(capacity) + capacity)
}

func mapBytes(capacity int64) int64 { return ((capacity+grainBytes-1)/grainBytes + 7) / 8 }

func dataOffset(capacity int64) int64 {
	return (deltaHeader + mapBytes(capacity) + deltaAlignTo - 1) / deltaAlignTo * deltaAlignTo
}

func isDelta(head []byte) bool { return bytes.HasPrefix(head, []byte(deltaMagic)) }

func openDelta(path string, flag int) (*delta, error) {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	header := make([]byte, 16)
	if _, err := f.ReadAt(header, 0); err != nil || !isDelta(header) {
		_ = f.Close()
		return nil, fmt.Errorf("%s is no delta", path)
	}
	d := &delta{file: f, capacity: int64(binary.LittleEndian.Uint64(header[8:]))}
	d.data = dataOffset(d.capacity)
	d.written = make([]byte, mapBytes(d.capacity))
	if _, err := f.ReadAt(d.written, deltaHeader); err != nil && err != io.EOF {
		_ = f.Close()
		return nil, err
	}
	return d, nil
}

func (d *delta) has(grain int64) bool { return d.written[grain/8]&(1<<(grain%8)) != 0 }

func (d *delta) grains() int64 {
	var count int
	for _, b := range d.written {
		count += bits.OnesCount8(b)
	}
	return int64(count)
}

func (d *delta) readAt(p []byte, off int64) error {
	_, err := d.file.ReadAt(p, d.data+off)
	if err == io.EOF {
		err = nil
	}
	return err
}

// writeAt writes within grains; the caller has brought the rest of a grain that is written for the first time.
func (d *delta) writeAt(p []byte, off int64) error {
	if _, err := d.file.WriteAt(p, d.data+off); err != nil {
		return err
	}
	for grain := off / grainBytes; grain <= (off+int64(len(p))-1)/grainBytes; grain++ {
		if !d.has(grain) {
			d.written[grain/8] |= 1 << (grain % 8)
			if _, err := d.file.WriteAt(d.written[grain/8:grain/8+1], deltaHeader+grain/8); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *delta) ranges() []Range {
	var ranges []Range
	for grain := int64(0); grain*grainBytes < d.capacity; grain++ {
		if grain%8 == 0 && d.written[grain/8] == 0 {
			grain += 7
			continue
		}
		if d.has(grain) {
			ranges = append(ranges, Range{grain * grainBytes, min((grain+1)*grainBytes, d.capacity)})
		}
	}
	return union(ranges)
}
