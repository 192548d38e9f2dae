// SPDX-License-Identifier: Apache-2.0

// Package reply shortens what control endpoints do with a request that holds one JSON object.
package reply

import (
	"net/http"

	"vcenter-sim/internal/control"
)

// Read reads a request's body. If it cannot be read, the request is answered with status 400 and the result is false.
func Read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := control.Decode(r.Body, into); err != nil {
		control.Refuse(w, http.StatusBadRequest, err)
		return false
	}
	return true
}

// Result answers with an error (status 400), with a value as JSON, or, if there is neither, with status 204.
func Result(w http.ResponseWriter, value any, err error) {
	switch {
	case err != nil:
		control.Refuse(w, http.StatusBadRequest, err)
	case value == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		control.Answer(w, value)
	}
}
