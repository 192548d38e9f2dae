// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"io"
	"net/http"
	"time"
)

// transfers applies the rules to uploads and downloads, and whatever else is no SOAP.
func (f *faults) transfers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rule := f.rules.pick(func(rule *Rule) bool { return rule.matchesTransfer(r) })
		if rule == nil {
			next.ServeHTTP(w, r)
			return
		}
		time.Sleep(rule.delay())
		switch {
		case rule.Status != 0:
			http.Error(w, http.StatusText(rule.Status), rule.Status)
		case rule.Cut == "before":
			panic(http.ErrAbortHandler)
		case rule.Cut == "after":
			next.ServeHTTP(discard{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		case rule.Cut == "during":
			r.Body = &cutReader{r.Body, rule.AfterBytes}
			next.ServeHTTP(&cutWriter{w, rule.AfterBytes}, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (r *Rule) matchesTransfer(request *http.Request) bool {
	p := &r.patterns
	return p.path != nil && p.path.MatchString(request.URL.Path) &&
		(p.method == nil || p.method.MatchString(request.Method))
}

// discard is where a reply goes that the client shall not see.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// cutReader breaks the connection when so many bytes of an upload have come in.
type cutReader struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF // the handler sees what it sees when the client's network fails
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// cutWriter breaks the connection when so many bytes of a download have gone out, and before any reply to an upload.
type cutWriter struct {
	http.ResponseWriter
	left int64
}

// Write implements io.Writer.
func (c *cutWriter) Write(p []byte) (int, error) {
	n, _ := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	if c.left -= int64(n); c.left <= 0 {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}
