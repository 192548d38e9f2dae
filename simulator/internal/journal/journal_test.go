// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCallsAreIdentified(t *testing.T) {
	padding := strings.Repeat(" ", 3*headBytes)
	for _, c := range []struct{ name, body, method, object string }{
		{"pyVmomi", `<soapenv:Envelope><soapenv:Body><CreateFolder xmlns="urn:vim25">` +
			`<_this versionId="8.0.3.0" xsi:type="ManagedObjectReference" type="Folder">group-d1</_this><name>x</name>`,
			"CreateFolder", "Folder:group-d1"},
		{"suds", `<SOAP-ENV:Envelope><SOAP-ENV:Header/><ns1:Body><ns0:Login><ns0:_this type="SessionManager">SessionManager</ns0:_this>`,
			"Login", "SessionManager:SessionManager"},
		{"a long header", `<Envelope><Header>` + padding + `</Header><Body><LoginByToken><_this type='SessionManager'>S</_this>`,
			"LoginByToken", "SessionManager:S"},
		{"no call", `hello`, "POST /sdk", ""},
	} {
		request := httptest.NewRequest(http.MethodPost, "/sdk", strings.NewReader(c.body))
		request.Header.Set("Content-Type", "text/xml")
		var call Call
		identify(&call, request)
		if call.Method != c.method || call.Object != c.object {
			t.Errorf("%s: %s on %s", c.name, call.Method, call.Object)
		}
		if rest, _ := io.ReadAll(request.Body); string(rest) != c.body {
			t.Errorf("%s: %d bytes are left for the handler, of %d", c.name, len(rest), len(c.body))
		}
	}
}

func TestTheRingKeepsTheLast(t *testing.T) {
	j := New(3)
	for range 5 {
		j.begin("A")
		j.end(Call{Method: "A", Outcome: "ok", RequestBytes: 2})
	}
	calls := j.Last(10)
	if len(calls) != 3 || calls[0].Number != 3 || calls[2].Number != 5 {
		t.Errorf("%+v", calls)
	}
	if report := j.Report(); report.Calls != 5 || report.RequestBytes != 10 || len(report.Running) != 0 {
		t.Errorf("%+v", report)
	}
	j.Reset()
	if len(j.Last(10)) != 0 || j.Report().Calls != 0 {
		t.Error("reset leaves something")
	}
}

func TestCutCallsAreRecorded(t *testing.T) {
	j := New(1)
	server := httptest.NewServer(j.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })))
	defer server.Close()
	if _, err := http.Get(server.URL + "/folder/x"); err == nil {
		t.Fatal("it was answered")
	}
	if last := j.Last(1); len(last) != 1 || last[0].Outcome != "cut" || last[0].Method != "GET /folder" {
		t.Errorf("%+v", last)
	}
}
