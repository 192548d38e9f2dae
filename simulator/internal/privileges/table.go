// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	_ "embed"
	"slices"
	"strings"
)

// text is the table that generate.py makes.
//
//go:embed table.txt
var text string

// reference is what the API's reference says about privileges, as far as it does not depend on the content of a request.
var reference = parse(text)

// rule is what a method needs.
type rule struct {
	// self is the privilege on the object that is called, or "".
	self string
	// parameters are privileges on the objects that parameters name.
	parameters []parameter
}

// parameter is a privilege on the object, or objects, that a field of the request names.
type parameter struct{ field, privilege string }

type table struct {
	methods    map[string]rule   // "Folder.CreateFolder"
	properties map[string]string // "Folder.childEntity" -> privilege
	parents    map[string]string // type -> the type that it is derived from
	privileges []string          // all privileges that are named, sorted
}

func parse(text string) *table {
	t := &table{methods: make(map[string]rule), properties: make(map[string]string), parents: make(map[string]string)}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch words[0] {
		case "type":
			t.parents[words[1]] = words[2]
		case "property":
			t.properties[words[1]] = words[2]
			t.privileges = append(t.privileges, words[2])
		case "method":
			t.methods[words[1]] = t.rule(words[2:])
		}
	}
	slices.Sort(t.privileges)
	t.privileges = slices.Compact(t.privileges)
	return t
}

func (t *table) rule(words []string) rule {
	var r rule
	if words[0] != "-" {
		r.self = words[0]
		t.privileges = append(t.privileges, r.self)
	}
	for _, word := range words[1:] {
		name, privilege, _ := strings.Cut(word, "=")
		r.parameters = append(r.parameters, parameter{strings.ToUpper(name[:1]) + name[1:], privilege})
		t.privileges = append(t.privileges, privilege)
	}
	return r
}

// method finds what a method needs; a type has the methods of those that it is derived from.
func (t *table) method(kind, name string) (rule, bool) {
	for ; kind != ""; kind = t.parents[kind] {
		if r, known := t.methods[kind+"."+name]; known {
			return r, true
		}
	}
	return rule{}, false
}

// property finds the privilege that reading a property needs. Where the reference names none, it is System.Read.
func (t *table) property(kind, path string) string {
	name, _, _ := strings.Cut(path, ".")
	name, _, _ = strings.Cut(name, "[")
	for ; kind != ""; kind = t.parents[kind] {
		if privilege, known := t.properties[kind+"."+name]; known {
			return privilege
		}
	}
	return read
}

// isA reports whether a type is another one, or derived from it.
func (t *table) isA(kind, other string) bool {
	for ; kind != ""; kind = t.parents[kind] {
		if kind == other {
			return true
		}
	}
	return false
}
