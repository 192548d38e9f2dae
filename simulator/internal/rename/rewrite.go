// SPDX-License-Identifier: Apache-2.0

package rename

import (
	"reflect"
	"strings"
	"time"
)

// rewritten returns a value in which every datastore path "[from] ..." reads "[to] ...". What changes is copied on the way:
// others may be reading the original. The second result reports whether anything changed.
func rewritten(value reflect.Value, from, to string) (reflect.Value, bool) {
	switch value.Kind() {
	case reflect.String:
		prefix := "[" + from + "]"
		if text := value.String(); strings.HasPrefix(text, prefix) {
			changed := reflect.New(value.Type()).Elem()
			changed.SetString("[" + to + "]" + text[len(prefix):])
			return changed, true
		}
	case reflect.Pointer:
		if value.IsNil() {
			break
		}
		if inner, changed := rewritten(value.Elem(), from, to); changed {
			pointer := reflect.New(value.Type().Elem())
			pointer.Elem().Set(inner)
			return pointer, true
		}
	case reflect.Interface:
		if value.IsNil() {
			break
		}
		if inner, changed := rewritten(value.Elem(), from, to); changed {
			box := reflect.New(value.Type()).Elem()
			box.Set(inner)
			return box, true
		}
	case reflect.Slice:
		return rewrittenSlice(value, from, to)
	case reflect.Struct:
		return rewrittenStruct(value, from, to)
	}
	return value, false
}

func rewrittenSlice(value reflect.Value, from, to string) (reflect.Value, bool) {
	if value.Type().Elem().Kind() == reflect.Uint8 {
		return value, false
	}
	list, any := value, false
	for i := range value.Len() {
		element, changed := rewritten(value.Index(i), from, to)
		if !changed {
			continue
		}
		if !any {
			list = reflect.MakeSlice(value.Type(), value.Len(), value.Len())
			reflect.Copy(list, value)
			any = true
		}
		list.Index(i).Set(element)
	}
	return list, any
}

func rewrittenStruct(value reflect.Value, from, to string) (reflect.Value, bool) {
	if value.Type() == reflect.TypeFor[time.Time]() {
		return value, false
	}
	result, any := value, false
	for i := range value.NumField() {
		if !value.Type().Field(i).IsExported() {
			continue
		}
		field, changed := rewritten(value.Field(i), from, to)
		if !changed {
			continue
		}
		if !any {
			result = reflect.New(value.Type()).Elem()
			result.Set(value)
			any = true
		}
		result.Field(i).Set(field)
	}
	return result, any
}
