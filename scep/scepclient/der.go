package scepclient

import (
	"encoding/asn1"
	"fmt"
	"math/big"
)

// ASN.1 tags as they stand in the first octet.
const (
	tagInteger         = 0x02
	tagBitString       = 0x03
	tagOctetString     = 0x04
	tagNull            = 0x05
	tagOID             = 0x06
	tagUTF8String      = 0x0c
	tagPrintableString = 0x13
	tagIA5String       = 0x16
	tagBMPString       = 0x1e
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext0        = 0xa0 // constructed
	tagImplicit0       = 0x80 // primitive
)

// tlv encodes one DER value whose content is the concatenation of parts.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n+6)
	out = append(out, tag)
	out = appendLength(out, n)
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// appendLength appends a definite length in the shortest form.
func appendLength(b []byte, n int) []byte {
	if n < 0x80 {
		return append(b, byte(n))
	}
	var octets []byte
	for v := n; v > 0; v >>= 8 {
		octets = append([]byte{byte(v)}, octets...)
	}
	b = append(b, 0x80|byte(len(octets)))
	return append(b, octets...)
}

func sequence(parts ...[]byte) []byte { return tlv(tagSequence, parts...) }

func set(parts ...[]byte) []byte { return tlv(tagSet, parts...) }

func octets(b []byte) []byte { return tlv(tagOctetString, b) }

func null() []byte { return []byte{tagNull, 0} }

// oid encodes an object identifier; the ones of this package are constants.
func oid(id asn1.ObjectIdentifier) []byte {
	b, err := asn1.Marshal(id)
	if err != nil {
		panic(fmt.Sprintf("object identifier %v: %v", id, err))
	}
	return b
}

func integer(n *big.Int) []byte {
	b, err := asn1.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("encoding an INTEGER: %v", err)) // no *big.Int fails
	}
	return b
}

func smallInteger(n int64) []byte { return integer(big.NewInt(n)) }

// bitString encodes octets without unused bits.
func bitString(b []byte) []byte { return tlv(tagBitString, []byte{0}, b) }

// algorithm encodes an AlgorithmIdentifier; nil parameters are absent.
func algorithm(id asn1.ObjectIdentifier, parameters []byte) []byte {
	return sequence(oid(id), parameters)
}

// element is one BER value: its first octet, header and content, both slices
// of the input. Multi-octet tags do not occur in CMS and are refused.
type element struct {
	tag     byte
	content []byte
	full    []byte
}

// readElement splits the first DER value off b.
func readElement(b []byte) (element, []byte, error) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return element{}, nil, fmt.Errorf("not a DER value")
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		size := n & 0x7f
		if size == 0 || size > 4 || len(b) < 2+size {
			return element{}, nil, fmt.Errorf("DER length in an unexpected form")
		}
		n = 0
		for _, o := range b[2 : 2+size] {
			n = n<<8 | int(o)
		}
		head += size
	}
	if n < 0 || len(b)-head < n {
		return element{}, nil, fmt.Errorf("DER value is cut off")
	}
	return element{tag: b[0], content: b[head : head+n], full: b[:head+n]}, b[head+n:], nil
}

// readElements splits b into the DER values it holds.
func readElements(b []byte) ([]element, error) {
	var out []element
	for len(b) > 0 {
		e, rest, err := readElement(b)
		if err != nil {
			return nil, err
		}
		out, b = append(out, e), rest
	}
	return out, nil
}
