// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"os"
	"path"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/privileges"
	"vcenter-sim/internal/vdisk"
)

// serveFolder serves the files of datastores where a vCenter does:
// https://host/folder/PATH?dcPath=DATACENTER&dsName=DATASTORE, to users who may manage the datastore's files.
func (s *Store) serveFolder() {
	s.sim.Front.HandleFunc("/folder/", func(w http.ResponseWriter, r *http.Request) {
		user := s.authenticated(r)
		if user == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
			http.Error(w, "a session is needed", http.StatusUnauthorized)
			return
		}
		at, status := s.folderPlace(r)
		if status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
		if !privileges.Allows(s.sim, user, at.ds.Self, r.Method+" /folder", "Datastore.FileManagement") {
			http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
			return
		}
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			s.download(w, r, at)
		case http.MethodPut, http.MethodPost:
			s.upload(w, r, at)
		case http.MethodDelete:
			if fault := s.deleteFile(s.sim.Context(), at); fault != nil {
				http.Error(w, http.StatusText(http.StatusConflict), http.StatusConflict)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		default:
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		}
	})
}

// authenticated finds the user: of a session that lives, or of a name and a password. It is "" if there is none.
func (s *Store) authenticated(r *http.Request) string {
	for _, cookie := range r.Cookies() {
		if cookie.Name == soap.SessionCookieName {
			if user := s.sim.UserOf(strings.Trim(cookie.Value, `"`)); user != "" {
				return user
			}
		}
	}
	if user, password, ok := r.BasicAuth(); ok && privileges.Valid(s.sim, user, password) {
		return user
	}
	return ""
}

func (s *Store) folderPlace(r *http.Request) (place, int) {
	ctx := s.sim.Context()
	dcPath := strings.Trim(r.URL.Query().Get("dcPath"), "/")
	name := strings.TrimPrefix(r.URL.Path, "/folder/")
	if escapes(name) {
		return place{}, http.StatusBadRequest
	}
	for _, entity := range ctx.Map.All("Datacenter") {
		dc := entity.(*simulator.Datacenter)
		if dcPath != "" && inventoryPath(ctx, dc) != dcPath {
			continue
		}
		if ds := datastoreNamed(ctx, dc, r.URL.Query().Get("dsName")); ds != nil {
			return place{ds, strings.TrimPrefix(path.Clean("/"+name), "/")}, http.StatusOK
		}
	}
	return place{}, http.StatusNotFound
}

// inventoryPath is the path from the root folder, without the latter: "folder/DC0".
func inventoryPath(ctx *simulator.Context, entity mo.Entity) string {
	var names []string
	for range 64 {
		e := entity.Entity()
		if e.Parent == nil {
			break
		}
		names = append([]string{e.Name}, names...)
		parent, ok := ctx.Map.Get(*e.Parent).(mo.Entity)
		if !ok {
			break
		}
		entity = parent
	}
	return strings.Join(names, "/")
}

func (s *Store) download(w http.ResponseWriter, r *http.Request, at place) {
	f, err := os.Open(at.local())
	if err != nil {
		http.Error(w, http.StatusText(http.StatusNotFound), http.StatusNotFound)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if info.IsDir() {
		listFolder(w, at)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), f)
}

func listFolder(w http.ResponseWriter, at place) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<html><head><title>Index of %s</title></head><body>\n", html.EscapeString(at.String()))
	entries, _ := os.ReadDir(at.local())
	for _, entry := range entries {
		fmt.Fprintf(w, "<a href=\"%[1]s\">%[1]s</a><br>\n", html.EscapeString(entry.Name()))
	}
	fmt.Fprint(w, "</body></html>\n")
}

// upload writes a file. What it replaces is there until all has come; what does not fit is refused with 507.
func (s *Store) upload(w http.ResponseWriter, r *http.Request, at place) {
	ctx := s.sim.Context()
	if at.file == "" || strings.HasSuffix(r.URL.Path, "/") {
		http.Error(w, "this is a folder", http.StatusConflict)
		return
	}
	if s.lockedBelow(at) != nil {
		http.Error(w, "the file is locked", http.StatusConflict)
		return
	}
	created := !at.exists()
	if err := os.MkdirAll(path.Dir(at.local()), 0o700); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	budget := &budget{store: s, at: at}
	defer budget.release()
	part := at.local() + ".part~"
	_, err := receive(part, r.Body, budget)
	if err == nil && r.ContentLength > 0 {
		err = complete(part, r.ContentLength)
	}
	if err == nil {
		err = os.Rename(part, at.local())
	}
	if err != nil {
		_ = os.Remove(part)
		_, _ = io.Copy(io.Discard, r.Body) // so that the client gets to read the answer
		status := http.StatusInternalServerError
		if errors.Is(err, errNoSpace) {
			status = http.StatusInsufficientStorage
		}
		http.Error(w, err.Error(), status)
		return
	}
	s.Touch(ctx, at.ds, at.local())
	s.touchExtentOf(ctx, at)
	s.touchDescriptorOf(ctx, at)
	if created {
		w.WriteHeader(http.StatusCreated)
	}
}

// touchDescriptorOf measures an extent that came as a mere file: its descriptor says what it costs.
func (s *Store) touchDescriptorOf(ctx *simulator.Context, at place) {
	for _, suffix := range []string{"-flat.vmdk", "-delta.vmdk"} {
		if stem, ok := strings.CutSuffix(at.file, suffix); ok {
			s.touchDisk(ctx, place{at.ds, stem + ".vmdk"})
		}
	}
}

var errNoSpace = errors.New("there is no space left on the datastore")

// budget reserves space bit by bit, for what comes without saying how much it is.
type budget struct {
	store    *Store
	at       place
	left     int64
	releases []func()
	fault    types.BaseMethodFault
}

func (b *budget) take(bytes int64) error {
	for b.left < bytes {
		step := max(bytes-b.left, 4<<20)
		release, fault := b.store.Reserve(b.at, step)
		if fault != nil && step > bytes-b.left {
			step = bytes - b.left
			release, fault = b.store.Reserve(b.at, step)
		}
		if fault != nil {
			b.fault = fault
			return errNoSpace
		}
		b.releases = append(b.releases, release)
		b.left += step
	}
	b.left -= bytes
	return nil
}

func (b *budget) release() {
	for _, release := range b.releases {
		release()
	}
	b.releases = nil
}

// receive writes a stream into a file and leaves holes for zeros. The budget counts all of it.
func receive(file string, in io.Reader, budget *budget) (int64, error) {
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buffer := make([]byte, vdisk.BlockBytes)
	var at int64
	for {
		n, err := io.ReadFull(in, buffer)
		if n > 0 {
			if err := budget.take(int64(n)); err != nil {
				return at, err
			}
			if err := vdisk.WriteSparsely(f, buffer[:n], at); err != nil {
				return at, err
			}
			at += int64(n)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return at, f.Truncate(at)
		}
		if err != nil {
			return at, err
		}
	}
}

// complete makes sure that all has come that was announced: a body that is cut must not count as a file.
func complete(file string, announced int64) error {
	info, err := os.Stat(file)
	if err == nil && info.Size() != announced {
		err = fmt.Errorf("%d bytes were announced and %d came", announced, info.Size())
	}
	return err
}
