// SPDX-License-Identifier: Apache-2.0

package tagging

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"vcenter-sim/internal/core"
)

const (
	newSession, oldSession = "/api/session", "/rest/com/vmware/cis/session"
	newTags, oldTags       = "/api/cis/tagging/", "/rest/com/vmware/cis/tagging/"
)

// serve has /api/session and /api/cis/tagging answer as of vSphere 7.0 U2, by asking the library's older paths.
func serve(s *core.Sim) {
	if !since702(s.Settings.APIVersion) {
		return
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		old, err := older(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT")
			return
		}
		reply := httptest.NewRecorder()
		s.Model.Service.ServeMux.ServeHTTP(reply, old)
		pass(w, r, reply)
	}
	s.Front.HandleFunc(newSession, answer)
	s.Front.HandleFunc(newTags, answer)
}

// since702 compares an API version, as 7.0.3.0, with 7.0.2.
func since702(version string) bool {
	const first = "7.0.2"
	major, _, _ := strings.Cut(version, ".")
	return version == "" || len(major) > 1 || version >= first
}

// older is the request at the older path: an id stands behind "id:", an action behind "~", and a specification has a name.
func older(r *http.Request) (*http.Request, error) {
	old := r.Clone(r.Context())
	old.RequestURI = ""
	query := r.URL.Query()
	action := query.Get("action")
	query.Del("action")
	if action != "" {
		query.Set("~action", action)
	}
	old.URL.RawQuery = query.Encode()
	if r.URL.Path == newSession {
		old.URL.Path, old.URL.RawPath = oldSession, ""
		return old, nil
	}
	kind, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, newTags), "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	if action == "list-tags-for-category" {
		var named struct {
			Category string `json:"category_id"`
		}
		if err := json.Unmarshal(body, &named); err != nil {
			return nil, err
		}
		id = named.Category
	}
	old.URL.Path, old.URL.RawPath = oldTags+kind, ""
	if id != "" {
		old.URL.Path += "/id:" + id
	}
	name := map[string]string{http.MethodPost: "create_spec", http.MethodPatch: "update_spec"}[r.Method]
	if name != "" && action == "" {
		if body, err = json.Marshal(map[string]json.RawMessage{name: body}); err != nil {
			return nil, err
		}
	}
	old.Body, old.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return old, nil
}

// pass answers as /api does: what was asked for is not wrapped, and an error has a type and a status of its own.
func pass(w http.ResponseWriter, r *http.Request, reply *httptest.ResponseRecorder) {
	for _, cookie := range reply.Result().Cookies() {
		cookie.Path = "/api"
		http.SetCookie(w, cookie)
	}
	switch reply.Code {
	case http.StatusOK:
	case http.StatusUnauthorized:
		refuse(w, reply.Code, "UNAUTHENTICATED")
		return
	case http.StatusNotFound:
		refuse(w, reply.Code, "NOT_FOUND")
		return
	default:
		var fault struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(reply.Body.Bytes(), &fault) != nil || fault.Type == "" {
			fault.Type = "invalid_argument"
		}
		refuse(w, http.StatusBadRequest, strings.ToUpper(fault.Type[strings.LastIndex(fault.Type, ".")+1:]))
		return
	}
	var wrapped struct {
		Value json.RawMessage `json:"value"`
	}
	_ = json.Unmarshal(reply.Body.Bytes(), &wrapped)
	asked := r.URL.Query().Get("action")
	if string(wrapped.Value) == "null" { // an empty list
		wrapped.Value = json.RawMessage("[]")
	}
	if wrapped.Value == nil && (r.Method == http.MethodGet || strings.HasPrefix(asked, "list-")) {
		wrapped.Value = json.RawMessage("[]") // the library leaves out a list that is empty
	}
	if wrapped.Value == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost && asked == "" {
		w.WriteHeader(http.StatusCreated)
	}
	_, _ = w.Write(wrapped.Value)
}

func refuse(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error_type": kind, "messages": []string{}})
}
