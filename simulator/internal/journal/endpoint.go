// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"flag"
	"fmt"
	"net/http"
	"strconv"

	"vcenter-sim/internal/control"
	"vcenter-sim/internal/core"
)

var keep int

// Feature records all calls.
var Feature = core.Feature{
	Name: "journal",
	Flags: func(set *flag.FlagSet) {
		set.IntVar(&keep, "journal", 10000, "remember the last `N` calls one by one, for GET /journal/calls")
	},
	Start: start,
}

func start(s *core.Sim) error {
	if keep < 0 {
		return fmt.Errorf("invalid value \"%d\" for flag -journal: give a number of calls, or 0 for none", keep)
	}
	j := New(keep)
	s.WrapHTTP(j.Wrap)
	s.Control.HandleFunc("GET /journal", func(w http.ResponseWriter, _ *http.Request) { control.Answer(w, j.Report()) })
	s.Control.HandleFunc("DELETE /journal", func(w http.ResponseWriter, _ *http.Request) {
		report := j.Report()
		j.Reset()
		control.Answer(w, report)
	})
	s.Control.HandleFunc("GET /journal/calls", func(w http.ResponseWriter, r *http.Request) {
		last := 100
		if text := r.URL.Query().Get("last"); text != "" {
			var err error
			if last, err = strconv.Atoi(text); err != nil || last < 0 {
				control.Refuse(w, http.StatusBadRequest, fmt.Errorf("last=%s: give a number of calls, as last=100", text))
				return
			}
		}
		control.Answer(w, j.Last(last))
	})
	return nil
}
