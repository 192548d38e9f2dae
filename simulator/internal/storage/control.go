// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sort"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/vdisk"
)

// serveControl offers tests what a guest, or somebody with a shell on a host, could do.
func (s *Store) serveControl() {
	s.sim.Control.HandleFunc("GET /space", s.serveSpace)
	s.sim.Control.HandleFunc("GET /disk", s.onDisk(s.readDisk))
	s.sim.Control.HandleFunc("PUT /disk", s.onDisk(s.writeDisk))
	s.sim.Control.HandleFunc("GET /disk/checksum", s.onDisk(s.checksum))
	s.sim.Control.HandleFunc("GET /disk/info", s.onDisk(s.diskInfo))
	s.sim.Control.HandleFunc("DELETE /locks", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.letGo()) })
}

// serveSpace compares every datastore's figures with its files. The status is 200 if all agree, else 409.
func (s *Store) serveSpace(w http.ResponseWriter, r *http.Request) {
	ctx := s.sim.Context()
	answer := struct {
		OK         bool    `json:"ok"`
		Datastores []Space `json:"datastores"`
	}{OK: true}
	for _, entity := range ctx.Map.All("Datastore") {
		ds := entity.(*simulator.Datastore)
		if name := r.URL.Query().Get("datastore"); name != "" && name != places.Name(ds) {
			continue
		}
		space := s.Measure(ctx, ds)
		answer.OK = answer.OK && space.OK
		answer.Datastores = append(answer.Datastores, space)
	}
	sort.Slice(answer.Datastores, func(i, j int) bool { return answer.Datastores[i].Datastore < answer.Datastores[j].Datastore })
	status := http.StatusOK
	if !answer.OK {
		status = http.StatusConflict
	}
	writeJSON(w, status, answer)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value)
}

// onDisk finds the disk that a request names by datastore, path and, if there are several, datacenter.
func (s *Store) onDisk(handle func(http.ResponseWriter, *http.Request, place)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		at, fault := s.findPlace(query.Get("datacenter"), query.Get("datastore"), query.Get("path"))
		if fault != nil {
			http.Error(w, core.Message(fault), http.StatusNotFound)
			return
		}
		handle(w, r, at)
	}
}

func (s *Store) findPlace(datacenter, datastore, file string) (place, types.BaseMethodFault) {
	ctx := s.sim.Context()
	for _, entity := range ctx.Map.All("Datacenter") {
		dc := entity.(*simulator.Datacenter)
		if datacenter != "" && dc.Name != datacenter {
			continue
		}
		if at, fault := parse(ctx, dc, "["+datastore+"] "+file); fault == nil {
			return at, nil
		}
	}
	return place{}, &types.InvalidDatastore{Name: datastore}
}

// readDisk answers with the content, as a guest would read it, from offset for length bytes (to the end without).
func (s *Store) readDisk(w http.ResponseWriter, r *http.Request, at place) {
	d, err := vdisk.Open(at.local())
	if err != nil {
		http.Error(w, core.Message(fileFault(at, err)), http.StatusNotFound)
		return
	}
	defer d.Close()
	offset, length, err := span(r, d.CapacityBytes())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	buffer := make([]byte, vdisk.BlockBytes)
	for length > 0 {
		n := min(length, vdisk.BlockBytes)
		if err := d.ReadAt(buffer[:n], offset); err != nil {
			return
		}
		if _, err := w.Write(buffer[:n]); err != nil {
			return
		}
		offset, length = offset+n, length-n
	}
}

func span(r *http.Request, capacity int64) (offset, length int64, err error) {
	number := func(name string, otherwise int64) int64 {
		text := r.URL.Query().Get(name)
		if text == "" {
			return otherwise
		}
		n, parseErr := strconv.ParseInt(text, 10, 64)
		if parseErr != nil {
			err = parseErr
		}
		return n
	}
	offset = number("offset", 0)
	length = number("length", capacity-offset)
	if err == nil && (offset < 0 || length < 0 || offset+length > capacity) {
		err = errors.New("this is beyond the end of the disk")
	}
	return offset, length, err
}

// writeDisk writes the body at offset, as a guest would. On a full datastore it answers 507 and writes nothing.
func (s *Store) writeDisk(w http.ResponseWriter, r *http.Request, at place) {
	data, err := io.ReadAll(io.LimitReader(r.Body, 1<<30))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	offset, _, err := span(r, 1<<62)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d, err := vdisk.OpenForWriting(at.local())
	if err != nil {
		http.Error(w, core.Message(fileFault(at, err)), http.StatusNotFound)
		return
	}
	defer d.Close()
	release, fault := s.Reserve(at, d.Growth([]vdisk.Range{{Start: offset, End: offset + int64(len(data))}}))
	if fault != nil {
		http.Error(w, core.Message(fault), http.StatusInsufficientStorage)
		return
	}
	defer release()
	err = d.WriteAt(data, offset)
	s.touchDisk(s.sim.Context(), at)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// checksum answers with the SHA-256 of the whole content, zeros included; with grains=1, much faster for large disks, with that
// of the grains of 64 KiB that hold more than zeros, each after its offset (8 bytes, the highest first), and of the capacity.
func (s *Store) checksum(w http.ResponseWriter, r *http.Request, at place) {
	d, err := vdisk.Open(at.local())
	if err != nil {
		http.Error(w, core.Message(fileFault(at, err)), http.StatusNotFound)
		return
	}
	defer d.Close()
	if r.URL.Query().Get("grains") != "" {
		sum, err := grainSum(d)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"sha256": sum, "capacity_bytes": d.CapacityBytes()})
		return
	}
	hash := sha256.New()
	buffer := make([]byte, vdisk.BlockBytes)
	for offset := int64(0); offset < d.CapacityBytes(); {
		n := min(d.CapacityBytes()-offset, vdisk.BlockBytes)
		if err := d.ReadAt(buffer[:n], offset); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		hash.Write(buffer[:n])
		offset += n
	}
	writeJSON(w, http.StatusOK, map[string]any{"sha256": hex.EncodeToString(hash.Sum(nil)), "capacity_bytes": d.CapacityBytes()})
}

// diskInfo answers with what the descriptor says, and the space that the disk's own extent takes.
func (s *Store) diskInfo(w http.ResponseWriter, _ *http.Request, at place) {
	d, err := vdisk.ReadDescriptor(at.local())
	if err != nil {
		http.Error(w, core.Message(fileFault(at, err)), http.StatusNotFound)
		return
	}
	parent := ""
	if p, ok := s.placeNear(s.sim.Context(), vdisk.ParentPath(at.local(), d), at.ds); ok {
		parent = p.String()
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"capacity_bytes": d.CapacityBytes(), "create_type": d.CreateType, "thin": d.Thin(), "eager": d.Eager(), "uuid": d.UUID(),
		"adapter_type": d.DDB["adapterType"], "parent": parent, "used_bytes": s.usedBy(at)})
}

func grainSum(d *vdisk.Disk) (string, error) {
	hash := sha256.New()
	number := make([]byte, 8)
	err := vdisk.EachGrain(d, func(data []byte, off int64) error {
		binary.BigEndian.PutUint64(number, uint64(off))
		hash.Write(number)
		hash.Write(data)
		return nil
	})
	binary.BigEndian.PutUint64(number, uint64(d.CapacityBytes()))
	hash.Write(number)
	return hex.EncodeToString(hash.Sum(nil)), err
}
