// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"io"
	"net/http"

	"vcenter-sim/internal/control"
	"vcenter-sim/internal/core"
)

// Feature lets calls fail on demand.
var Feature = core.Feature{Name: "faults", Start: start}

type faults struct {
	sim   *core.Sim
	rules rules
}

func start(s *core.Sim) error {
	f := &faults{sim: s}
	s.Around(f.around)
	s.WrapHTTP(f.transfers)
	s.OnStop(func() { f.rules.remove(func(*Rule) bool { return true }) })

	s.Control.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		var rule Rule
		if err == nil {
			rule, err = f.rules.add(text)
		}
		if err != nil {
			control.Refuse(w, http.StatusBadRequest, err)
			return
		}
		control.Answer(w, rule)
	})
	s.Control.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { control.Answer(w, f.rules.all()) })
	s.Control.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		control.Answer(w, f.rules.remove(func(*Rule) bool { return true }))
	})
	s.Control.HandleFunc("DELETE /faults/{id}", func(w http.ResponseWriter, r *http.Request) {
		removed := f.rules.remove(func(rule *Rule) bool { return rule.ID == r.PathValue("id") })
		if len(removed) == 0 {
			noRule(w, r)
			return
		}
		control.Answer(w, removed[0])
	})
	s.Control.HandleFunc("POST /faults/{id}/release", func(w http.ResponseWriter, r *http.Request) {
		rule, ok := f.rules.letGo(r.PathValue("id"))
		if !ok {
			noRule(w, r)
			return
		}
		control.Answer(w, rule)
	})
	return nil
}

func noRule(w http.ResponseWriter, r *http.Request) {
	control.Refuse(w, http.StatusNotFound, fmt.Errorf("no rule %q: GET /faults lists them", r.PathValue("id")))
}
