// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestBadRulesAreRefusedWithTheReason(t *testing.T) {
	for rule, words := range map[string]string{
		``:                                     "empty",
		`{`:                                    "unexpected",
		`[]`:                                   "",
		`{"delay_ms": 1} {}`:                   "more than one",
		`{"delay": 1}`:                         `unknown field "delay"`,
		`{"method": "[", "delay_ms": 1}`:       "method",
		`{"fault": {"type": "Nothing"}}`:       "Nothing",
		`{"fault": {"type": ""}}`:              "no fault",
		`{"fault": {"type": "AboutInfo"}}`:     "no fault",
		`{"task_hang": true, "cut": "before"}`: "no task",
		`{"path": "/", "task_hang": true}`:     "transfers",
		`{"after_work": true, "delay_ms": 1}`:  "task_fault",
		`{"kill_sessions": "mine"}`:            "caller, all",
	} {
		_, err := newRule([]byte(rule))
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", rule, err, words)
		}
	}
}

func TestAFaultHasItsFields(t *testing.T) {
	rule, err := newRule([]byte(`{"fault": {"type": "ResourceInUse", "fields": {"type": "Datastore", "name": "ds"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	fault, ok := rule.Fault.value.(*types.ResourceInUse)
	if !ok || fault.Type != "Datastore" || fault.Name != "ds" {
		t.Errorf("%#v", rule.Fault.value)
	}
}

func TestRulesAreUsedUpInOrder(t *testing.T) {
	var s rules
	for _, rule := range []string{
		`{"method": "A", "count": 1, "delay_ms": 1}`, `{"method": "A", "skip": 1, "count": 2, "delay_ms": 2}`,
	} {
		if _, err := s.add([]byte(rule)); err != nil {
			t.Fatal(err)
		}
	}
	var delays []int
	for range 5 {
		if rule := s.pick(func(*Rule) bool { return true }); rule != nil {
			delays = append(delays, rule.DelayMS)
		} else {
			delays = append(delays, 0)
		}
	}
	for i, want := range []int{1, 0, 2, 2, 0} {
		if delays[i] != want {
			t.Fatalf("%v", delays)
		}
	}
	for i, want := range []struct{ matched, hits int }{{1, 1}, {3, 2}} {
		if got := s.all()[i]; got.Matched != want.matched || got.Hits != want.hits {
			t.Errorf("rule %d: %d of %d, want %v", i, got.Hits, got.Matched, want)
		}
	}
}

func TestRemovedRulesLetGo(t *testing.T) {
	var s rules
	if _, err := s.add([]byte(`{"task_hang": true}`)); err != nil {
		t.Fatal(err)
	}
	rule := s.pick(func(*Rule) bool { return true })
	s.remove(func(*Rule) bool { return true })
	<-rule.release
	if s.pick(func(*Rule) bool { return true }) != nil {
		t.Error("it is still in force")
	}
}
