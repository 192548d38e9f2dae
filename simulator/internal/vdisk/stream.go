// SPDX-License-Identifier: Apache-2.0

package vdisk

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Content is what can be read as a disk.
type Content interface {
	CapacityBytes() int64
	// ReadAt fills p from off; all of it is within the capacity.
	ReadAt(p []byte, off int64) error
	// Ranges lists the parts that may differ from zero, in order.
	Ranges() []Range
}

// WriteStream writes a disk as a streamOptimized extent, which is written and read from front to back. The descriptor in it,
// made by StreamDescriptor, says what the disk is.
func WriteStream(out io.Writer, disk Content, descriptor *Descriptor) error {
	w := &streamWriter{out: bufio.NewWriterSize(out, 1<<20)}
	text := descriptor.StreamText()
	w.header = sparseHeader{
		Magic: sparseMagic, Version: 3, Flags: flagNewlines | flagCompressed | flagMarkers,
		Capacity: uint64(descriptor.CapacityBytes() / SectorBytes), GrainSize: grainSectors, DescriptorOffset: 1,
		DescriptorSize: uint64(len(text)+SectorBytes-1) / SectorBytes, TableEntries: tableEntries,
		DirectoryOffset: directoryAtEnd, Overhead: grainSectors, Newlines: [4]byte{'\n', ' ', '\r', '\n'}, Compression: 1,
	}
	w.directory = make([]uint32, (w.header.Capacity+grainSectors*tableEntries-1)/(grainSectors*tableEntries))
	w.sector(&w.header)
	padded := make([]byte, (grainSectors-1)*SectorBytes)
	copy(padded, text)
	w.write(padded)
	w.content(disk)
	w.end()
	if w.err == nil {
		w.err = w.out.Flush()
	}
	return w.err
}

type streamWriter struct {
	out       *bufio.Writer
	header    sparseHeader
	at        int64    // bytes written
	directory []uint32 // the sector of each table
	table     []uint32 // the sectors of the grains that the table at hand covers, nil before the first
	number    int64    // of the table at hand
	err       error
}

func (w *streamWriter) write(p []byte) {
	if w.err == nil {
		_, w.err = w.out.Write(p)
		w.at += int64(len(p))
	}
}

func (w *streamWriter) sector(v any) {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, v)
	w.write(b.Bytes())
	w.pad()
}

func (w *streamWriter) pad() {
	if rest := w.at % SectorBytes; rest != 0 {
		w.write(make([]byte, SectorBytes-rest))
	}
}

func (w *streamWriter) marker(sectors uint64, kind uint32) {
	w.sector(struct {
		Sectors    uint64
		Size, Kind uint32
	}{sectors, 0, kind})
}

func (w *streamWriter) content(disk Content) {
	if err := EachGrain(disk, func(data []byte, off int64) error {
		w.grain(off/grainBytes, data)
		return w.err
	}); w.err == nil {
		w.err = err
	}
}

// EachGrain hands over the grains (64 KiB, the last one filled up with zeros) that hold more than zeros, in order.
func EachGrain(disk Content, take func(data []byte, off int64) error) error {
	capacity := disk.CapacityBytes()
	grain := make([]byte, grainBytes)
	done := int64(-1)
	for _, r := range disk.Ranges() {
		for index := max(r.Start/grainBytes, done+1); index*grainBytes < r.End; index++ {
			done = index
			clear(grain)
			n := min(grainBytes, capacity-index*grainBytes)
			if err := disk.ReadAt(grain[:n], index*grainBytes); err != nil {
				return err
			}
			if allZero(grain) {
				continue
			}
			if err := take(grain, index*grainBytes); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *streamWriter) grain(index int64, data []byte) {
	var packed bytes.Buffer
	z, _ := zlib.NewWriterLevel(&packed, zlib.BestSpeed)
	_, _ = z.Write(data)
	_ = z.Close()
	if number := index / tableEntries; w.table == nil || number != w.number {
		w.endTable()
		w.table, w.number = make([]uint32, tableEntries), number
	}
	w.table[index%tableEntries] = uint32(w.at / SectorBytes)
	head := make([]byte, 12)
	binary.LittleEndian.PutUint64(head, uint64(index*grainSectors))
	binary.LittleEndian.PutUint32(head[8:], uint32(packed.Len()))
	w.write(head)
	w.write(packed.Bytes())
	w.pad()
}

// endTable writes the table at hand after the grains that it covers. Tables without grains are left out.
func (w *streamWriter) endTable() {
	if w.table == nil {
		return
	}
	w.marker(tableEntries*4/SectorBytes, markerTable)
	w.directory[w.number] = uint32(w.at / SectorBytes)
	w.sector(w.table)
}

// end writes the last table, the directory, the footer and the end marker.
func (w *streamWriter) end() {
	w.endTable()
	w.marker(uint64((len(w.directory)*4+SectorBytes-1)/SectorBytes), markerDirectory)
	w.header.DirectoryOffset = uint64(w.at / SectorBytes)
	w.sector(w.directory)
	w.marker(1, markerFooter)
	w.sector(&w.header)
	w.marker(0, markerEnd)
}

// StreamHead is the beginning of a stream that is being read.
type StreamHead struct {
	Capacity int64 // bytes
	header   *sparseHeader
	in       *bufio.Reader
}

// ErrNotStream says that what came is no streamOptimized extent.
var ErrNotStream = errors.New("this is no streamOptimized VMDK")

// ReadStreamHead reads a stream up to its content.
func ReadStreamHead(in io.Reader) (*StreamHead, error) {
	r := bufio.NewReaderSize(in, 1<<20)
	sector := make([]byte, SectorBytes)
	if _, err := io.ReadFull(r, sector); err != nil {
		return nil, fmt.Errorf("%w: it ends within its header", ErrNotStream)
	}
	header, err := decodeHeader(sector)
	if err != nil || header.Flags&flagCompressed == 0 || header.Flags&flagMarkers == 0 {
		return nil, ErrNotStream
	}
	if _, err := io.CopyN(io.Discard, r, (int64(header.Overhead)-1)*SectorBytes); err != nil {
		return nil, fmt.Errorf("%w: it ends within its header", ErrNotStream)
	}
	return &StreamHead{Capacity: int64(header.Capacity) * SectorBytes, header: header, in: r}, nil
}

// Each hands over the grains, in the order in which they come. It fails if the stream ends before its end marker, except
// between grains: some writers leave the marker out.
func (s *StreamHead) Each(take func(data []byte, off int64) error) error {
	sector := make([]byte, SectorBytes)
	for {
		if _, err := io.ReadFull(s.in, sector); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("the stream is cut: %w", err)
		}
		value, size := binary.LittleEndian.Uint64(sector), binary.LittleEndian.Uint32(sector[8:])
		if size == 0 {
			if binary.LittleEndian.Uint32(sector[12:]) == markerEnd {
				_, err := io.Copy(io.Discard, s.in)
				return err
			}
			if _, err := io.CopyN(io.Discard, s.in, int64(value)*SectorBytes); err != nil {
				return fmt.Errorf("the stream is cut: %w", err)
			}
			continue
		}
		if err := s.takeGrain(sector, value, size, take); err != nil {
			return err
		}
	}
}

func (s *StreamHead) takeGrain(sector []byte, lba uint64, size uint32, take func([]byte, int64) error) error {
	if int64(size) > int64(s.header.GrainSize)*SectorBytes*2 || lba >= s.header.Capacity {
		return fmt.Errorf("a grain of %d bytes at sector %d cannot be", size, lba)
	}
	packed := make([]byte, (12+int64(size)+SectorBytes-1)/SectorBytes*SectorBytes)
	copy(packed, sector)
	if _, err := io.ReadFull(s.in, packed[SectorBytes:]); err != nil {
		return fmt.Errorf("the stream is cut: %w", err)
	}
	grain, err := inflate(bytes.NewReader(packed[12:12+size]), int64(s.header.GrainSize)*SectorBytes)
	if err != nil {
		return fmt.Errorf("the grain at sector %d: %w", lba, err)
	}
	off := int64(lba) * SectorBytes
	return take(grain[:min(int64(len(grain)), s.Capacity-off)], off)
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
