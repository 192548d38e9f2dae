// SPDX-License-Identifier: Apache-2.0

package places

import "testing"

func TestNamesAreEscapedOnce(t *testing.T) {
	for name, want := range map[string]string{
		"plain": "plain", "a/b": "a%2fb", `a\b`: "a%5cb", "50%": "50%25", "a%2fb": "a%2fb", "50%25": "50%25", "ümläut 1": "ümläut 1",
	} {
		if got := Escape(name); got != want {
			t.Errorf("%q is stored as %q, not as %q", name, got, want)
		}
	}
}
