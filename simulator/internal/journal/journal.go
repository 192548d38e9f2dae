// SPDX-License-Identifier: Apache-2.0

// Package journal counts all calls that reach the simulated vCenter, with their bytes, and remembers the last of them.
package journal

import (
	"sync"
	"time"
)

// Totals are the sums over the calls of one method. Bytes are those of the bodies.
type Totals struct {
	Calls         int     `json:"calls"`
	Faults        int     `json:"faults"` // SOAP faults, HTTP errors and cut connections
	RequestBytes  int64   `json:"request_bytes"`
	ResponseBytes int64   `json:"response_bytes"`
	Seconds       float64 `json:"seconds"`
}

// Call is one call that has ended.
type Call struct {
	Number  int64     `json:"number"`
	Time    time.Time `json:"time"` // when it came
	Method  string    `json:"method"`
	Object  string    `json:"object"`  // Type:moref, or the path of a transfer
	Session string    `json:"session"` // logins.ID of the session; "" for none
	Seconds float64   `json:"seconds"`
	// Outcome is "ok", the type of a SOAP fault, "HTTP 404", or "cut" if no reply was sent.
	Outcome       string `json:"outcome"`
	RequestBytes  int64  `json:"request_bytes"`
	ResponseBytes int64  `json:"response_bytes"`
}

// Report is what the journal tells.
type Report struct {
	Since   time.Time         `json:"since"`
	Totals                    // over all methods
	Methods map[string]Totals `json:"methods"`
	Running map[string]int    `json:"running"` // calls that have not ended
}

// Journal counts.
type Journal struct {
	lock    sync.Mutex
	since   time.Time
	all     Totals
	methods map[string]*Totals
	running map[string]int
	last    []Call // a ring
	number  int64
}

// New makes a journal that remembers up to keep individual calls.
func New(keep int) *Journal {
	j := &Journal{last: make([]Call, keep), running: make(map[string]int)}
	j.Reset()
	return j
}

// Reset forgets all calls that have ended.
func (j *Journal) Reset() {
	j.lock.Lock()
	defer j.lock.Unlock()
	j.since, j.all, j.methods, j.number = time.Now(), Totals{}, make(map[string]*Totals), 0
	clear(j.last)
}

func (j *Journal) begin(method string) {
	j.lock.Lock()
	defer j.lock.Unlock()
	j.running[method]++
}

func (j *Journal) end(call Call) {
	j.lock.Lock()
	defer j.lock.Unlock()
	if j.running[call.Method]--; j.running[call.Method] == 0 {
		delete(j.running, call.Method)
	}
	totals := j.methods[call.Method]
	if totals == nil {
		totals = &Totals{}
		j.methods[call.Method] = totals
	}
	for _, t := range []*Totals{totals, &j.all} {
		t.Calls++
		t.RequestBytes += call.RequestBytes
		t.ResponseBytes += call.ResponseBytes
		t.Seconds += call.Seconds
		if call.Outcome != "ok" {
			t.Faults++
		}
	}
	j.number++
	call.Number = j.number
	if len(j.last) > 0 {
		j.last[int(j.number)%len(j.last)] = call
	}
}

// Report sums up.
func (j *Journal) Report() Report {
	j.lock.Lock()
	defer j.lock.Unlock()
	report := Report{
		Since: j.since, Totals: j.all, Methods: make(map[string]Totals, len(j.methods)),
		Running: make(map[string]int, len(j.running)),
	}
	for name, totals := range j.methods {
		report.Methods[name] = *totals
	}
	for name, count := range j.running {
		report.Running[name] = count
	}
	return report
}

// Last lists up to count calls that ended last, the oldest first.
func (j *Journal) Last(count int) []Call {
	j.lock.Lock()
	defer j.lock.Unlock()
	count = min(count, len(j.last), int(j.number))
	calls := make([]Call, 0, max(count, 0))
	for n := j.number - int64(count) + 1; n <= j.number; n++ {
		calls = append(calls, j.last[int(n)%len(j.last)])
	}
	return calls
}
