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
	const head = "| rule | with `-lenient` | held to by |\n|---|---|---|\n"
	want := head
	for _, rule := range core.NewLeniencies(features).Rules() {
		want += fmt.Sprintf("| `%s` | %s | `%s` |\n", rule.Name, rule.Relaxes, rule.Test)
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

// TestEachRuleHasAConformanceTest finds rules without a test, and tests that are not there or do not say what they follow.
func TestEachRuleHasAConformanceTest(t *testing.T) {
	page, err := os.ReadFile("docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range core.NewLeniencies(features).Rules() {
		parts := strings.Split(rule.Test, ".")
		if len(parts) != 3 {
			t.Errorf("%s names the test %q, not module.class.method", rule.Name, rule.Test)
			continue
		}
		text, err := os.ReadFile(filepath.Join("conformance", parts[0]+".py"))
		_, class, found := strings.Cut(string(text), "\nclass "+parts[1]+"(")
		class, _, _ = strings.Cut(class, "\nclass ")
		if err != nil || !found || !strings.Contains(class, "    def "+parts[2]+"(self") {
			t.Errorf("%s names the test %s, which is not there", rule.Name, rule.Test)
		}
		// The page names the test, its class or its module beside the reference.
		if !strings.Contains(string(page), "`"+parts[0]+"."+parts[1]) && !strings.Contains(string(page), "`"+parts[0]+"`") {
			t.Errorf("docs/conformance.md does not say what %s, the test of %s, follows", rule.Test, rule.Name)
		}
	}
}

// TestEachFindingHasAConformanceTest finds rows of docs/conformance.md that do not say what is followed, or name no test.
func TestEachFindingHasAConformanceTest(t *testing.T) {
	page, err := os.ReadFile("docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	for number := 1; number <= 22; number++ {
		if !strings.Contains(string(page), fmt.Sprintf("\n| A%d |", number)) {
			t.Errorf("A%d has no row", number)
		}
	}
	for line := range strings.SplitSeq(string(page), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || cells[len(cells)-1] == "test" {
			continue
		}
		if len(cells) < 3 || len(cells[len(cells)-2]) < 10 || !strings.Contains(cells[len(cells)-1], "`test_") {
			t.Errorf("this row does not say what is followed, or names no test: %s", line)
		}
	}
}

func TestAnUnknownRuleIsRefusedWithAllRules(t *testing.T) {
	_, err := parse([]string{"-lenient", "everything"})
	if err == nil || !strings.Contains(err.Error(), `"everything" is not a rule, the rules are`) {
		t.Error(err)
	}
}
