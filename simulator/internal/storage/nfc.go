// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/vdisk"
)

// serveLeases serves the URLs of leases.
func (s *Store) serveLeases() {
	s.sim.Front.HandleFunc("/nfc/{token}/{name}", func(w http.ResponseWriter, r *http.Request) {
		lease := s.leases.find(r.PathValue("token"))
		if lease == nil {
			http.Error(w, "there is no such lease", http.StatusNotFound)
			return
		}
		name := r.PathValue("name")
		file, ok := lease.files[name]
		if !ok {
			http.Error(w, "the lease has no such device", http.StatusNotFound)
			return
		}
		defer lease.flow(http.NewResponseController(w))()
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			lease.send(w, r, name, file.at)
		case http.MethodPut, http.MethodPost:
			lease.receive(w, r, name, file)
		default:
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		}
	})
}

// flow notes a transfer, which the end of the lease breaks off.
func (l *HttpNfcLease) flow(flow *http.ResponseController) (ended func()) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.flows[flow] = true
	return func() {
		l.lock.Lock()
		defer l.lock.Unlock()
		delete(l.flows, flow)
		if l.hasTimedOut() { // the connection may serve other requests
			_ = flow.SetReadDeadline(time.Time{})
			_ = flow.SetWriteDeadline(time.Time{})
		}
	}
}

var errTimedOut = errors.New("the lease has timed out")

// Read lets an upload come in as long as the lease lives.
func (t *transfer) Read(p []byte) (int, error) {
	if t.lease.hasTimedOut() {
		return 0, errTimedOut
	}
	return t.in.Read(p)
}

// Write lets a download go out as long as the lease lives.
func (t *transfer) Write(p []byte) (int, error) {
	if t.lease.hasTimedOut() {
		return 0, errTimedOut
	}
	return t.out.Write(p)
}

// transfer is what flows under a lease.
type transfer struct {
	lease *HttpNfcLease
	in    io.Reader
	out   io.Writer
}

// counter counts and digests what passes.
type counter struct {
	hash.Hash
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.Hash.Write(p)
}

// send streams a disk, read through its parents.
func (l *HttpNfcLease) send(w http.ResponseWriter, r *http.Request, name string, at place) {
	d, err := vdisk.Open(at.local())
	if err != nil {
		http.Error(w, core.Message(fileFault(at, err)), http.StatusNotFound)
		return
	}
	defer d.Close()
	w.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	if r.Method == http.MethodHead {
		return
	}
	descriptor := vdisk.StreamDescriptor(d)
	if l.store.sim.Lenient("export-readonly") {
		descriptor.Extents[0].Access = "RW"
	}
	sum := &counter{Hash: sha1.New()}
	if vdisk.WriteStream(io.MultiWriter(&transfer{lease: l, out: w}, sum), d, descriptor) != nil {
		panic(http.ErrAbortHandler) // else the client would take what has come for all
	}
	l.note(name, sum, sum.n, d.CapacityBytes())
}

// receive takes a streamOptimized disk, or the image of a drive. An upload that is cut, no disk, or too large, is answered with
// an error, and the lease fails.
func (l *HttpNfcLease) receive(w http.ResponseWriter, r *http.Request, name string, file leaseFile) {
	at := file.at
	ctx := l.store.sim.Context()
	if !l.importing {
		http.Error(w, "this lease is an export's", http.StatusForbidden)
		return
	}
	l.transfers.Add(1)
	arrived := sync.OnceFunc(l.transfers.Done)
	defer arrived()
	sum := &counter{Hash: sha1.New()}
	budget := &budget{store: l.store, at: at}
	defer budget.release()
	take := l.store.importStream
	if !file.disk {
		take = l.store.importImage
	}
	capacity, err := take(ctx, io.TeeReader(&transfer{lease: l, in: r.Body}, sum), at, budget)
	if err == nil && r.ContentLength >= 0 && sum.n != r.ContentLength {
		err = fmt.Errorf("%d bytes were announced and %d came", r.ContentLength, sum.n)
	}
	l.store.touchDisk(ctx, at)
	if err != nil {
		fault := budget.fault
		if fault == nil {
			fault = &types.SystemError{Reason: err.Error()}
		}
		l.broken.Store(true)
		arrived() // who waits for that has the lock that fail needs
		l.fail(ctx, fault)
		if l.hasTimedOut() {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.Copy(io.Discard, r.Body) // so that the client gets to read the answer
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	l.note(name, sum, sum.n, capacity)
	if file.disk {
		l.store.tellOwners(ctx, at)
	}
	w.WriteHeader(http.StatusCreated)
}

// importImage writes the image of a CD-ROM or floppy, as it comes.
func (s *Store) importImage(_ *simulator.Context, in io.Reader, at place, budget *budget) (int64, error) {
	size, err := receive(at.local(), in, budget)
	if err != nil {
		_ = os.Remove(at.local())
	}
	return size, err
}

// importStream writes a stream into a disk, which becomes as large as the stream says, if it is smaller.
func (s *Store) importStream(ctx *simulator.Context, in io.Reader, at place, budget *budget) (int64, error) {
	stream, err := vdisk.ReadStreamHead(in)
	if err != nil {
		return 0, err
	}
	d, err := vdisk.ReadDescriptor(at.local())
	if err != nil {
		return 0, err
	}
	if d.CapacityBytes() < stream.Capacity {
		if fault := s.ExtendDisk(ctx, at, stream.Capacity, nil); fault != nil {
			budget.fault = fault
			return 0, errNoSpace
		}
	}
	target, err := vdisk.OpenForWriting(at.local())
	if err != nil {
		return 0, err
	}
	defer target.Close()
	blocks := make(map[int64]bool)
	thin := target.Descriptor.Thin()
	err = stream.Each(func(data []byte, off int64) error {
		if block := off / vdisk.BlockBytes; thin && !blocks[block] {
			blocks[block] = true
			if err := budget.take(vdisk.BlockBytes); err != nil {
				return err
			}
		}
		return target.WriteAt(data, off)
	})
	return stream.Capacity, err
}
