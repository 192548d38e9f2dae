// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"sync"
)

// schema is what the served WSDL says of requests.
type schema struct {
	methods map[string]string // an element of a body -> the type of its content
	types   map[string]*complexType
}

type complexType struct {
	Name     string `xml:"name,attr"`
	Sequence []part `xml:"sequence>element"`
	Extended struct {
		Base     string `xml:"base,attr"`
		Sequence []part `xml:"sequence>element"`
	} `xml:"complexContent>extension"`
	Simple *struct{} `xml:"simpleContent"`

	all []part // with those of the types that it is derived from, which come first
}

type part struct {
	Name      string `xml:"name,attr"`
	Type      string `xml:"type,attr"`
	MinOccurs string `xml:"minOccurs,attr"`
	MaxOccurs string `xml:"maxOccurs,attr"`
}

func (p *part) required() bool { return p.MinOccurs != "0" }
func (p *part) many() bool     { return p.MaxOccurs == "unbounded" }

// requests is the schema, read when the first request comes.
var requests = sync.OnceValues(func() (*schema, error) {
	text, err := document()
	if err != nil {
		return nil, err
	}
	return readSchema(text)
})

func readSchema(text []byte) (*schema, error) {
	var read struct {
		Types    []*complexType `xml:"types>schema>complexType"`
		Elements []part         `xml:"types>schema>element"`
	}
	if err := xml.Unmarshal(text, &read); err != nil {
		return nil, err
	}
	s := &schema{methods: make(map[string]string), types: make(map[string]*complexType)}
	for _, kind := range read.Types {
		s.types[kind.Name] = kind
	}
	for _, kind := range read.Types {
		s.parts(kind)
	}
	for _, element := range read.Elements {
		if element.Type != "" {
			s.methods[element.Name] = local(element.Type)
		}
	}
	return s, nil
}

// parts collects the elements of a type, those of its ancestors first.
func (s *schema) parts(kind *complexType) []part {
	if kind.all == nil {
		kind.all = kind.Sequence
		if base := s.types[local(kind.Extended.Base)]; base != nil {
			inherited := s.parts(base)
			kind.all = append(inherited[:len(inherited):len(inherited)], kind.Extended.Sequence...)
		}
		if kind.all == nil {
			kind.all = []part{}
		}
	}
	return kind.all
}

func local(name string) string { return name[strings.LastIndexByte(name, ':')+1:] }

// check tells what is wrong with a request, in a vCenter's words; "" if nothing is, or if it is no request that the schema knows.
func (s *schema) check(body []byte) string {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	decoder.CharsetReader = func(_ string, input io.Reader) (io.Reader, error) { return input, nil }
	depth := 0 // Envelope, Body, method
	for {
		token, err := decoder.RawToken()
		if err != nil {
			return "" // what is not well formed is refused where it is decoded
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth++
			if depth == 2 && t.Name.Local != "Body" {
				skip(decoder)
				depth--
			}
			if depth == 3 {
				kind := s.types[s.methods[t.Name.Local]]
				if kind == nil {
					return ""
				}
				return s.content(decoder, kind, "method "+t.Name.Local)
			}
		case xml.EndElement:
			depth--
		}
	}
}

// content reads an element's content, up to its end.
func (s *schema) content(decoder *xml.Decoder, kind *complexType, where string) string {
	parts := s.parts(kind)
	at, count := 0, 0
	for {
		token, err := decoder.RawToken()
		if err != nil {
			return ""
		}
		switch t := token.(type) {
		case xml.StartElement:
			name := t.Name.Local
			for at < len(parts) && (parts[at].Name != name || count > 0 && !parts[at].many()) {
				if count == 0 && parts[at].required() && has(parts[at:], name) {
					return missing(&parts[at], where)
				}
				at, count = at+1, 0
			}
			if at == len(parts) {
				return fmt.Sprintf("Unexpected element tag \"%s\" seen\n\nwhile parsing %s", name, where)
			}
			count++
			if wrong := s.child(decoder, &parts[at], t); wrong != "" {
				return wrong + "\n\nwhile parsing " + where
			}
		case xml.EndElement:
			for ; at < len(parts); at, count = at+1, 0 {
				if count == 0 && parts[at].required() {
					return missing(&parts[at], where)
				}
			}
			return ""
		}
	}
}

func missing(p *part, where string) string {
	return fmt.Sprintf("Required property %s is missing\n\nwhile parsing %s", p.Name, where)
}

func has(parts []part, name string) bool {
	for i := range parts {
		if parts[i].Name == name {
			return true
		}
	}
	return false
}

// child reads one element: by the type that it names itself, or else by the declared one.
func (s *schema) child(decoder *xml.Decoder, p *part, start xml.StartElement) string {
	name := local(p.Type)
	for _, attribute := range start.Attr {
		switch {
		case attribute.Name.Local == "type" && attribute.Name.Space != "":
			name = local(attribute.Value)
		case attribute.Name.Local == "nil" && attribute.Name.Space != "" && attribute.Value != "false" && attribute.Value != "0":
			skip(decoder)
			return ""
		}
	}
	kind := s.types[name]
	if kind == nil || kind.Simple != nil { // a text, or a type of another service
		skip(decoder)
		return ""
	}
	return s.content(decoder, kind, "property \""+start.Name.Local+"\" of type "+name)
}

// skip reads up to the end of the element that has begun.
func skip(decoder *xml.Decoder) {
	for depth := 1; depth > 0; {
		token, err := decoder.RawToken()
		if err != nil {
			return
		}
		switch token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
	}
}
