// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// unzoned is a dateTime without a zone. XML Schema allows it and a vCenter takes it for UTC; oslo.vmware sends it as the
// heartbeat of the extension that it registers. Go's time refuses it before any handler is asked.
var unzoned = regexp.MustCompile(`(<[^<>]*[tT]ime[^<>]*>\s*\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)(\s*</)`)

func zoneTimestamps(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/sdk") {
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if bytes.Contains(body, []byte("ime>")) {
				body = unzoned.ReplaceAll(body, []byte("${1}Z${2}"))
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		next.ServeHTTP(w, r)
	})
}
