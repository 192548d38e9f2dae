// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

var (
	timeType      = reflect.TypeFor[time.Time]()
	referenceType = reflect.TypeFor[types.ManagedObjectReference]()

	managedTypes sync.Map // name of a managed type -> reflect.Type, or nil if there is no such type
	validPaths   sync.Map // [2]string{type, path} -> bool
)

// ManagedType finds a managed type by its name: "VirtualMachine", or "ManagedEntity".
func ManagedType(name string) (reflect.Type, bool) {
	if known, ok := managedTypes.Load(name); ok {
		kind, _ := known.(reflect.Type)
		return kind, kind != nil
	}
	kind := managedType(name)
	managedTypes.Store(name, kind)
	return kind, kind != nil
}

func managedType(name string) (kind reflect.Type) {
	defer func() {
		if recover() != nil { // the library's way to say that it knows no such type
			kind = nil
		}
	}()
	if name == "ManagedObject" {
		return reflect.TypeFor[struct{}]()
	}
	value, err := mo.ObjectContentToType(types.ObjectContent{Obj: types.ManagedObjectReference{Type: name}})
	if err != nil {
		return nil
	}
	kind = reflect.TypeOf(value)
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	return kind
}

// ValidPath reports whether a managed type has a property of this path, as PropertySpec.pathSet spells it: names that are
// declared by the type and by the types of its properties, not by types derived from these, and keys of arrays.
func ValidPath(kind, path string) bool {
	key := [2]string{kind, path}
	if known, ok := validPaths.Load(key); ok {
		return known.(bool)
	}
	goType, ok := ManagedType(kind)
	valid := ok && hasPath(goType, path)
	if !strings.Contains(path, "[") { // of keys there is no end
		validPaths.Store(key, valid)
	}
	return valid
}

func hasPath(kind reflect.Type, path string) bool {
	for path != "" {
		name, rest := path, ""
		if end := strings.IndexAny(path, ".["); end >= 0 {
			name, rest = path[:end], path[end:]
		}
		var ok bool
		if kind, ok = property(kind, name); !ok {
			return false
		}
		if strings.HasPrefix(rest, "[") {
			if kind, rest, ok = element(kind, rest); !ok {
				return false
			}
		}
		if rest == "" {
			return true
		}
		if rest[0] != '.' || kind.Kind() == reflect.Slice {
			return false
		}
		path = rest[1:]
	}
	return false
}

// property finds the declared type of a type's property.
func property(kind reflect.Type, name string) (reflect.Type, bool) {
	kind = declared(kind)
	if kind.Kind() != reflect.Struct || kind == timeType || kind == referenceType {
		return nil, false
	}
	for _, field := range reflect.VisibleFields(kind) {
		if !field.Anonymous && field.IsExported() && field.Name != "Self" && apiName(field) == name {
			return declared(field.Type), true
		}
	}
	return nil, false
}

// element finds the type of an array's elements, for a path that begins with a key: [4000].backing, ["name"]. It returns the
// rest of the path.
func element(kind reflect.Type, path string) (reflect.Type, string, bool) {
	end := strings.IndexByte(path, ']')
	if strings.HasPrefix(path, `["`) {
		if end = strings.Index(path, `"]`); end >= 0 {
			end++
		}
	}
	if end < 0 || kind.Kind() != reflect.Slice {
		return nil, "", false
	}
	kind = declared(kind.Elem())
	if _, keyed := property(kind, "key"); !keyed {
		return nil, "", false
	}
	return kind, path[end+1:], true
}

// declared looks through pointers, and through govmomi's interfaces, which stand for a type and those derived from it.
func declared(kind reflect.Type) reflect.Type {
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	if kind.Kind() == reflect.Interface {
		if base, ok := types.TypeFunc()(strings.TrimPrefix(kind.Name(), "Base")); ok && kind.Name() != "" {
			return base
		}
	}
	return kind
}

// apiName is a property's name in the API: managed types bear it in one tag, data types in another.
func apiName(field reflect.StructField) string {
	for _, tag := range []string{"json", "xml"} {
		if name, _, _ := strings.Cut(field.Tag.Get(tag), ","); name != "" && name != "-" {
			return name
		}
	}
	return ""
}

// Check finds the first path, or type, that filters must not name.
func Check(s *core.Sim, set ...types.PropertyFilterSpec) types.BaseMethodFault {
	if s.Lenient("unknown-paths") {
		return nil
	}
	for _, spec := range set {
		for _, properties := range spec.PropSet {
			if _, known := ManagedType(properties.Type); !known {
				return &types.InvalidType{Argument: properties.Type}
			}
			for _, path := range properties.PathSet {
				if !ValidPath(properties.Type, path) {
					return &types.InvalidProperty{Name: path}
				}
			}
		}
		for _, start := range spec.ObjectSet {
			if fault := checkTraversals(start.SelectSet); fault != nil {
				return fault
			}
		}
	}
	return nil
}

func checkTraversals(set []types.BaseSelectionSpec) types.BaseMethodFault {
	for _, selection := range set {
		traversal, ok := selection.(*types.TraversalSpec)
		if !ok {
			continue
		}
		if _, known := ManagedType(traversal.Type); !known {
			return &types.InvalidType{Argument: traversal.Type}
		}
		if !ValidPath(traversal.Type, traversal.Path) {
			return &types.InvalidProperty{Name: traversal.Path}
		}
		if fault := checkTraversals(traversal.SelectSet); fault != nil {
			return fault
		}
	}
	return nil
}

// knownPaths takes the paths out of filters that no property has, and returns them apart: they are answered one by one, as
// missing. The filters themselves, which may be a client's and last, stay as they are.
func knownPaths(set []types.PropertyFilterSpec) (known []types.PropertyFilterSpec, unknown []types.PropertySpec) {
	known = slices.Clone(set)
	for i := range known {
		known[i].PropSet = slices.Clone(known[i].PropSet)
		for j := range known[i].PropSet {
			spec := &known[i].PropSet[j]
			var valid, invalid []string
			for _, path := range spec.PathSet {
				if ValidPath(spec.Type, path) {
					valid = append(valid, path)
				} else {
					invalid = append(invalid, path)
				}
			}
			if len(invalid) > 0 {
				spec.PathSet = valid
				unknown = append(unknown, types.PropertySpec{Type: spec.Type, PathSet: invalid})
			}
		}
	}
	return known, unknown
}
