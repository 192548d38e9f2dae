// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/vdisk"
)

// HttpNfcLease is the lease of an import or an export. It carries true streamOptimized bytes. Its name is the API's: the library
// makes an object's type of it.
type HttpNfcLease struct {
	mo.HttpNfcLease

	store     *Store
	token     string
	importing bool
	vm        *types.ManagedObjectReference

	transfers sync.WaitGroup
	broken    atomic.Bool // a transfer has failed

	lock     sync.Mutex
	disks    map[string]place // by the name in the URL
	manifest map[string]types.HttpNfcLeaseManifestEntry
}

// leases are those whose URLs work; the URL's token is all the permission that is needed.
type leases struct {
	lock    sync.Mutex
	byToken map[string]*HttpNfcLease
}

func (l *leases) find(token string) *HttpNfcLease {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.byToken[token]
}

func (l *leases) set(token string, lease *HttpNfcLease) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.byToken == nil {
		l.byToken = make(map[string]*HttpNfcLease)
	}
	if lease == nil {
		delete(l.byToken, token)
	} else {
		l.byToken[token] = lease
	}
}

func (s *Store) newLease(ctx *simulator.Context, importing bool) *HttpNfcLease {
	lease := &HttpNfcLease{
		store: s, token: uuid.NewString(), importing: importing, disks: make(map[string]place),
		manifest: make(map[string]types.HttpNfcLeaseManifestEntry),
	}
	lease.State = types.HttpNfcLeaseStateInitializing
	lease.Mode = string(types.HttpNfcLeaseModePushOrGet)
	lease.Capabilities = types.HttpNfcLeaseCapabilities{PullModeSupported: false, CorsSupported: true}
	ctx.Session.Put(lease)
	s.leases.set(lease.token, lease)
	return lease
}

// ready lets the client begin. The devices' URLs are on the address by which clients come.
func (l *HttpNfcLease) ready(ctx *simulator.Context, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) {
	info := &types.HttpNfcLeaseInfo{Lease: l.Self, Entity: vm.Self, LeaseTimeout: 300}
	for i, disk := range disks(devices) {
		at, ok := placeOfDisk(ctx, disk)
		if !ok {
			continue
		}
		name := fmt.Sprintf("disk-%d.vmdk", i)
		l.disks[name] = at
		info.TotalDiskCapacityInKB += disk.CapacityInKB
		info.DeviceUrl = append(info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{
			Key:       fmt.Sprintf("/%s/VirtualLsiLogicController0:%d", vm.Self.Value, i),
			ImportKey: fmt.Sprintf("/%s/VirtualLsiLogicController0:%d", vm.Name, i),
			Url:       fmt.Sprintf("%s://%s/nfc/%s/%s", l.store.scheme(), l.store.host(), l.token, name),
			Disk:      types.NewBool(true), TargetId: name, FileSize: l.store.usedBy(at),
		})
	}
	l.vm = &vm.Self
	ctx.WithLock(l, func() {
		ctx.Update(l, []types.PropertyChange{
			{Name: "info", Val: info}, {Name: "initializeProgress", Val: int32(100)},
			{Name: "state", Val: types.HttpNfcLeaseStateReady}})
	})
}

func (s *Store) scheme() string {
	if s.sim.Model.Service.Listen != nil && s.sim.Model.Service.Listen.Scheme != "" {
		return s.sim.Model.Service.Listen.Scheme
	}
	return "https"
}

func (s *Store) host() string { return s.sim.Model.Service.Listen.Host }

// fail tells the client why the lease is of no use.
func (l *HttpNfcLease) fail(ctx *simulator.Context, fault types.BaseMethodFault) {
	ctx.WithLock(l, func() {
		ctx.Update(l, []types.PropertyChange{
			{Name: "error", Val: &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: core.Message(fault)}},
			{Name: "state", Val: types.HttpNfcLeaseStateError}})
	})
}

func (l *HttpNfcLease) end(ctx *simulator.Context) {
	l.store.leases.set(l.token, nil)
	ctx.WithLock(l, func() {
		ctx.Update(l, []types.PropertyChange{{Name: "state", Val: types.HttpNfcLeaseStateDone}})
	})
}

// HttpNfcLeaseComplete ends the lease; what was imported stays.
func (l *HttpNfcLease) HttpNfcLeaseComplete(ctx *simulator.Context, _ *types.HttpNfcLeaseComplete) soap.HasFault {
	l.transfers.Wait() // a client may say so when it has sent all, before it has heard that all has come
	if l.State != types.HttpNfcLeaseStateReady || l.broken.Load() {
		return core.Fault(&types.InvalidState{})
	}
	l.end(ctx)
	return &methods.HttpNfcLeaseCompleteBody{Res: &types.HttpNfcLeaseCompleteResponse{}}
}

// HttpNfcLeaseAbort ends the lease; what was being imported goes.
func (l *HttpNfcLease) HttpNfcLeaseAbort(ctx *simulator.Context, _ *types.HttpNfcLeaseAbort) soap.HasFault {
	l.end(ctx)
	if l.importing && l.vm != nil {
		if vm, ok := ctx.Map.Get(*l.vm).(*simulator.VirtualMachine); ok {
			l.store.remove(core.NewContext(ctx), vm)
		}
	}
	return &methods.HttpNfcLeaseAbortBody{Res: &types.HttpNfcLeaseAbortResponse{}}
}

// HttpNfcLeaseProgress keeps the lease alive.
func (l *HttpNfcLease) HttpNfcLeaseProgress(ctx *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	ctx.Update(l, []types.PropertyChange{{Name: "transferProgress", Val: req.Percent}})
	return &methods.HttpNfcLeaseProgressBody{Res: &types.HttpNfcLeaseProgressResponse{}}
}

// HttpNfcLeaseGetManifest says what has gone over the wire.
func (l *HttpNfcLease) HttpNfcLeaseGetManifest(*types.HttpNfcLeaseGetManifest) soap.HasFault {
	l.lock.Lock()
	defer l.lock.Unlock()
	answer := &types.HttpNfcLeaseGetManifestResponse{}
	for _, device := range l.Info.DeviceUrl {
		if entry, ok := l.manifest[device.TargetId]; ok {
			entry.Key = device.Key
			answer.Returnval = append(answer.Returnval, entry)
		}
	}
	return &methods.HttpNfcLeaseGetManifestBody{Res: answer}
}

func (l *HttpNfcLease) note(name string, sum hash.Hash, size, capacity int64) {
	l.lock.Lock()
	defer l.lock.Unlock()
	digest := hex.EncodeToString(sum.Sum(nil))
	l.manifest[name] = types.HttpNfcLeaseManifestEntry{
		Sha1: digest, Checksum: digest, ChecksumType: "SHA1", Size: size, Disk: true, Capacity: capacity}
}

// serveLeases serves the URLs of leases.
func (s *Store) serveLeases() {
	s.sim.Front.HandleFunc("/nfc/{token}/{name}", func(w http.ResponseWriter, r *http.Request) {
		lease := s.leases.find(r.PathValue("token"))
		if lease == nil {
			http.Error(w, "there is no such lease", http.StatusNotFound)
			return
		}
		name := r.PathValue("name")
		at, ok := lease.disks[name]
		switch {
		case !ok:
			http.Error(w, "the lease has no such device", http.StatusNotFound)
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			lease.send(w, r, name, at)
		case r.Method == http.MethodPut || r.Method == http.MethodPost:
			lease.receive(w, r, name, at)
		default:
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		}
	})
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
	sum := &counter{Hash: sha1.New()}
	if vdisk.WriteStream(io.MultiWriter(w, sum), d) == nil {
		l.note(name, sum, sum.n, d.CapacityBytes())
	}
}

// receive takes a streamOptimized disk. An upload that is cut, no disk, or too large, is answered with an error, and the lease
// fails.
func (l *HttpNfcLease) receive(w http.ResponseWriter, r *http.Request, name string, at place) {
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
	capacity, err := l.store.importStream(ctx, io.TeeReader(r.Body, sum), at, budget)
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
		_, _ = io.Copy(io.Discard, r.Body) // so that the client gets to read the answer
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	l.note(name, sum, sum.n, capacity)
	l.store.tellOwners(ctx, at)
	w.WriteHeader(http.StatusCreated)
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
