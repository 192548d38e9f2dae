// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"sync"

	"vcenter-sim/internal/core"
	"vcenter-sim/vimservice"
)

// document is the WSDL, unpacked when it is first asked for.
var document = sync.OnceValues(func() ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(vimservice.Packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
})

// serveWSDL serves the API's description where a vCenter does. It names the address by which the client came.
func serveWSDL(s *core.Sim) {
	s.Front.HandleFunc("GET /sdk/vimService.wsdl", func(w http.ResponseWriter, r *http.Request) {
		text, err := document()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		_, _ = w.Write(bytes.Replace(text, []byte("https://localhost/sdk"), []byte("https://"+r.Host+"/sdk"), 1))
	})
}
