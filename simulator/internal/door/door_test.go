// SPDX-License-Identifier: Apache-2.0

package door

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	pbm "github.com/vmware/govmomi/pbm/types"
)

func TestTimesWithoutAZoneAreUTC(t *testing.T) {
	for body, want := range map[string]string{
		"<lastHeartbeatTime>2026-11-20T18:00:00.123</lastHeartbeatTime>": "<lastHeartbeatTime>2026-11-20T18:00:00.123Z</lastHeartbeatTime>",
		"<ns0:time>2026-11-20T18:00:00</ns0:time>":                       "<ns0:time>2026-11-20T18:00:00Z</ns0:time>",
		"<time>2026-11-20T18:00:00+02:00</time>":                         "<time>2026-11-20T18:00:00+02:00</time>",
		"<time>2026-11-20T18:00:00Z</time>":                              "<time>2026-11-20T18:00:00Z</time>",
		"<annotation>at 2026-11-20T18:00:00</annotation>":                "<annotation>at 2026-11-20T18:00:00</annotation>",
	} {
		var got []byte
		handler := zoneTimestamps(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, _ = io.ReadAll(r.Body) }))
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/sdk", strings.NewReader(body)))
		if string(got) != want {
			t.Errorf("%s became %s", body, got)
		}
	}
}

func TestTheWSDLIsOneDocument(t *testing.T) {
	text, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{`<operation name="CreateVM_Task">`, `<operation name="WaitForUpdatesEx">`, "https://localhost/sdk"} {
		if !strings.Contains(string(text), word) {
			t.Errorf("it lacks %s", word)
		}
	}
	if strings.Contains(string(text), "<import") || strings.Contains(string(text), "<include") {
		t.Error("it needs other documents")
	}
}

func TestPoliciesKeepNothingThatOldWSDLsDoNotKnow(t *testing.T) {
	original := &pbm.PbmCapabilityProfile{K8sCompliantName: "name", OtherK8sCompliantNames: []string{"other"}}
	plain := withoutKubernetesNames(original).(*pbm.PbmCapabilityProfile)
	if plain.K8sCompliantName != "" || plain.OtherK8sCompliantNames != nil || original.K8sCompliantName == "" {
		t.Errorf("%+v of %+v", plain, original)
	}
}
