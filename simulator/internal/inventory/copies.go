// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"reflect"
	"strings"
	"sync"
)

// copyOf copies a value with all that it refers to, and writes other text in place of some within its strings. The library
// copies by writing XML and reading it, which takes some milliseconds for a host. What fields that are not exported refer to is
// shared.
func copyOf[T any](source *T, texts ...string) *T {
	c := copier{strings.NewReplacer(texts...).Replace}
	made := new(T)
	c.into(reflect.ValueOf(made).Elem(), reflect.ValueOf(source).Elem())
	return made
}

type copier struct {
	text func(string) string
}

// into copies a value to where a flat copy of it may be already.
func (c copier) into(to, from reflect.Value) {
	switch from.Kind() {
	case reflect.String:
		to.SetString(c.text(from.String()))
	case reflect.Pointer:
		if to.Set(from); !from.IsNil() {
			made := reflect.New(from.Type().Elem())
			c.into(made.Elem(), from.Elem())
			to.Set(made)
		}
	case reflect.Interface:
		if to.Set(from); !from.IsNil() {
			made := reflect.New(from.Elem().Type()).Elem()
			c.into(made, from.Elem())
			to.Set(made)
		}
	case reflect.Slice:
		c.slice(to, from)
	case reflect.Struct:
		to.Set(from)
		for _, i := range deepFields(from.Type()) {
			c.into(to.Field(i), from.Field(i))
		}
	case reflect.Map, reflect.Array, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		panic("inventory: no " + from.Type().String() + " is copied")
	default:
		to.Set(from)
	}
}

func (c copier) slice(to, from reflect.Value) {
	if to.Set(from); from.IsNil() {
		return
	}
	made := reflect.MakeSlice(from.Type(), from.Len(), from.Len())
	if isFlat(from.Type().Elem()) {
		reflect.Copy(made, from)
	} else {
		for i := range from.Len() {
			c.into(made.Index(i), from.Index(i))
		}
	}
	to.Set(made)
}

var knownFields sync.Map // by type

// deepFields are the exported fields of a struct that a flat copy of it would share with it, or that hold strings.
func deepFields(kind reflect.Type) []int {
	if known, ok := knownFields.Load(kind); ok {
		return known.([]int)
	}
	var found []int
	for i := range kind.NumField() {
		if field := kind.Field(i); field.IsExported() && !isFlat(field.Type) {
			found = append(found, i)
		}
	}
	knownFields.Store(kind, found)
	return found
}

// isFlat reports whether a value of a type holds nothing but itself.
func isFlat(kind reflect.Type) bool {
	switch kind.Kind() {
	case reflect.Struct:
		return len(deepFields(kind)) == 0
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map, reflect.String, reflect.Array, reflect.Chan,
		reflect.Func, reflect.UnsafePointer:
		return false
	}
	return true
}
