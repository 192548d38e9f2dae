// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"slices"
	"strings"
)

// Rule is a rule in which the simulated vCenter is as strict as a vCenter, unless the flag -lenient names it.
type Rule struct {
	// Name is what -lenient and Sim.Lenient call the rule.
	Name string
	// Relaxes says what happens when -lenient names the rule: one phrase for the table in README.md.
	Relaxes string
	// Test is the conformance test that holds the simulated vCenter to the rule: module.class.method below conformance. What it
	// follows, a reference or a recording, is said in docs/conformance.md.
	Test string
}

// Lenient reports whether the flag -lenient named a rule. The rule is one of a feature's Rules.
func (s *Sim) Lenient(name string) bool { return slices.Contains(s.Settings.Lenient, name) }

// Leniencies is the flag -lenient: RULE[,RULE...], repeatable. It knows the rules of the features given.
type Leniencies struct {
	// Given are the rules that the flag named.
	Given []string

	rules []Rule
}

// NewLeniencies is the flag for the rules of all features.
func NewLeniencies(features []Feature) *Leniencies {
	l := &Leniencies{}
	for _, feature := range features {
		l.rules = append(l.rules, feature.Rules...)
	}
	slices.SortFunc(l.rules, func(a, b Rule) int { return strings.Compare(a.Name, b.Name) })
	return l
}

// Rules are all rules, by name.
func (l *Leniencies) Rules() []Rule { return slices.Clone(l.rules) }

// String implements flag.Value.
func (l *Leniencies) String() string { return strings.Join(l.Given, ",") }

// Set implements flag.Value. A name that is no rule is refused with the names of all rules.
func (l *Leniencies) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		if !slices.ContainsFunc(l.rules, func(rule Rule) bool { return rule.Name == name }) {
			return fmt.Errorf("%q is not a rule, the rules are %s", name, strings.Join(l.names(), ", "))
		}
		if !slices.Contains(l.Given, name) {
			l.Given = append(l.Given, name)
		}
	}
	return nil
}

func (l *Leniencies) names() []string {
	names := make([]string, 0, len(l.rules))
	for _, rule := range l.rules {
		names = append(names, rule.Name)
	}
	return names
}
