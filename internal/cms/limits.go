package cms

import "fmt"

// Limits bound a message before anything is built from it. A zero field is
// the default.
type Limits struct {
	Bytes        int // of the whole message; default 2 MiB
	Depth        int // of nested values; default 32
	Certificates int // default 16
	Recipients   int // default 10
	Signers      int // default 10
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{{&l.Bytes, 2 << 20}, {&l.Depth, 32}, {&l.Certificates, 16}, {&l.Recipients, 10}, {&l.Signers, 10}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return l
}

// check measures a ContentInfo in BER or DER.
func (l Limits) check(b []byte) error {
	l = l.withDefaults()
	if len(b) > l.Bytes {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrLimit, len(b), l.Bytes)
	}
	outer, rest, err := readElement(b, l.Depth)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: bytes after the end", ErrMalformed)
	}
	// ContentInfo, [0], the SignedData or EnvelopedData, its fields. What has
	// another form is left to who reads it; it holds no certificates.
	fields := outer.children(l.Depth)
	if len(fields) != 2 {
		return nil
	}
	inner := fields[1].children(l.Depth)
	if len(inner) != 1 {
		return nil
	}
	return l.count(inner[0].children(l.Depth))
}

// count looks at the fields of a SignedData or EnvelopedData (RFC 5652,
// sections 5.1 and 6.1): the [0] holds certificates, a SET before the last
// field recipients (or digest algorithms, which are bounded by the same
// number), a SET at the end signers.
func (l Limits) count(fields []element) error {
	for i, f := range fields {
		limit, what := 0, ""
		switch {
		case f.tag == 0xa0:
			limit, what = l.Certificates, "certificates"
		case f.tag == 0x31 && i == len(fields)-1:
			limit, what = l.Signers, "signers"
		case f.tag == 0x31:
			limit, what = l.Recipients, "recipients"
		default:
			continue
		}
		if n := len(f.children(l.Depth)); n > limit {
			return fmt.Errorf("%w: %d %s, limit %d", ErrLimit, n, what, limit)
		}
	}
	return nil
}

// element is one BER value: its first octet and what is between its header
// and its end.
type element struct {
	tag     byte
	content []byte
}

// children returns the values in a constructed value that readElement has
// measured; none of any other.
func (e element) children(depth int) []element {
	var list []element
	for b := e.content; e.tag&0x20 != 0 && len(b) > 0; {
		child, rest, err := readElement(b, depth)
		if err != nil {
			return nil
		}
		list, b = append(list, child), rest
	}
	return list
}

// readElement splits the first value off b. All values inside it were read
// too: none is nested deeper than depth, or longer than what holds it.
func readElement(b []byte, depth int) (e element, rest []byte, err error) {
	if depth <= 0 {
		return e, nil, fmt.Errorf("%w: values are nested too deep", ErrLimit)
	}
	if len(b) < 2 || b[0]&0x1f == 0x1f { // CMS has no tags of several octets
		return e, nil, fmt.Errorf("%w: no BER value", ErrMalformed)
	}
	e.tag = b[0]
	constructed := b[0]&0x20 != 0
	n, head := int(b[1]), 2
	switch {
	case n == 0x80:
		if !constructed {
			return e, nil, fmt.Errorf("%w: a primitive value of indefinite length", ErrMalformed)
		}
		return readIndefinite(e.tag, b[2:], depth)
	case n > 0x80:
		size := n & 0x7f
		if size > 4 || len(b) < 2+size {
			return e, nil, fmt.Errorf("%w: a length in an unexpected form", ErrMalformed)
		}
		n = 0
		for _, o := range b[2 : 2+size] {
			n = n<<8 | int(o)
		}
		head += size
	}
	if n < 0 || n > len(b)-head {
		return e, nil, fmt.Errorf("%w: a value is cut off", ErrMalformed)
	}
	e.content, rest = b[head:head+n], b[head+n:]
	for inside := e.content; constructed && len(inside) > 0; {
		if _, inside, err = readElement(inside, depth-1); err != nil {
			return e, nil, err
		}
	}
	return e, rest, nil
}

// readIndefinite reads values up to the end-of-contents octets. An empty one
// is refused: the library takes the octets that end it for its first member,
// and so sees a nesting that was not measured here.
func readIndefinite(tag byte, b []byte, depth int) (element, []byte, error) {
	inside := b
	for {
		if len(inside) >= 2 && inside[0] == 0 && inside[1] == 0 {
			if len(inside) == len(b) {
				return element{}, nil, fmt.Errorf("%w: an empty value of indefinite length", ErrMalformed)
			}
			return element{tag, b[:len(b)-len(inside)]}, inside[2:], nil
		}
		var err error
		if _, inside, err = readElement(inside, depth-1); err != nil {
			return element{}, nil, err
		}
	}
}
