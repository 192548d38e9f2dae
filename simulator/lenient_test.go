// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vcenter-sim/internal/core"
)

// TestREADMEListsTheRules compares the table of README.md with the rules that the features declare.
func TestREADMEListsTheRules(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := "| rule | with `-lenient` |\n|---|---|\n"
	for _, rule := range core.NewLeniencies(features).Rules() {
		want += fmt.Sprintf("| `%s` | %s |\n", rule.Name, rule.Relaxes)
	}
	if !strings.Contains(string(text), want+"\n") {
		t.Errorf("README.md lacks this table:\n%s", want)
	}
}

// TestEachRuleIsDeclaredAndAskedFor finds rules that no code asks for, and names that are no rules.
func TestEachRuleIsDeclaredAndAskedFor(t *testing.T) {
	asked := make(map[string]bool)
	pattern := regexp.MustCompile(`\.Lenient\("([^"]*)"\)`)
	err := filepath.WalkDir("internal", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range pattern.FindAllStringSubmatch(string(text), -1) {
			asked[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	declared := make(map[string]bool)
	for _, rule := range core.NewLeniencies(features).Rules() {
		if declared[rule.Name] {
			t.Errorf("%s is declared twice", rule.Name)
		}
		if declared[rule.Name] = true; !asked[rule.Name] {
			t.Errorf("no code asks s.Lenient(%q)", rule.Name)
		}
	}
	for name := range asked {
		if !declared[name] {
			t.Errorf("%s is in no feature's Rules", name)
		}
	}
}

func TestAnUnknownRuleIsRefusedWithAllRules(t *testing.T) {
	_, err := parse([]string{"-lenient", "everything"})
	if err == nil || !strings.Contains(err.Error(), `"everything" is not a rule, the rules are`) {
		t.Error(err)
	}
}
