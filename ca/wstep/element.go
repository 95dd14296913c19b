package wstep

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The namespaces of the messages. Prefixes mean nothing, these do.
const (
	nsSOAP       = "http://www.w3.org/2003/05/soap-envelope"
	nsAddressing = "http://www.w3.org/2005/08/addressing"
	nsTrust      = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
	nsSecurity   = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	nsUtility    = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
	nsAuthorize  = "http://schemas.xmlsoap.org/ws/2006/12/authorization"
	nsEnroll     = "http://schemas.microsoft.com/windows/pki/2009/01/enrollment"
	nsPolicy     = "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy"
	nsInstance   = "http://www.w3.org/2001/XMLSchema-instance"
)

const (
	maxReply    = 1 << 20 // bytes of an enrolment service's reply
	maxPolicy   = 4 << 20 // of a policy: some 3 KiB a template
	maxDepth    = 32      // of nested elements
	maxElements = 100_000
)

// element is one XML element that was read.
type element struct {
	name     xml.Name
	attrs    []xml.Attr
	text     []byte // of its own, without that of its children
	children []*element
}

// parseXML reads a document within limits: UTF-8, no document type and so no
// entities but XML's own five.
func parseXML(b []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	top := &element{}
	open := []*element{top}
	count := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("no XML: %v", err)
		}
		last := open[len(open)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if count++; count > maxElements || len(open) > maxDepth {
				return nil, errors.New("XML has too many elements, or nests them too deep")
			}
			e := &element{name: t.Name, attrs: t.Attr}
			last.children = append(last.children, e)
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if last != top {
				last.text = append(last.text, t...)
			}
		case xml.Directive:
			return nil, errors.New("XML has a document type, which SOAP forbids")
		}
	}
	if len(top.children) != 1 {
		return nil, errors.New("no XML document")
	}
	return top.children[0], nil
}

// is compares an element's name.
func (e *element) is(space, local string) bool {
	return e != nil && e.name.Space == space && e.name.Local == local
}

// all returns the children of a name.
func (e *element) all(space, local string) []*element {
	if e == nil {
		return nil
	}
	var found []*element
	for _, child := range e.children {
		if child.is(space, local) {
			found = append(found, child)
		}
	}
	return found
}

// only returns the child of a name that is there exactly once, or nil: what
// comes twice is nobody's.
func (e *element) only(space, local string) *element {
	if found := e.all(space, local); len(found) == 1 {
		return found[0]
	}
	return nil
}

// path goes down from child to child in one namespace.
func (e *element) path(space string, locals ...string) *element {
	for _, local := range locals {
		e = e.only(space, local)
	}
	return e
}

// content is an element's text without the white space around it, "" for nil.
func (e *element) content() string {
	if e == nil {
		return ""
	}
	return strings.TrimSpace(string(e.text))
}

// isTrue reads an xs:boolean.
func (e *element) isTrue() bool { return e.content() == "true" || e.content() == "1" }

// bytes reads xs:base64Binary. Services break lines in it as they like, with
// character references for the line ends too.
func (e *element) bytes() ([]byte, error) {
	if e == nil {
		return nil, nil
	}
	text := strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, e.content())
	return base64.StdEncoding.DecodeString(text)
}
