// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vcenter-sim/internal/core"
)

var write = flag.Bool("write", false, "write what is generated into README.md")

// TestREADMEListsTheRules compares the table of README.md with the rules that the features declare.
func TestREADMEListsTheRules(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const head = "| rule | with `-lenient` |\n|---|---|\n"
	want := head
	for _, rule := range core.NewLeniencies(features).Rules() {
		want += fmt.Sprintf("| `%s` | %s |\n", rule.Name, rule.Relaxes)
	}
	before, after, found := strings.Cut(string(text), head)
	if !found {
		t.Fatalf("README.md has no table that begins with\n%s", head)
	}
	_, after, _ = strings.Cut("\n"+after, "\n\n")
	if current := before + want + "\n" + after; *write {
		err = os.WriteFile("README.md", []byte(current), 0o644)
	} else if current != string(text) {
		t.Errorf("README.md is not current (go test . -run README -args -write): it lacks\n%s", want)
	}
	if err != nil {
		t.Error(err)
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
