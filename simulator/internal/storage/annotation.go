// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// An annotation that is there and empty clears the old one, and one that is not there leaves it. The library reads both as "", so
// an empty one comes to it as this character, which no client sends.
const cleared = "\ue000"

var emptyAnnotation = regexp.MustCompile(`<((?:\w+:)?annotation)((?:\s[^<>]*)?)(?:/>|></(?:\w+:)?annotation>)`)

// markCleared lets empty annotations of ReconfigVM_Task be seen.
func markCleared(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/sdk") {
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if bytes.Contains(body, []byte("ReconfigVM_Task")) {
				body = emptyAnnotation.ReplaceAll(body, []byte("<${1}${2}>"+cleared+"</${1}>"))
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		next.ServeHTTP(w, r)
	})
}

// clearAnnotation takes a virtual machine's annotation away.
func clearAnnotation(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	ctx.Map.AtomicUpdate(ctx, vm, []types.PropertyChange{
		{Name: "config.annotation", Val: ""}, {Name: "summary.config.annotation", Val: ""}})
}
