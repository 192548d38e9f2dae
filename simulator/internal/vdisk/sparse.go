// SPDX-License-Identifier: Apache-2.0

package vdisk

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Hosted sparse extents: monolithicSparse and streamOptimized.
const (
	sparseMagic     = 0x564d444b // "KDMV"
	flagNewlines    = 1 << 0
	flagCompressed  = 1 << 16
	flagMarkers     = 1 << 17
	directoryAtEnd  = ^uint64(0)
	tableEntries    = 512
	grainSectors    = grainBytes / SectorBytes
	markerEnd       = 0
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
)

// sparseHeader is the first sector of a sparse extent; offsets are in sectors.
type sparseHeader struct {
	Magic            uint32
	Version          uint32
	Flags            uint32
	Capacity         uint64
	GrainSize        uint64
	DescriptorOffset uint64
	DescriptorSize   uint64
	TableEntries     uint32
	RedundantOffset  uint64
	DirectoryOffset  uint64
	Overhead         uint64
	Unclean          uint8
	Newlines         [4]byte
	Compression      uint16
	_                [433]byte
}

// IsSparse reports whether a file's beginning is a sparse extent's.
func IsSparse(head []byte) bool {
	return len(head) >= 4 && binary.LittleEndian.Uint32(head) == sparseMagic
}

func decodeHeader(sector []byte) (*sparseHeader, error) {
	h := new(sparseHeader)
	if err := binary.Read(bytes.NewReader(sector), binary.LittleEndian, h); err != nil {
		return nil, err
	}
	if h.Magic != sparseMagic || h.Version < 1 || h.Version > 3 || h.GrainSize == 0 || h.GrainSize > 1<<16 ||
		h.Capacity > 1<<40 || h.TableEntries == 0 {
		return nil, errors.New("not a sparse extent of versions 1 to 3")
	}
	return h, nil
}

func readHeader(r io.ReaderAt) (*sparseHeader, error) {
	sector := make([]byte, SectorBytes)
	if _, err := r.ReadAt(sector, 0); err != nil {
		return nil, err
	}
	return decodeHeader(sector)
}

func (h *sparseHeader) descriptor(r io.ReaderAt) (*Descriptor, error) {
	if h.DescriptorOffset == 0 || h.DescriptorSize > 1<<12 {
		return nil, errors.New("the sparse extent holds no descriptor")
	}
	text := make([]byte, h.DescriptorSize*SectorBytes)
	if _, err := r.ReadAt(text, int64(h.DescriptorOffset*SectorBytes)); err != nil && err != io.EOF {
		return nil, err
	}
	return ParseDescriptor(text)
}

// sparse reads a sparse extent at random.
type sparse struct {
	file   *os.File
	header *sparseHeader
	grains []uint32 // sector of each grain; 0 is a hole, 1 is zeros
}

func openSparse(path string) (*sparse, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &sparse{file: f}
	if s.header, err = readHeader(f); err == nil && s.header.DirectoryOffset == directoryAtEnd {
		err = s.readFooter()
	}
	if err == nil {
		err = s.readTables()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

// readFooter takes the copy of the header that a stream has before its end marker.
func (s *sparse) readFooter() error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	sector := make([]byte, SectorBytes)
	if _, err := s.file.ReadAt(sector, info.Size()-2*SectorBytes); err != nil {
		return err
	}
	s.header, err = decodeHeader(sector)
	return err
}

func (s *sparse) readTables() error {
	h := s.header
	count := (h.Capacity + h.GrainSize - 1) / h.GrainSize
	tables := (count + uint64(h.TableEntries) - 1) / uint64(h.TableEntries)
	s.grains = make([]uint32, tables*uint64(h.TableEntries))
	directory := make([]uint32, tables)
	if err := s.readEntries(directory, h.DirectoryOffset); err != nil {
		return fmt.Errorf("grain directory: %w", err)
	}
	for i, offset := range directory {
		if offset != 0 {
			table := s.grains[i*int(h.TableEntries) : (i+1)*int(h.TableEntries)]
			if err := s.readEntries(table, uint64(offset)); err != nil {
				return fmt.Errorf("grain table %d: %w", i, err)
			}
		}
	}
	return nil
}

func (s *sparse) readEntries(entries []uint32, sector uint64) error {
	raw := make([]byte, len(entries)*4)
	if _, err := s.file.ReadAt(raw, int64(sector*SectorBytes)); err != nil {
		return err
	}
	for i := range entries {
		entries[i] = binary.LittleEndian.Uint32(raw[i*4:])
	}
	return nil
}

func (s *sparse) grainBytes() int64 { return int64(s.header.GrainSize) * SectorBytes }

func (s *sparse) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		index, within := off/s.grainBytes(), off%s.grainBytes()
		n := int(min(int64(len(p)), s.grainBytes()-within))
		if err := s.readGrain(p[:n], index, within); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (s *sparse) readGrain(p []byte, index, within int64) error {
	if index >= int64(len(s.grains)) || s.grains[index] < 2 {
		clear(p)
		return nil
	}
	at := int64(s.grains[index]) * SectorBytes
	if s.header.Flags&flagCompressed == 0 {
		_, err := s.file.ReadAt(p, at+within)
		return err
	}
	marker := make([]byte, 12)
	if _, err := s.file.ReadAt(marker, at); err != nil {
		return err
	}
	size := int64(binary.LittleEndian.Uint32(marker[8:]))
	grain, err := inflate(io.NewSectionReader(s.file, at+12, size), s.grainBytes())
	if err == nil {
		copy(p, grain[within:])
	}
	return err
}

// inflate unpacks one grain; what it lacks in length is zeros.
func inflate(packed io.Reader, length int64) ([]byte, error) {
	reader, err := zlib.NewReader(packed)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	data, err := io.ReadAll(io.LimitReader(reader, length+1)) // to the end, where the checksum is
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > length {
		return nil, fmt.Errorf("a grain of more than %d bytes", length)
	}
	return append(data, make([]byte, length-int64(len(data)))...), nil
}

func (s *sparse) ranges() []Range {
	var ranges []Range
	capacity := int64(s.header.Capacity) * SectorBytes
	for i, sector := range s.grains {
		if start := int64(i) * s.grainBytes(); sector > 1 && start < capacity {
			ranges = append(ranges, Range{start, min(start+s.grainBytes(), capacity)})
		}
	}
	return union(ranges)
}
