// SPDX-License-Identifier: Apache-2.0

// Package control is how features speak on the control endpoint: JSON in, JSON out, and one clear error.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Answer writes a value as JSON.
func Answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value)
}

// Refuse answers {"error": "..."} with a status.
func Refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// Decode reads one JSON value and refuses what it does not know. An error names the field.
func Decode(r io.Reader, value any) error {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return Explain(err)
	}
	if decoder.More() {
		return errors.New("give one JSON value, there is more than one")
	}
	return nil
}

// Explain puts an error of the JSON decoder into words for somebody who wrote the JSON.
func Explain(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the body is empty: give a JSON object")
	case errors.As(err, &kind):
		return fmt.Errorf("%s: give a JSON value that fits %s, not a %s", kind.Field, kind.Type, kind.Value)
	case strings.HasPrefix(err.Error(), "json: "):
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return err
}
