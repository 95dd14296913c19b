package scepclient

import (
	"errors"
	"fmt"
)

// segment is how many octets one piece of a constructed OCTET STRING holds:
// Bouncy Castle, and with it jscep, cuts at 1000.
const segment = 1000

// ToBER re-encodes a DER ContentInfo with indefinite lengths and segmented
// strings, as Apple's client and jscep send it. What a signature covers
// (certificates, SignerInfo) stays DER, as theirs does.
func ToBER(der []byte) ([]byte, error) {
	outer, rest, err := readElement(der)
	if err != nil || len(rest) > 0 || outer.tag != tagSequence {
		return nil, errors.New("re-encoding a message: not one ContentInfo")
	}
	info, err := readElements(outer.content)
	if err != nil || len(info) != 2 || info[1].tag != tagContext0 {
		return nil, errors.New("re-encoding a message: ContentInfo is not a type and a content")
	}
	inner, rest, err := readElement(info[1].content)
	if err != nil || len(rest) > 0 || inner.tag != tagSequence {
		return nil, errors.New("re-encoding a message: content is not one SEQUENCE")
	}
	fields, err := readElements(inner.content)
	if err != nil {
		return nil, fmt.Errorf("re-encoding a message: %w", err)
	}
	parts := make([][]byte, 0, len(fields))
	for _, f := range fields {
		p, err := berField(f)
		if err != nil {
			return nil, fmt.Errorf("re-encoding a message: %w", err)
		}
		parts = append(parts, p)
	}
	return indefinite(tagSequence, info[0].full, indefinite(tagContext0, indefinite(tagSequence, parts...))), nil
}

// berField re-encodes one field of SignedData or EnvelopedData: the SEQUENCE
// is encapContentInfo or encryptedContentInfo, whose last member is the bulk;
// certificates become indefinite around untouched members.
func berField(f element) ([]byte, error) {
	switch f.tag {
	case tagContext0: // certificates
		return indefinite(tagContext0, f.content), nil
	case tagSequence:
		members, err := readElements(f.content)
		if err != nil {
			return nil, err
		}
		parts := make([][]byte, 0, len(members))
		for _, m := range members {
			switch m.tag {
			case tagContext0: // eContent [0] EXPLICIT OCTET STRING
				s, _, err := readElement(m.content)
				if err != nil {
					return nil, err
				}
				parts = append(parts, indefinite(tagContext0, segmented(tagOctetString|0x20, s.content)))
			case tagImplicit0: // encryptedContent [0] IMPLICIT OCTET STRING
				parts = append(parts, segmented(tagContext0, m.content))
			default:
				parts = append(parts, m.full)
			}
		}
		return indefinite(tagSequence, parts...), nil
	}
	return f.full, nil
}

// indefinite wraps parts into a constructed value of indefinite length.
func indefinite(tag byte, parts ...[]byte) []byte {
	out := []byte{tag, 0x80}
	for _, p := range parts {
		out = append(out, p...)
	}
	return append(out, 0, 0)
}

// segmented cuts octets into a constructed string of indefinite length.
func segmented(tag byte, b []byte) []byte {
	out := []byte{tag, 0x80}
	for len(b) > segment {
		out = append(out, octets(b[:segment])...)
		b = b[segment:]
	}
	out = append(out, octets(b)...)
	return append(out, 0, 0)
}
