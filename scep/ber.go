package scep

import "errors"

const (
	maxDepth = 32 // nesting of a message; real ones stay below 20

	tagOctetString            = 0x04
	tagOctetStringConstructed = 0x24
	bitConstructed            = 0x20
)

var errBER = errors.New("not well-formed BER")

// toDER returns the first element of b with definite, shortest lengths and
// with OCTET STRINGs in one piece. Apple's devices send indefinite lengths and
// segmented strings on both layers of a message; every reader behind this
// function sees DER lengths only. Already so, b is returned without a copy.
// Bytes after the element are dropped, as OpenSSL does.
//
// An implicitly tagged string that is constructed cannot be told from an
// explicit tag here; its reader joins the pieces (joinSegments). The order of
// SETs and the content of primitive elements are left alone. The result is
// never longer than b by more than a few octets for each level of nesting, of
// which there may be 32.
func toDER(b []byte) ([]byte, error) {
	n, plain, err := scan(b, 0)
	if err != nil {
		return nil, err
	}
	if plain {
		return b[:n], nil
	}
	out, _, err := appendDER(make([]byte, 0, len(b)+maxDepth), b, 0)
	return out, err
}

// element is the header of a BER element.
type element struct {
	tag        byte
	header     int // octets of tag and length
	length     int // of the content; unknown when indefinite
	indefinite bool
	minimal    bool
}

// readHeader reads tag and length and checks that the content is there.
func readHeader(b []byte) (element, error) {
	if len(b) < 2 || b[0]&0x1f == 0x1f { // tag numbers above 30 do not occur in CMS
		return element{}, errBER
	}
	e := element{tag: b[0], header: 2, length: int(b[1]), minimal: true}
	switch {
	case b[1] == 0x80:
		if e.tag&bitConstructed == 0 {
			return element{}, errBER
		}
		e.indefinite = true
		return e, nil
	case b[1] > 0x80:
		n := int(b[1] & 0x7f)
		if n > 8 || len(b) < 2+n {
			return element{}, errBER
		}
		var length uint64
		for _, octet := range b[2 : 2+n] {
			length = length<<8 | uint64(octet)
		}
		if length > uint64(len(b)) {
			return element{}, errBER
		}
		e.header, e.length = 2+n, int(length)
		e.minimal = length >= 0x80 && b[2] != 0
	}
	if e.length > len(b)-e.header {
		return element{}, errBER
	}
	return e, nil
}

func endOfContents(b []byte) bool { return len(b) >= 2 && b[0] == 0 && b[1] == 0 }

// scan walks one element: how many octets it takes, and whether it is DER
// already. It stops looking as soon as it is not.
func scan(b []byte, depth int) (n int, plain bool, err error) {
	if depth >= maxDepth {
		return 0, false, errors.New("nested too deeply")
	}
	e, err := readHeader(b)
	if err != nil {
		return 0, false, err
	}
	if e.indefinite || !e.minimal || e.tag == tagOctetStringConstructed {
		return 0, false, nil
	}
	if e.tag&bitConstructed != 0 {
		for rest := b[e.header : e.header+e.length]; len(rest) > 0; {
			n, plain, err := scan(rest, depth+1)
			if err != nil || !plain {
				return 0, false, err
			}
			rest = rest[n:]
		}
	}
	return e.header + e.length, true, nil
}

// appendDER appends the first element of b, re-encoded, and returns how many
// octets of b it took.
func appendDER(out, b []byte, depth int) ([]byte, int, error) {
	if depth >= maxDepth {
		return nil, 0, errors.New("nested too deeply")
	}
	e, err := readHeader(b)
	if err != nil {
		return nil, 0, err
	}
	if e.tag&bitConstructed == 0 {
		out = appendHeader(out, e.tag, e.length)
		return append(out, b[e.header:e.header+e.length]...), e.header + e.length, nil
	}
	tag := e.tag
	if tag == tagOctetStringConstructed {
		tag = tagOctetString
	}
	start := len(out)
	out, n, err := appendContents(out, b, e, depth)
	if err != nil {
		return nil, 0, err
	}
	// The header's size is known only now: make room for it.
	content := len(out) - start
	var room [16]byte
	header := appendHeader(room[:0], tag, content)
	out = append(out, header...)
	copy(out[start+len(header):], out[start:start+content])
	copy(out[start:], header)
	return out, n, nil
}

// appendContents appends the content of the constructed element e at the start
// of b; of an OCTET STRING its segments' octets.
func appendContents(out, b []byte, e element, depth int) ([]byte, int, error) {
	rest := b[e.header:]
	if !e.indefinite {
		rest = rest[:e.length]
	}
	n := e.header
	for {
		if e.indefinite && endOfContents(rest) {
			return out, n + 2, nil
		}
		if len(rest) == 0 {
			if e.indefinite {
				return nil, 0, errBER
			}
			return out, n, nil
		}
		var (
			used int
			err  error
		)
		if e.tag == tagOctetStringConstructed {
			out, used, err = appendSegment(out, rest, depth+1)
		} else {
			out, used, err = appendDER(out, rest, depth+1)
		}
		if err != nil {
			return nil, 0, err
		}
		n, rest = n+used, rest[used:]
	}
}

// appendSegment appends the octets of one segment of an OCTET STRING.
func appendSegment(out, b []byte, depth int) ([]byte, int, error) {
	if depth >= maxDepth {
		return nil, 0, errors.New("nested too deeply")
	}
	e, err := readHeader(b)
	if err != nil {
		return nil, 0, err
	}
	switch e.tag {
	case tagOctetString:
		return append(out, b[e.header:e.header+e.length]...), e.header + e.length, nil
	case tagOctetStringConstructed:
		return appendContents(out, b, e, depth)
	}
	return nil, 0, errBER
}

// joinSegments returns the octets of an implicitly tagged OCTET STRING that was
// sent constructed: content holds OCTET STRINGs, by now primitive.
func joinSegments(content []byte) ([]byte, error) {
	joined := make([]byte, 0, len(content))
	for len(content) > 0 {
		var (
			used int
			err  error
		)
		if joined, used, err = appendSegment(joined, content, 0); err != nil {
			return nil, err
		}
		content = content[used:]
	}
	return joined, nil
}
