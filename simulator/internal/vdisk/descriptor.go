// SPDX-License-Identifier: Apache-2.0

// Package vdisk keeps virtual disks as a vSphere host does: a descriptor, and extents that hold the content. Content is real;
// what was never written costs nothing on the machine, because the files are sparse.
//
// Formats, after VMware's "Virtual Disk Format 5.0": flat (thin and thick, zeroed eagerly or lazily), deltas on a parent,
// monolithicSparse and streamOptimized.
package vdisk

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// SectorBytes is the unit in which descriptors and sparse extents count.
const SectorBytes = 512

// Create types of a descriptor.
const (
	TypeVMFS             = "vmfs"
	TypeDelta            = "vmfsSparse"
	TypeMonolithicSparse = "monolithicSparse"
	TypeStreamOptimized  = "streamOptimized"
)

// Descriptor is the text that describes a virtual disk.
type Descriptor struct {
	CreateType string
	CID        uint32
	ParentCID  uint32
	// ParentHint names the parent's descriptor: a file in the same folder, or an absolute path (/vmfs/volumes/...).
	ParentHint string
	Extents    []Extent
	// DDB is the disk data base, without the prefix "ddb.".
	DDB map[string]string
}

// Extent is a line of a descriptor's extent description.
type Extent struct {
	Access  string
	Sectors int64
	Kind    string
	File    string
}

const noParent = 0xffffffff

// NewDescriptor describes a disk with one extent.
func NewDescriptor(createType, extentKind, extentFile string, capacityBytes int64) *Descriptor {
	return &Descriptor{
		CreateType: createType, CID: 0xfffffffe, ParentCID: noParent,
		Extents: []Extent{{Access: "RW", Sectors: capacityBytes / SectorBytes, Kind: extentKind, File: extentFile}},
		DDB:     map[string]string{"adapterType": "lsilogic", "virtualHWVersion": "14"},
	}
}

// CapacityBytes is the size that a guest sees.
func (d *Descriptor) CapacityBytes() int64 {
	var sectors int64
	for _, extent := range d.Extents {
		sectors += extent.Sectors
	}
	return sectors * SectorBytes
}

// Thin reports whether a flat disk takes space as it is written.
func (d *Descriptor) Thin() bool { return d.DDB["thinProvisioned"] == "1" }

// Eager reports whether a thick disk was zeroed when it was made.
func (d *Descriptor) Eager() bool { return d.DDB["eagerlyScrubbed"] == "1" }

// SetProvisioning says how a flat disk takes its space.
func (d *Descriptor) SetProvisioning(thin, eager bool) {
	delete(d.DDB, "thinProvisioned")
	delete(d.DDB, "eagerlyScrubbed")
	if thin {
		d.DDB["thinProvisioned"] = "1"
	} else if eager {
		d.DDB["eagerlyScrubbed"] = "1"
	}
}

// UUID is the disk's, as the API writes it (6000C29x-xxxx-xxxx-xxxx-xxxxxxxxxxxx), or "".
func (d *Descriptor) UUID() string {
	hex := strings.NewReplacer(" ", "", "-", "").Replace(d.DDB["uuid"])
	if len(hex) != 32 {
		return d.DDB["uuid"]
	}
	hex = strings.ToLower(hex)
	return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]
}

// SetUUID stores the uuid as descriptors write it: pairs of digits, the halves apart by a dash.
func (d *Descriptor) SetUUID(text string) error {
	hex := strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(text))
	if len(hex) != 32 || strings.Trim(hex, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is no uuid", text)
	}
	d.DDB["uuid"] = SpacedUUID(hex)
	return nil
}

// SpacedUUID writes a uuid as "60 00 C2 9x xx xx xx xx-xx xx xx xx xx xx xx xx".
func SpacedUUID(text string) string {
	hex := strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(text))
	if len(hex) != 32 {
		return text
	}
	var pairs []string
	for i := 0; i < len(hex); i += 2 {
		pairs = append(pairs, hex[i:i+2])
	}
	return strings.Join(pairs[:8], " ") + "-" + strings.Join(pairs[8:], " ")
}

// IsDescriptor reports whether a file's beginning is a descriptor in text.
func IsDescriptor(head []byte) bool { return bytes.HasPrefix(head, []byte("# Disk DescriptorFile")) }

// ReadDescriptor reads a descriptor, in a file of its own or embedded in a sparse extent.
func ReadDescriptor(file string) (*Descriptor, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, SectorBytes)
	n, _ := f.ReadAt(head, 0)
	if IsSparse(head[:n]) {
		header, err := readHeader(f)
		if err != nil {
			return nil, err
		}
		return header.descriptor(f)
	}
	if !IsDescriptor(head[:n]) {
		return nil, fmt.Errorf("%s is no virtual disk", filepath.Base(file))
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	text := make([]byte, min(info.Size(), 1<<20))
	n, _ = f.ReadAt(text, 0)
	return ParseDescriptor(text[:n])
}

// ParseDescriptor reads a descriptor's text.
func ParseDescriptor(text []byte) (*Descriptor, error) {
	d := &Descriptor{ParentCID: noParent, DDB: make(map[string]string)}
	scanner := bufio.NewScanner(bytes.NewReader(bytes.TrimRight(text, "\x00")))
	inDDB := false // a content library leaves out the prefix of the lines of the disk data base
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || line[0] == '#' {
			inDDB = inDDB || line == "#DDB" || line == "# The Disk Data Base"
			continue
		}
		if extent, ok := parseExtent(line); ok {
			d.Extents = append(d.Extents, extent)
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found {
			continue
		}
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)
		switch {
		case strings.HasPrefix(key, "ddb."):
			d.DDB[key[4:]] = value
		case inDDB:
			d.DDB[key] = value
		case strings.EqualFold(key, "CID"):
			d.CID = parseCID(value)
		case strings.EqualFold(key, "parentCID"):
			d.ParentCID = parseCID(value)
		case strings.EqualFold(key, "createType"):
			d.CreateType = value
		case strings.EqualFold(key, "parentFileNameHint"):
			d.ParentHint = value
		}
	}
	if len(d.Extents) == 0 {
		return nil, fmt.Errorf("the descriptor has no extent")
	}
	return d, scanner.Err()
}

func parseCID(text string) uint32 {
	n, _ := strconv.ParseUint(text, 16, 32)
	return uint32(n)
}

func parseExtent(line string) (Extent, bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != "RW" && fields[0] != "RDONLY" && fields[0] != "NOACCESS" {
		return Extent{}, false
	}
	sectors, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return Extent{}, false
	}
	extent := Extent{Access: fields[0], Sectors: sectors, Kind: fields[2]}
	if _, quoted, ok := strings.Cut(line, `"`); ok {
		extent.File, _, _ = strings.Cut(quoted, `"`)
	}
	return extent, true
}

// Text is the descriptor as it is written.
func (d *Descriptor) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08x\nparentCID=%08x\ncreateType=%q\n",
		d.CID, d.ParentCID, d.CreateType)
	if d.ParentHint != "" {
		fmt.Fprintf(&b, "parentFileNameHint=\"%s\"\n", d.ParentHint)
	}
	b.WriteString("\n# Extent description\n")
	for _, e := range d.Extents {
		fmt.Fprintf(&b, "%s %d %s \"%s\"\n", e.Access, e.Sectors, e.Kind, e.File)
	}
	b.WriteString("\n# The Disk Data Base\n#DDB\n\n")
	d.writeDDB(&b)
	return b.Bytes()
}

func (d *Descriptor) writeDDB(b *bytes.Buffer) {
	for _, key := range sortedKeys(d.DDB) {
		fmt.Fprintf(b, "ddb.%s = \"%s\"\n", key, d.DDB[key])
	}
}

// StreamDescriptor describes a disk as a vCenter does in what it exports: read-only, under a name that is no file's.
func StreamDescriptor(disk *Disk) *Descriptor {
	sectors := (disk.CapacityBytes() + SectorBytes - 1) / SectorBytes
	d := NewDescriptor(TypeStreamOptimized, "SPARSE", "generated-stream.vmdk", sectors*SectorBytes)
	d.Extents[0].Access = "RDONLY"
	d.CID = disk.Descriptor.CID
	for _, key := range []string{"adapterType", "virtualHWVersion"} {
		if value := disk.Descriptor.DDB[key]; value != "" {
			d.DDB[key] = value
		}
	}
	id := sha1.Sum([]byte(disk.Descriptor.UUID()))
	d.DDB["longContentID"] = fmt.Sprintf("%x%08x", id[:12], uint32(noParent-1))
	heads, perTrack := geometry(sectors)
	d.DDB["geometry.cylinders"] = strconv.FormatInt(sectors/(heads*perTrack), 10)
	d.DDB["geometry.heads"], d.DDB["geometry.sectors"] = strconv.FormatInt(heads, 10), strconv.FormatInt(perTrack, 10)
	return d
}

// geometry is the heads and the sectors of a track that a disk of that many sectors pretends to have.
func geometry(sectors int64) (heads, perTrack int64) {
	const gib = (1 << 30) / SectorBytes
	switch {
	case sectors < gib:
		return 64, 32
	case sectors < 2*gib:
		return 128, 32
	}
	return 255, 63
}

// StreamText is the descriptor as a vCenter writes it in what it exports, with spaces at the ends of the same lines.
func (d *Descriptor) StreamText() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1 \nCID=%08x \nparentCID=%08x \ncreateType=%q \n\n# Extent description\n",
		d.CID, d.ParentCID, d.CreateType)
	for _, e := range d.Extents {
		fmt.Fprintf(&b, "%s %d %s \"%s\"\n", e.Access, e.Sectors, e.Kind, e.File)
	}
	b.WriteString("\n# The Disk Data Base \n#DDB\n\n")
	d.writeDDB(&b)
	return b.Bytes()
}

// Write writes the descriptor to a file of its own, at once or not at all.
func (d *Descriptor) Write(file string) error {
	temporary := file + ".new~"
	if err := os.WriteFile(temporary, d.Text(), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}
