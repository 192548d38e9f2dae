// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
)

// rules are the rules in force, in the order in which they were given.
type rules struct {
	lock   sync.Mutex
	list   []*Rule
	number int
	any    atomic.Bool // spares calls the search while there is no rule
}

func (s *rules) add(text []byte) (Rule, error) {
	rule, err := newRule(text)
	if err != nil {
		return Rule{}, err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.number++
	rule.ID = fmt.Sprintf("rule-%d", s.number)
	s.list = append(s.list, rule)
	s.any.Store(true)
	return *rule, nil
}

func (s *rules) all() []Rule {
	s.lock.Lock()
	defer s.lock.Unlock()
	list := make([]Rule, 0, len(s.list))
	for _, rule := range s.list {
		list = append(list, *rule)
	}
	return list
}

// remove takes away the rules chosen, and lets the tasks go on that hang by them.
func (s *rules) remove(chosen func(*Rule) bool) []Rule {
	s.lock.Lock()
	defer s.lock.Unlock()
	removed := make([]Rule, 0)
	s.list = slices.DeleteFunc(s.list, func(rule *Rule) bool {
		if !chosen(rule) {
			return false
		}
		close(rule.release)
		removed = append(removed, *rule)
		return true
	})
	s.any.Store(len(s.list) > 0)
	return removed
}

// letGo lets the tasks go on that hang by a rule; the rule stays in force for tasks to come.
func (s *rules) letGo(id string) (Rule, bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, rule := range s.list {
		if rule.ID == id {
			close(rule.release)
			rule.release = make(chan struct{})
			return *rule, true
		}
	}
	return Rule{}, false
}

// pick finds the rule that applies to a call. The copy it returns does not change any more.
func (s *rules) pick(matches func(*Rule) bool) *Rule {
	if !s.any.Load() {
		return nil
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, rule := range s.list {
		if rule.Count > 0 && rule.Hits >= rule.Count || !matches(rule) {
			continue
		}
		rule.Matched++
		if rule.Matched <= rule.Skip || rule.Probability != nil && rule.random.Float64() >= *rule.Probability {
			continue
		}
		rule.Hits++
		picked := *rule
		return &picked
	}
	return nil
}

func newOf(kind reflect.Type) any { return reflect.New(kind).Interface() }

// anyText reports whether a text in a request matches.
func anyText(value reflect.Value, matches func(string) bool) bool {
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		return !value.IsNil() && anyText(value.Elem(), matches)
	case reflect.String:
		return matches(value.String())
	case reflect.Struct:
		for i := range value.NumField() {
			if value.Type().Field(i).IsExported() && anyText(value.Field(i), matches) {
				return true
			}
		}
	case reflect.Slice:
		if value.Type().Elem().Kind() == reflect.Uint8 {
			return false
		}
		for i := range value.Len() {
			if anyText(value.Index(i), matches) {
				return true
			}
		}
	}
	return false
}
