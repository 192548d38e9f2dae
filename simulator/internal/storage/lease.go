// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
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
	broken    atomic.Bool   // a transfer has failed
	over      chan struct{} // closed when the lease has timed out

	lock     sync.Mutex
	files    map[string]leaseFile // by the name in the URL
	manifest map[string]types.HttpNfcLeaseManifestEntry
	timer    *time.Timer
	flows    map[*http.ResponseController]bool // transfers that go on
}

// leaseFile is what a device's URL carries: a virtual disk, or the image of a drive.
type leaseFile struct {
	at   place
	disk bool
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
		store: s, token: uuid.NewString(), importing: importing, files: make(map[string]leaseFile), over: make(chan struct{}),
		manifest: make(map[string]types.HttpNfcLeaseManifestEntry), flows: make(map[*http.ResponseController]bool),
	}
	lease.State = types.HttpNfcLeaseStateInitializing
	lease.Mode = string(types.HttpNfcLeaseModePushOrGet)
	lease.Capabilities = types.HttpNfcLeaseCapabilities{PullModeSupported: false, CorsSupported: true}
	ctx.Session.Put(lease)
	s.leases.set(lease.token, lease)
	return lease
}

// ready lets the client begin. The devices' URLs are on the address by which clients come. The import keys are those that the
// specification's devices have, in the order of the devices; an export has none.
func (l *HttpNfcLease) ready(
	ctx *simulator.Context, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice, importKeys importKeys,
) {
	info := &types.HttpNfcLeaseInfo{
		Lease: l.Self, Entity: vm.Self, LeaseTimeout: int32(settings.leaseTimeout / time.Second)}
	add := func(device types.BaseVirtualDevice, name, importKey string, file leaseFile) {
		l.files[name] = file
		info.DeviceUrl = append(info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{
			Key: "/" + vm.Self.Value + "/" + deviceName(devices, device), ImportKey: importKey,
			Url:  fmt.Sprintf("%s://%s/nfc/%s/%s", l.store.scheme(), l.store.host(), l.token, name),
			Disk: types.NewBool(file.disk), TargetId: name, FileSize: l.store.usedBy(file.at),
		})
	}
	for i, disk := range disks(devices) {
		if at, ok := placeOfDisk(ctx, disk); ok {
			info.TotalDiskCapacityInKB += disk.CapacityInKB
			add(disk, fmt.Sprintf("disk-%d.vmdk", i), importKeys.disk(i), leaseFile{at, true})
		}
	}
	for i, drive := range importedDrives(devices) {
		name := drive.Backing.(types.BaseVirtualDeviceFileBackingInfo).GetVirtualDeviceFileBackingInfo().FileName
		if at, fault := parse(ctx, datacenterOf(ctx, vm.Self), name); fault == nil && l.importing {
			add(drive, path.Base(at.file), importKeys.drive(i), leaseFile{at, false})
		}
	}
	l.vm = &vm.Self
	ctx.WithLock(l, func() {
		ctx.Update(l, []types.PropertyChange{
			{Name: "info", Val: info}, {Name: "initializeProgress", Val: int32(100)},
			{Name: "state", Val: types.HttpNfcLeaseStateReady}})
	})
	own := core.NewContext(ctx)
	l.lock.Lock()
	l.timer = time.AfterFunc(settings.leaseTimeout, func() { l.expire(own) })
	l.lock.Unlock()
}

// expire ends a lease that nobody has kept alive by HttpNfcLeaseProgress in time, whatever flows. What was being imported goes.
func (l *HttpNfcLease) expire(ctx *simulator.Context) {
	expired := false
	ctx.WithLock(l, func() {
		if expired = l.State == types.HttpNfcLeaseStateReady; expired {
			l.setError(ctx, &types.Timedout{})
			close(l.over)
		}
	})
	if !expired {
		return
	}
	l.store.leases.set(l.token, nil)
	l.lock.Lock()
	for flow := range l.flows {
		_ = flow.SetReadDeadline(time.Now())
		_ = flow.SetWriteDeadline(time.Now())
	}
	l.lock.Unlock()
	l.transfers.Wait()
	l.discard(ctx)
}

// hasTimedOut reports whether the lease has ended by itself.
func (l *HttpNfcLease) hasTimedOut() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// discard removes what was being imported.
func (l *HttpNfcLease) discard(ctx *simulator.Context) {
	if !l.importing || l.vm == nil {
		return
	}
	if vm, ok := ctx.Map.Get(*l.vm).(*simulator.VirtualMachine); ok {
		l.store.remove(core.NewContext(ctx), vm)
	}
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
		if l.State != types.HttpNfcLeaseStateError { // the first cause stays
			l.setError(ctx, fault)
		}
	})
}

// setError tells the cause. The lock is held.
func (l *HttpNfcLease) setError(ctx *simulator.Context, fault types.BaseMethodFault) {
	ctx.Update(l, []types.PropertyChange{
		{Name: "error", Val: &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: core.Message(fault)}},
		{Name: "state", Val: types.HttpNfcLeaseStateError}})
}

func (l *HttpNfcLease) end(ctx *simulator.Context) {
	l.lock.Lock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.lock.Unlock()
	l.store.leases.set(l.token, nil)
	ctx.WithLock(l, func() {
		ctx.Update(l, []types.PropertyChange{{Name: "state", Val: types.HttpNfcLeaseStateDone}})
	})
}

// HttpNfcLeaseComplete ends the lease; what was imported stays.
func (l *HttpNfcLease) HttpNfcLeaseComplete(ctx *simulator.Context, _ *types.HttpNfcLeaseComplete) soap.HasFault {
	if l.hasTimedOut() {
		return core.Fault(&types.Timedout{})
	}
	l.transfers.Wait() // a client may say so when it has sent all, before it has heard that all has come
	if l.State != types.HttpNfcLeaseStateReady || l.broken.Load() {
		return core.Fault(&types.InvalidState{})
	}
	l.end(ctx)
	return &methods.HttpNfcLeaseCompleteBody{Res: &types.HttpNfcLeaseCompleteResponse{}}
}

// HttpNfcLeaseAbort ends the lease; what was being imported goes.
func (l *HttpNfcLease) HttpNfcLeaseAbort(ctx *simulator.Context, _ *types.HttpNfcLeaseAbort) soap.HasFault {
	if l.hasTimedOut() {
		return core.Fault(&types.Timedout{})
	}
	l.end(ctx)
	l.discard(ctx)
	return &methods.HttpNfcLeaseAbortBody{Res: &types.HttpNfcLeaseAbortResponse{}}
}

// HttpNfcLeaseProgress keeps the lease alive.
func (l *HttpNfcLease) HttpNfcLeaseProgress(ctx *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	if l.hasTimedOut() {
		return core.Fault(&types.Timedout{})
	}
	l.lock.Lock()
	if l.timer != nil && l.timer.Stop() {
		l.timer.Reset(settings.leaseTimeout)
	}
	l.lock.Unlock()
	ctx.Update(l, []types.PropertyChange{{Name: "transferProgress", Val: req.Percent}})
	return &methods.HttpNfcLeaseProgressBody{Res: &types.HttpNfcLeaseProgressResponse{}}
}

// HttpNfcLeaseGetManifest says what has gone over the wire.
func (l *HttpNfcLease) HttpNfcLeaseGetManifest(*types.HttpNfcLeaseGetManifest) soap.HasFault {
	if l.hasTimedOut() {
		return core.Fault(&types.Timedout{})
	}
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
