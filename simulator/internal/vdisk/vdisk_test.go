// SPDX-License-Identifier: Apache-2.0

package vdisk

import (
	"bytes"
	"errors"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const mib = 1 << 20

func noise(size int, seed int64) []byte {
	data := make([]byte, size)
	_, _ = rand.New(rand.NewSource(seed)).Read(data)
	return data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// flat makes a flat disk with data at an offset.
func flat(t *testing.T, file string, spec Spec, data []byte, off int64) {
	t.Helper()
	must(t, CreateFlat(file, spec))
	write(t, file, data, off)
}

func write(t *testing.T, file string, data []byte, off int64) {
	t.Helper()
	d, err := OpenForWriting(file)
	must(t, err)
	defer d.Close()
	must(t, d.WriteAt(data, off))
}

func content(t *testing.T, file string) []byte {
	t.Helper()
	d, err := Open(file)
	must(t, err)
	defer d.Close()
	data := make([]byte, d.CapacityBytes())
	must(t, d.ReadAt(data, 0))
	return data
}

func used(t *testing.T, extent string) Cost {
	t.Helper()
	info, err := os.Stat(extent)
	must(t, err)
	return CostOf(extent, info)
}

func TestDescriptorComesBackAsItWent(t *testing.T) {
	d := NewDescriptor(TypeDelta, "VMFSSPARSE", "disk one-000001-delta.vmdk", 16*mib)
	d.CID, d.ParentCID, d.ParentHint = 0x12345678, 0x9abcdef0, "/vmfs/volumes/x y/disk one.vmdk"
	must(t, d.SetUUID("6000C29a-1111-2222-3333-444455556666"))
	d.SetProvisioning(true, false)
	back, err := ParseDescriptor(d.Text())
	must(t, err)
	if string(back.Text()) != string(d.Text()) {
		t.Errorf("%s\nis not\n%s", back.Text(), d.Text())
	}
	if back.UUID() != "6000c29a-1111-2222-3333-444455556666" || back.DDB["uuid"] != "60 00 c2 9a 11 11 22 22-33 33 44 44 55 55 66 66" {
		t.Errorf("the uuid is %q, written as %q", back.UUID(), back.DDB["uuid"])
	}
	if back.SetUUID("no uuid") == nil {
		t.Error("what is no uuid was taken for one")
	}
	for _, text := range []string{"", "# Disk DescriptorFile\nversion=1\n", "RW many VMFS \"x\"\n"} {
		if _, err := ParseDescriptor([]byte(text)); err == nil {
			t.Errorf("%q was taken for a descriptor", text)
		}
	}
}

func TestSpaceOfFlatDisks(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		spec              Spec
		used, uncommitted int64
	}{
		{Spec{CapacityBytes: 64 * mib, Thin: true}, 3 * mib, 61 * mib},
		{Spec{CapacityBytes: 64 * mib}, 64 * mib, 0},
		{Spec{CapacityBytes: 64 * mib, Eager: true}, 64 * mib, 0},
	} {
		file := filepath.Join(dir, "disk.vmdk")
		flat(t, file, test.spec, noise(mib+1, 1), 10*mib)
		write(t, file, noise(10, 2), 30*mib)
		cost := used(t, filepath.Join(dir, "disk-flat.vmdk"))
		if cost.Used != test.used || cost.Uncommitted != test.uncommitted || cost.Disk != file {
			t.Errorf("%+v: %+v", test.spec, cost)
		}
		must(t, Remove(file))
	}
}

func TestDeltaReadsThroughAndKeepsWhatItIsGiven(t *testing.T) {
	dir := t.TempDir()
	base, upper := filepath.Join(dir, "base.vmdk"), filepath.Join(dir, "base-000001.vmdk")
	lower := noise(4*mib, 1)
	flat(t, base, Spec{CapacityBytes: 8*mib + 512, Thin: true}, lower, 0)
	must(t, CreateDelta(upper, base))
	expected := content(t, base)
	patch := func(data []byte, off int) {
		write(t, upper, data, int64(off))
		copy(expected[off:], data)
	}
	patch(noise(100, 2), 1000)               // within a grain
	patch(make([]byte, 3000), 100000)        // zeros hide
	patch(noise(3*grainBytes, 3), 7*65536+5) // over several grains
	patch(noise(512, 4), 8*mib)              // at the very end
	if !bytes.Equal(expected, content(t, upper)) {
		t.Fatal("the delta reads otherwise than it was written")
	}
	if !bytes.Equal(lower, content(t, base)[:len(lower)]) {
		t.Fatal("writing to the delta changed its parent")
	}
	top := filepath.Join(dir, "base-000002.vmdk")
	must(t, CreateDelta(top, upper))
	if !bytes.Equal(expected, content(t, top)) {
		t.Fatal("a delta on a delta reads otherwise")
	}
	target, err := OpenForWriting(base)
	must(t, err)
	delta, err := Open(upper)
	must(t, err)
	must(t, Merge(target, delta))
	target.Close()
	delta.Close()
	if !bytes.Equal(expected, content(t, base)) {
		t.Fatal("the merged disk reads otherwise")
	}
}

func TestMoveTakesParentsAlong(t *testing.T) {
	dir := t.TempDir()
	base, upper := filepath.Join(dir, "base.vmdk"), filepath.Join(dir, "base-000001.vmdk")
	flat(t, base, Spec{CapacityBytes: mib}, []byte("below"), 0)
	must(t, CreateDelta(upper, base))
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	must(t, Move(base, filepath.Join(dir, "renamed.vmdk")))
	if _, err := Open(upper); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a delta whose parent is gone opens: %v", err)
	}
	if got := content(t, filepath.Join(dir, "renamed.vmdk"))[:5]; string(got) != "below" {
		t.Errorf("%q", got)
	}
}

func TestBlocks(t *testing.T) {
	for _, test := range []struct {
		ranges []Range
		want   int64
	}{
		{nil, 0}, {[]Range{{0, 1}}, 10}, {[]Range{{0, 10}}, 10}, {[]Range{{9, 11}}, 20}, {[]Range{{0, 1}, {5, 6}}, 10},
		{[]Range{{0, 1}, {5, 12}, {13, 14}}, 20}, {[]Range{{5, 5}}, 0},
	} {
		if got := blocks(test.ranges, 10); got != test.want {
			t.Errorf("%v: %d, not %d", test.ranges, got, test.want)
		}
	}
}

func stream(t *testing.T, file string) []byte {
	t.Helper()
	d, err := Open(file)
	must(t, err)
	defer d.Close()
	var out bytes.Buffer
	must(t, WriteStream(&out, d, StreamDescriptor(d)))
	return out.Bytes()
}

func TestStreamComesBackAsItWent(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "disk.vmdk")
	flat(t, file, Spec{CapacityBytes: 80*mib + 512, Thin: true}, noise(mib+100, 1), 0)
	write(t, file, noise(70000, 2), 40*mib+17)
	write(t, file, noise(512, 3), 80*mib)
	data := stream(t, file)
	head, err := ReadStreamHead(bytes.NewReader(data))
	must(t, err)
	back := make([]byte, head.Capacity)
	must(t, head.Each(func(p []byte, off int64) error { copy(back[off:], p); return nil }))
	if !bytes.Equal(back, content(t, file)) {
		t.Error("read from front to back, the stream differs")
	}
	random := filepath.Join(dir, "stream.vmdk")
	must(t, os.WriteFile(random, data, 0o600))
	if !bytes.Equal(content(t, random), content(t, file)) {
		t.Error("read at random, the stream differs")
	}
}

func TestStreamThatIsCutOrNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.vmdk")
	flat(t, file, Spec{CapacityBytes: 8 * mib}, noise(2*mib, 1), 0)
	data := stream(t, file)
	ignore := func([]byte, int64) error { return nil }
	for _, length := range []int{0, 100, 512, 40000, 70000, mib} {
		head, err := ReadStreamHead(bytes.NewReader(data[:length]))
		if err == nil {
			err = head.Each(ignore)
		}
		if err == nil {
			t.Errorf("a stream of %d bytes of %d was taken for whole", length, len(data))
		}
	}
	if _, err := ReadStreamHead(bytes.NewReader(noise(mib, 1))); !errors.Is(err, ErrNotStream) {
		t.Errorf("noise: %v", err)
	}
	damaged := append([]byte(nil), data...)
	copy(damaged[grainBytes+20:], noise(200, 9))
	head, err := ReadStreamHead(bytes.NewReader(damaged))
	must(t, err)
	if head.Each(ignore) == nil {
		t.Error("a damaged stream was taken for whole")
	}
}

// TestOtherProgram has qemu-img write what is read here, and read what is written here.
func TestOtherProgram(t *testing.T) {
	qemu, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("qemu-img is not installed (Debian: qemu-utils)")
	}
	dir := t.TempDir()
	raw, other := filepath.Join(dir, "raw"), filepath.Join(dir, "other.vmdk")
	expected := make([]byte, 40*mib)
	copy(expected, noise(3*mib+777, 1))
	copy(expected[33*mib:], noise(100, 2))
	must(t, os.WriteFile(raw, expected, 0o600))
	for _, format := range []string{TypeMonolithicSparse, TypeStreamOptimized} {
		must(t, exec.Command(qemu, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+format, raw, other).Run())
		if !bytes.Equal(content(t, other), expected) {
			t.Errorf("%s reads otherwise", format)
		}
	}
	written, err := os.ReadFile(other)
	must(t, err)
	head, err := ReadStreamHead(bytes.NewReader(written))
	must(t, err)
	back := make([]byte, head.Capacity)
	must(t, head.Each(func(p []byte, off int64) error { copy(back[off:], p); return nil }))
	if !bytes.Equal(back, expected) {
		t.Error("read from front to back, qemu-img's stream differs")
	}
	must(t, os.WriteFile(other, stream(t, other), 0o600))
	must(t, exec.Command(qemu, "check", "-f", "vmdk", other).Run())
	must(t, exec.Command(qemu, "convert", "-f", "vmdk", "-O", "raw", other, raw).Run())
	if got, err := os.ReadFile(raw); err != nil || !bytes.Equal(got, expected) {
		t.Errorf("qemu-img reads our stream otherwise (%v)", err)
	}
}

func TestWriteBeyondTheEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.vmdk")
	must(t, CreateFlat(file, Spec{CapacityBytes: mib}))
	d, err := OpenForWriting(file)
	must(t, err)
	defer d.Close()
	for _, off := range []int64{-1, mib - 1, mib} {
		if d.WriteAt([]byte("xx"), off) == nil {
			t.Errorf("a write at %d was taken", off)
		}
	}
}
