// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"cmp"
	"net/http"
	"slices"
	"sync"

	"vcenter-sim/internal/control"
)

// use is a check that was made.
type use struct {
	User      string `json:"user"`
	Method    string `json:"method"`
	Privilege string `json:"privilege"`
	// Object is the type of the entity on which the privilege was looked for.
	Object string `json:"object"`
	// Property is the property that was read, if any.
	Property string `json:"property,omitempty"`
}

// count is how often a check was made, and how often it ended in NoPermission.
type count struct {
	use
	Checked int `json:"checked"`
	Denied  int `json:"denied"`
}

// usage remembers which checks were made.
type usage struct {
	lock  sync.Mutex
	count map[use]*count
}

func (u *usage) note(made use, granted bool) {
	u.lock.Lock()
	defer u.lock.Unlock()
	c := u.count[made]
	if c == nil {
		c = &count{use: made}
		u.count[made] = c
	}
	c.Checked++
	if !granted {
		c.Denied++
	}
}

// report lists the checks of a user, or of all.
func (u *usage) report(user string) []count {
	u.lock.Lock()
	defer u.lock.Unlock()
	list := make([]count, 0, len(u.count))
	for _, c := range u.count {
		if user == "" || fold(user) == fold(c.User) {
			list = append(list, *c)
		}
	}
	slices.SortFunc(list, func(a, b count) int {
		return cmp.Or(cmp.Compare(a.Method, b.Method), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Privilege, b.Privilege),
			cmp.Compare(a.Property, b.Property), cmp.Compare(a.User, b.User))
	})
	return list
}

func (u *usage) forget() {
	u.lock.Lock()
	defer u.lock.Unlock()
	u.count = make(map[use]*count)
}

func (u *usage) serve(w http.ResponseWriter, r *http.Request) {
	report := u.report(r.URL.Query().Get("user"))
	if r.Method == http.MethodDelete {
		u.forget()
	}
	control.Answer(w, report)
}
