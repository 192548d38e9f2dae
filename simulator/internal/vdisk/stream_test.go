// SPDX-License-Identifier: Apache-2.0

package vdisk

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// recorded reads what a vCenter wrote, from the folder of recordings beside the repository.
func recorded(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "shared", "fixtures", "vmdk", name))
	if err != nil {
		t.Skipf("the recordings are not beside the repository: %v", err)
	}
	return data
}

// vary hides what differs from disk to disk, and keeps the lengths.
func vary(stream []byte) string {
	head := string(stream[:1024])
	head = regexp.MustCompile(`\nCID=[0-9a-f]{8} `).ReplaceAllString(head, "\nCID=00000000 ")
	head = regexp.MustCompile(`longContentID = "[0-9a-f]{24}`).ReplaceAllString(head, `longContentID = "`+strings.Repeat("0", 24))
	return head + string(stream[1024:])
}

// TestAnExportIsWrittenAsAVCenterWritesIt follows disk-0.vmdk, an empty disk of 1 MiB that vSphere exported: every byte of it.
func TestAnExportIsWrittenAsAVCenterWritesIt(t *testing.T) {
	want := recorded(t, "disk-0.vmdk")
	file := filepath.Join(t.TempDir(), "disk.vmdk")
	must(t, CreateFlat(file, Spec{CapacityBytes: mib, Thin: true, AdapterType: "buslogic"}))
	d, err := ReadDescriptor(file)
	must(t, err)
	d.DDB["virtualHWVersion"] = "7"
	must(t, d.Write(file))
	if got := stream(t, file); vary(got) != vary(want) {
		t.Errorf("%d bytes, not %d; the descriptor is\n%s\nand not\n%s", len(got), len(want), got[512:1024], want[512:1024])
	}
}

func TestRecordedStreamsAreRead(t *testing.T) {
	for name, capacity := range map[string]int64{"disk-0.vmdk": mib, "plain-vm.vmdk": 50 * mib} {
		data := recorded(t, name)
		head, err := ReadStreamHead(bytes.NewReader(data))
		must(t, err)
		must(t, head.Each(func([]byte, int64) error { t.Error("the disk is empty"); return nil }))
		file := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(file, data, 0o600))
		if got := int64(len(content(t, file))); head.Capacity != capacity || got != capacity {
			t.Errorf("%s holds %d bytes as a stream, %d at random, not %d", name, head.Capacity, got, capacity)
		}
		d, err := ReadDescriptor(file)
		must(t, err)
		if d.CreateType != TypeStreamOptimized || d.Extents[0].Access != "RDONLY" || !strings.HasSuffix(d.DDB["adapterType"], "logic") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestALibraryLeavesOutThePrefix follows plain-vm.vmdk, which a content library wrote.
func TestALibraryLeavesOutThePrefix(t *testing.T) {
	d, err := ParseDescriptor([]byte("# Disk DescriptorFile\nversion=1\nCID=6b53244c\nparentCID=ffffffff\n" +
		"createType=\"streamOptimized\"\n\n# Extent description\nRDONLY 2048 SPARSE \"generated-stream.vmdk\"\n\n#DDB\n" +
		"adapterType = \"lsilogic\"\nthinProvisioned = \"1\"\nuuid = \"60 00 C2 96 7a 7d 8a df-b9 82 f2 9a f6 58 f1 f7\"\n"))
	must(t, err)
	if !d.Thin() || d.UUID() != "6000c296-7a7d-8adf-b982-f29af658f1f7" || d.CapacityBytes() != mib {
		t.Errorf("%+v", d)
	}
}

// TestTablesFollowTheGrainsThatTheyCover follows "Virtual Disk Format 5.0", Stream-Optimized Compressed Sparse Extents: the
// grains that one table covers, its marker, the table, and so on; then the directory, the footer, the end.
func TestTablesFollowTheGrainsThatTheyCover(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.vmdk")
	flat(t, file, Spec{CapacityBytes: 200 * mib, Thin: true}, noise(100000, 1), 0)
	write(t, file, noise(512, 2), 100*mib)
	data := stream(t, file)
	var order []string
	for at := 128 * SectorBytes; at < len(data); {
		value, size := binary.LittleEndian.Uint64(data[at:]), binary.LittleEndian.Uint32(data[at+8:])
		if size > 0 {
			order = append(order, "grain")
			at += (12 + int(size) + SectorBytes - 1) / SectorBytes * SectorBytes
			continue
		}
		order = append(order, []string{"end", "table", "directory", "footer"}[binary.LittleEndian.Uint32(data[at+12:])])
		at += SectorBytes * (1 + int(value))
	}
	if got := strings.Join(order, " "); got != "grain grain table grain table directory footer end" {
		t.Error(got)
	}
}

func TestGeometry(t *testing.T) {
	for capacity, want := range map[int64][2]int64{mib: {64, 32}, 50 * mib: {64, 32}, 1536 * mib: {128, 32}, 4096 * mib: {255, 63}} {
		if heads, sectors := geometry(capacity / SectorBytes); [2]int64{heads, sectors} != want {
			t.Errorf("%d bytes: %d heads, %d sectors", capacity, heads, sectors)
		}
	}
}
