package scep

// Tags that replies are written with.
const (
	tagInteger         = 0x02
	tagNull            = 0x05
	tagOID             = 0x06
	tagUTF8String      = 0x0c
	tagPrintableString = 0x13
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext0        = 0x80 // [0] IMPLICIT, primitive
	tagExplicit0       = 0xa0 // [0] EXPLICIT, or IMPLICIT of something constructed
	tagExplicit1       = 0xa1
)

// appendHeader appends a tag and the shortest length.
func appendHeader(out []byte, tag byte, length int) []byte {
	out = append(out, tag)
	switch {
	case length < 0x80:
		return append(out, byte(length))
	case length < 1<<8:
		return append(out, 0x81, byte(length))
	case length < 1<<16:
		return append(out, 0x82, byte(length>>8), byte(length))
	case length < 1<<24:
		return append(out, 0x83, byte(length>>16), byte(length>>8), byte(length))
	}
	return append(out, 0x84, byte(length>>24), byte(length>>16), byte(length>>8), byte(length))
}

// tlv writes one DER element around its parts. It copies them: what is large
// and nested deep is written by typed.
func tlv(tag byte, parts ...[]byte) []byte {
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	out := appendHeader(make([]byte, 0, length+6), tag, length)
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// typed writes SEQUENCE { oid, [0] EXPLICIT tag { parts } }, the form of a CMS
// ContentInfo and of what it encapsulates, in one piece: a message has three of
// them inside each other, and most of its octets in the innermost.
func typed(oid string, tag byte, parts ...[]byte) []byte {
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	id := object(oid)
	inner := headerLen(length) + length
	explicit := headerLen(inner) + inner
	out := make([]byte, 0, headerLen(len(id)+explicit)+len(id)+explicit)
	out = appendHeader(out, tagSequence, len(id)+explicit)
	out = append(out, id...)
	out = appendHeader(out, tagExplicit0, inner)
	out = appendHeader(out, tag, length)
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// headerLen is how many octets appendHeader adds.
func headerLen(length int) int {
	switch {
	case length < 0x80:
		return 2
	case length < 1<<8:
		return 3
	case length < 1<<16:
		return 4
	case length < 1<<24:
		return 5
	}
	return 6
}

func sequence(parts ...[]byte) []byte { return tlv(tagSequence, parts...) }

func object(oid string) []byte { return tlv(tagOID, []byte(oid)) }

// algorithm writes an AlgorithmIdentifier with the parameters NULL, which old
// readers insist on where newer ones take absent parameters too.
func algorithm(oid string) []byte { return sequence(object(oid), []byte{tagNull, 0}) }

func version(n byte) []byte { return []byte{tagInteger, 1, n} }
