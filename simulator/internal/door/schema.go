// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// schema is what the served WSDL says of requests. Of its thousands of types the requests of one run name a few dozen; to read all
// of them costs more than a simulator's start.
type schema struct {
	methods map[string]string // an element of a body -> the type of its content
	lines   map[string][]byte // a type -> the element that defines it

	mu    sync.Mutex
	types map[string]*complexType // those that were asked for
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

// Each type, and each element of a body, is a line of the WSDL (vimservice/generate.py).
var (
	typeLine    = []byte(`<complexType name="`)
	elementLine = []byte(`<element name="`)
)

func readSchema(text []byte) (*schema, error) {
	s := &schema{methods: make(map[string]string), lines: make(map[string][]byte), types: make(map[string]*complexType)}
	for line := range bytes.Lines(text) {
		if rest, is := bytes.CutPrefix(line, typeLine); is {
			name, _, _ := bytes.Cut(rest, []byte(`"`))
			s.lines[string(name)] = line
		}
		if rest, is := bytes.CutPrefix(line, elementLine); is {
			name, rest, _ := bytes.Cut(rest, []byte(`"`))
			// A reply's element holds its type, and has no attribute more.
			if kind, is := bytes.CutPrefix(rest, []byte(` type="`)); is {
				kind, _, _ = bytes.Cut(kind, []byte(`"`))
				s.methods[string(name)] = local(string(kind))
			}
		}
	}
	if len(s.lines) == 0 || len(s.methods) == 0 {
		return nil, errors.New("the WSDL has no lines that define types and requests")
	}
	return s, nil
}

// kind is a type, with all its parts; nil if the schema does not define it.
func (s *schema) kind(name string) *complexType {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read(name)
}

func (s *schema) read(name string) *complexType {
	if kind := s.types[name]; kind != nil {
		return kind
	}
	line := s.lines[name]
	if line == nil {
		return nil
	}
	kind := &complexType{}
	if err := xml.Unmarshal(line, kind); err != nil {
		panic(fmt.Sprintf("vimService.wsdl, type %s: %v", name, err)) // a test reads all of them
	}
	kind.all = kind.Sequence
	if base := s.read(local(kind.Extended.Base)); base != nil {
		kind.all = append(base.all[:len(base.all):len(base.all)], kind.Extended.Sequence...)
	}
	s.types[name] = kind
	return kind
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
				kind := s.kind(s.methods[t.Name.Local])
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
	parts := kind.all
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
	kind := s.kind(name)
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
