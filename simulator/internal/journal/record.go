// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/soap"

	"vcenter-sim/internal/logins"
)

// The journal stands between the socket and everything else, so it reads as much of a request as it needs by itself.
var (
	methodPattern = regexp.MustCompile(`<(?:[\w-]+:)?Body[^>]*>\s*<(?:[\w-]+:)?(\w+)`)
	thisPattern   = regexp.MustCompile(`<(?:[\w-]+:)?_this(?:[^>]*?\stype=["'](\w+)["'])?[^>]*>([^<]*)<`)
	cookiePattern = regexp.MustCompile(`<(?:[\w-]+:)?vcSessionCookie[^>]*>"?([^<"]*)`)
	faultPattern  = regexp.MustCompile(`<detail>\s*<(\w+?)(?:Fault)?[\s>/]`)
)

const (
	headBytes  = 4 << 10  // where the method and the object stand
	limitBytes = 64 << 10 // unless a header (a token) precedes them
)

// Wrap records every request that passes.
func (j *Journal) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := Call{Time: time.Now()}
		body := &countingReader{ReadCloser: r.Body}
		r.Body = body
		identify(&call, r)
		j.begin(call.Method)
		reply := &countingWriter{ResponseWriter: w}
		completed := false
		defer func() {
			call.Seconds = time.Since(call.Time).Seconds()
			call.RequestBytes, call.ResponseBytes = body.count, reply.count
			call.Outcome = "cut"
			if completed {
				call.Outcome = reply.outcome()
			}
			j.end(call)
		}()
		next.ServeHTTP(reply, r)
		completed = true
	})
}

// identify finds out what is called: a SOAP method, or a transfer, named by HTTP method and first folder ("PUT /folder").
func identify(call *Call, r *http.Request) {
	key := ""
	if cookie, err := r.Cookie(soap.SessionCookieName); err == nil {
		key = strings.Trim(cookie.Value, `"`)
	}
	if r.Method == http.MethodPost && isSOAP(r) {
		head := peek(r)
		if match := methodPattern.FindSubmatch(head); match != nil {
			call.Method = string(match[1])
		} else {
			call.Method = "POST " + r.URL.Path
		}
		if match := thisPattern.FindSubmatch(head); match != nil {
			call.Object = strings.Trim(string(match[1])+":"+string(match[2]), ":")
		}
		if match := cookiePattern.FindSubmatch(head); match != nil && key == "" {
			key = string(match[1])
		}
	} else {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		call.Method, call.Object = r.Method+" /"+first, r.URL.Path
	}
	call.Session = logins.ID(key)
}

func isSOAP(r *http.Request) bool {
	return r.Header.Get("SOAPAction") != "" || strings.Contains(r.Header.Get("Content-Type"), "xml")
}

// peek reads the beginning of the body and puts it back.
func peek(r *http.Request) []byte {
	body := r.Body
	head := make([]byte, headBytes)
	n, err := io.ReadFull(body, head)
	head = head[:n]
	for err == nil && len(head) < limitBytes && !methodPattern.Match(head) {
		more := make([]byte, headBytes)
		n, err = io.ReadFull(body, more)
		head = append(head, more[:n]...)
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), body), body}
	return head
}

type countingReader struct {
	io.ReadCloser
	count int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.count += int64(n)
	return n, err
}

// countingWriter counts the reply and keeps the beginning of an error's.
type countingWriter struct {
	http.ResponseWriter
	count  int64
	status int
	head   []byte
}

// Unwrap serves http.ResponseController.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush serves handlers that look for http.Flusher.
func (w *countingWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// WriteHeader implements http.ResponseWriter.
func (w *countingWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *countingWriter) Write(p []byte) (int, error) {
	if w.status >= http.StatusBadRequest && len(w.head) < headBytes {
		w.head = append(w.head, p[:min(len(p), headBytes-len(w.head))]...)
	}
	n, err := w.ResponseWriter.Write(p)
	w.count += int64(n)
	return n, err
}

func (w *countingWriter) outcome() string {
	if w.status < http.StatusBadRequest {
		return "ok"
	}
	if match := faultPattern.FindSubmatch(w.head); match != nil {
		return string(match[1])
	}
	return fmt.Sprintf("HTTP %d", w.status)
}
