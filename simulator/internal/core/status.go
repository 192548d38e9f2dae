// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// A vCenter has Envoy in front, which passes calls on and answers by itself when that fails. Its words are in the documentation
// of its response flags; the headers are those of a recorded 8.0.3.
const (
	// NotPassedOn is what Envoy says of a call that nothing behind it took.
	NotPassedOn = "no healthy upstream"
	// Broken is what Envoy says when the connection behind it ended before an answer: the call may have been executed.
	Broken = "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
)

type verdictKey struct{}

// verdict is what is to be answered instead of a call's own reply.
type verdict struct {
	status int
	words  string
}

// AnswerStatus has Envoy answer a call with an HTTP status and its own words, whatever is returned for the call.
func AnswerStatus(ctx *simulator.Context, status int, words string) soap.HasFault {
	if v, ok := Connection(ctx).Value(verdictKey{}).(*verdict); ok {
		v.status, v.words = status, words
	}
	return &faultBody{Reason: simulator.Fault(words, &types.SystemError{Reason: words})}
}

// envoy stands between the SOAP endpoints and their clients.
func envoy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !isSOAP(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		v := &verdict{}
		next.ServeHTTP(&envoyWriter{ResponseWriter: w, verdict: v, begin: time.Now()},
			r.WithContext(context.WithValue(r.Context(), verdictKey{}, v)))
	})
}

func isSOAP(path string) bool {
	for _, service := range []string{"/sdk", "/pbm", "/vslm"} {
		if path == service || strings.HasPrefix(path, service+"/") {
			return true
		}
	}
	return false
}

type envoyWriter struct {
	http.ResponseWriter
	verdict *verdict
	begin   time.Time
}

// Unwrap lets http.ResponseController find what is below.
func (w *envoyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *envoyWriter) WriteHeader(status int) {
	header := w.Header()
	if w.verdict.status == 0 {
		if header.Get("Content-Type") == "" {
			header.Set("Content-Type", "text/xml; charset=utf-8")
		}
		header.Set("Cache-Control", "no-cache")
		header.Set("X-Envoy-Upstream-Service-Time", fmt.Sprint(time.Since(w.begin).Milliseconds()))
		w.ResponseWriter.WriteHeader(status)
		return
	}
	header.Del("Set-Cookie")
	header.Set("Content-Type", "text/plain")
	header.Set("Content-Length", fmt.Sprint(len(w.verdict.words)))
	w.ResponseWriter.WriteHeader(w.verdict.status)
	_, _ = w.ResponseWriter.Write([]byte(w.verdict.words))
}

// Write implements http.ResponseWriter.
func (w *envoyWriter) Write(p []byte) (int, error) {
	if w.verdict.status != 0 { // what the vCenter answered is not heard
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}
