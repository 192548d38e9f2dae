// SPDX-License-Identifier: Apache-2.0

package logins

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/vmware/govmomi/vim25/soap"

	"vcenter-sim/internal/core"
)

// Cookies gives clients cookies of a vCenter's form: in quotes, and with a value that is not the session's key (recorded of an
// 8.0.3), so that who reads sessionList cannot use the sessions. The policy service is given the value in a SOAP header, without
// the quotes. It is the outermost handler: behind it a cookie's value is the session's key.
var Cookies = core.Feature{
	Name: "cookies",
	Rules: []core.Rule{
		{Name: "cookie", Test: "test_logins.CookieTestCase.test_it_is_quoted_and_is_not_the_key",
			Relaxes: "the cookie's value is the session's key, without quotes"},
		{Name: "quoted-policy-cookie", Test: "test_logins.CookieTestCase.test_the_policy_service_takes_it_without_the_quotes",
			Relaxes: "the policy service accepts the session's cookie with its quotes, as oslo.vmware sends " +
				"it (the records show only that it is accepted without them)"},
	},
	Start: func(s *core.Sim) error {
		if !s.Lenient("cookie") {
			s.WrapHTTP((&cookies{quotes: s.Lenient("quoted-policy-cookie")}).wrap)
		}
		return nil
	},
}

type cookies struct {
	quotes bool     // may be in vcSessionCookie
	keys   sync.Map // a cookie's value -> the session's key
}

var (
	inHeader = regexp.MustCompile(soap.SessionCookieName + `="?([^";]*)"?`)
	inBody   = regexp.MustCompile(`(<(?:[\w-]+:)?vcSessionCookie[^>]*>)([^<]*)(<)`)
)

func (c *cookies) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i, text := range r.Header["Cookie"] {
			r.Header["Cookie"][i] = inHeader.ReplaceAllStringFunc(text, func(cookie string) string {
				return soap.SessionCookieName + "=" + c.key(inHeader.FindStringSubmatch(cookie)[1])
			})
		}
		if r.Method == http.MethodPost && (strings.HasPrefix(r.URL.Path, "/pbm") || strings.HasPrefix(r.URL.Path, "/vslm")) {
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			body = inBody.ReplaceAllFunc(body, func(element []byte) []byte {
				parts := inBody.FindSubmatch(element)
				value := string(parts[2])
				if c.quotes {
					value = strings.Trim(strings.ReplaceAll(value, "&quot;", `"`), `"`)
				}
				return bytes.Join([][]byte{parts[1], []byte(c.key(value)), parts[3]}, nil)
			})
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		next.ServeHTTP(&cookieWriter{w, c}, r)
	})
}

func (c *cookies) key(value string) string {
	if key, ok := c.keys.Load(value); ok {
		return key.(string)
	}
	return "none"
}

type cookieWriter struct {
	http.ResponseWriter
	cookies *cookies
}

// Unwrap lets http.ResponseController find what is below.
func (w *cookieWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *cookieWriter) WriteHeader(status int) {
	for i, text := range w.Header()["Set-Cookie"] {
		if found := inHeader.FindStringSubmatch(text); found != nil {
			value := make([]byte, 20)
			_, _ = rand.Read(value)
			w.cookies.keys.Store(hex.EncodeToString(value), found[1])
			w.Header()["Set-Cookie"][i] = soap.SessionCookieName + `="` + hex.EncodeToString(value) + `"; Path=/; HttpOnly; Secure;`
		}
	}
	w.ResponseWriter.WriteHeader(status)
}
