// SPDX-License-Identifier: Apache-2.0

package door

import (
	"encoding/xml"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestRequestsAreReadByTheSchema(t *testing.T) {
	known, err := requests()
	if err != nil {
		t.Fatal(err)
	}
	const this = `<_this type="Folder">group-1</_this>`
	spec := func(content string) string {
		return `<CreateVM_Task xmlns="urn:vim25">` + this + `<config>` + content + `</config><pool type="ResourcePool">p</pool></CreateVM_Task>`
	}
	for body, want := range map[string]string{
		`<CreateFolder xmlns="urn:vim25">` + this + `<name>a</name></CreateFolder>`:                   "",
		`<CreateFolder xmlns="urn:vim25"><name>a</name>` + this + `</CreateFolder>`:                   "Required property _this",
		`<CreateFolder xmlns="urn:vim25">` + this + `</CreateFolder>`:                                 "Required property name",
		`<CreateFolder xmlns="urn:vim25">` + this + `<name>a</name><name>b</name></CreateFolder>`:     `Unexpected element tag "name"`,
		`<CreateFolder xmlns="urn:vim25">` + this + `<name>a</name><colour>b</colour></CreateFolder>`: `Unexpected element tag "colour"`,
		spec(`<name>a</name><guestId>g</guestId>`):                                                    "",
		spec(`<guestId>g</guestId><name>a</name>`):                                                    `Unexpected element tag "name"`,
		spec(`<deviceChange><operation>add</operation><device xsi:type="ns0:VirtualDisk"><key>1</key>` +
			`<capacityInKB>5</capacityInKB></device></deviceChange>`): "",
		spec(`<deviceChange><device xsi:type="ns0:VirtualDisk"><key>1</key><capacityInKB>5</capacityInKB></device>` +
			`<operation>add</operation></deviceChange>`): `Unexpected element tag "operation"`,
		spec(`<deviceChange><device xsi:type="VirtualDisk"><capacityInKB>5</capacityInKB><key>1</key></device></deviceChange>`): "Required property key",
		`<NoSuchMethod/>`: "",
		`<FetchMe`:        "",
	} {
		got := known.check([]byte(fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><e:Envelope xmlns:e="x"><e:Header><a><b/></a></e:Header>`+
			`<e:Body>%s</e:Body></e:Envelope>`, body)))
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s:\n%q, want %q", body, got, want)
		}
	}
}

func TestTheSchemaIsWhatTheWholeWSDLSays(t *testing.T) {
	text, err := document()
	if err != nil {
		t.Fatal(err)
	}
	var whole struct {
		Types    []*complexType `xml:"types>schema>complexType"`
		Elements []part         `xml:"types>schema>element"`
	}
	if err := xml.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	known, err := readSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]*complexType)
	for _, each := range whole.Types {
		types[each.Name] = each
	}
	for name, each := range types {
		var all []part // those of the ancestors first
		for one := each; one != nil; one = types[local(one.Extended.Base)] {
			all = append(append(append([]part{}, one.Sequence...), one.Extended.Sequence...), all...)
		}
		found := known.kind(name)
		if found == nil || len(found.all) != len(all) || len(all) > 0 && !reflect.DeepEqual(found.all, all) ||
			(found.Simple == nil) != (each.Simple == nil) {
			t.Errorf("%s: %+v, want %+v", name, found, all)
		}
	}
	methods := make(map[string]string)
	for _, element := range whole.Elements {
		if element.Type != "" {
			methods[element.Name] = local(element.Type)
		}
	}
	if !reflect.DeepEqual(known.methods, methods) || len(known.lines) != len(types) {
		t.Errorf("%d methods and %d types, want %d and %d", len(known.methods), len(known.lines), len(methods), len(types))
	}
	if known.kind("NoSuchType") != nil || known.kind("") != nil {
		t.Error("a type that is not there is one")
	}
}

func BenchmarkCheck(b *testing.B) {
	known, err := requests()
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(`<Envelope><Body><CreateFolder xmlns="urn:vim25"><_this type="Folder">group-1</_this><name>a</name></CreateFolder></Body></Envelope>`)
	for b.Loop() {
		known.check(body)
	}
}
