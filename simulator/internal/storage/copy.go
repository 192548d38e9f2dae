// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"reflect"
	"time"
)

// deepCopy copies a value of the API with all that it points to. The API's values hold no functions, channels or circles.
func deepCopy[T any](value T) T {
	return copyValue(reflect.ValueOf(&value).Elem()).Interface().(T)
}

var timeType = reflect.TypeFor[time.Time]()

func copyValue(from reflect.Value) reflect.Value {
	to := reflect.New(from.Type()).Elem()
	switch from.Kind() {
	case reflect.Pointer:
		if !from.IsNil() {
			to.Set(reflect.New(from.Type().Elem()))
			to.Elem().Set(copyValue(from.Elem()))
		}
	case reflect.Interface:
		if !from.IsNil() {
			to.Set(copyValue(from.Elem()))
		}
	case reflect.Slice:
		if !from.IsNil() {
			to.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
			for i := range from.Len() {
				to.Index(i).Set(copyValue(from.Index(i)))
			}
		}
	case reflect.Struct:
		to.Set(from)
		if from.Type() != timeType {
			for i := range from.NumField() {
				if to.Field(i).CanSet() {
					to.Field(i).Set(copyValue(from.Field(i)))
				}
			}
		}
	default:
		to.Set(from)
	}
	return to
}
