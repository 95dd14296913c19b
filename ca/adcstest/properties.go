package adcstest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

// Types of properties and columns.
const (
	typeLong   uint32 = 1
	typeDate   uint32 = 2
	typeBinary uint32 = 3
	typeString uint32 = 4
)

// NewestIndex asks for the newest of an indexed property.
const NewestIndex uint32 = 0xFFFFFFFF

// property is one of GetCAProperty ([MS-WCCE], section 3.2.1.4.3.2). A nil
// value is empty.
type property struct {
	kind    uint32
	indexed bool
	value   []byte
}

// Property returns the value of a property as GetCAProperty puts it on the
// wire: longs in 4 octets, strings as UTF-16LE with a NUL. A kind of 0 takes
// any type. Rights are the face's business.
func (c *CA) Property(id, index, kind uint32) ([]byte, int32) {
	p, ok := c.property(id)
	switch {
	case !ok || kind != 0 && kind != p.kind:
		return nil, InvalidArgument
	case p.indexed && index != 0 && index != NewestIndex:
		return nil, InvalidArgument
	case p.value == nil:
		return nil, PropertyEmpty
	}
	return p.value, 0
}

func (c *CA) property(id uint32) (property, bool) {
	long := func(v uint32) property { return property{typeLong, false, le32(v)} }
	indexed := func(p property) property { p.indexed = true; return p }
	text := func(s string) property {
		if s == "" {
			return property{typeString, false, nil}
		}
		return property{typeString, false, wireString(s)}
	}
	bytes := func(b []byte) property { return property{typeBinary, true, b} }
	separated := uint32(0)
	if c.roleSeparation {
		separated = 1
	}
	p, ok := map[uint32]property{
		1: text("10.0:20348.2227"), 2: text("10.0.20348.2227"), // FILEVERSION, PRODUCTVERSION
		3: long(1), 4: indexed(text("Windows default")), 5: text("Windows default"), // exit and policy modules
		6: text(c.name), 7: text(sanitize(c.name)), // CANAME, SANITIZEDCANAME
		8: text(""), 9: text(""), // SHAREDFOLDER, PARENTCA: the root is offline
		10: {typeLong, false, c.information(separated)},                                  // CATYPE
		11: long(1), 12: bytes(c.cert.Raw), 13: bytes(certsOnly(c.cert.Raw, c.root.Raw)), // CASIGCERT
		14: long(0), 15: bytes(nil), 16: bytes(nil), // CAXCHGCERT: none made yet
		17: bytes(c.CRL(false)), 18: bytes(c.CRL(true)), // BASECRL, DELTACRL
		19: indexed(long(3)), 20: indexed(long(3)), 21: long(45), // CACERTSTATE, CRLSTATE: valid; CAPROPIDMAX
		22: text(c.host), 23: long(separated), // DNSNAME, ROLESEPARATIONENABLED
		24: long(0), 25: long(0), 26: bytes(nil), 27: indexed(property{typeLong, true, nil}), // no recovery agents
		28: long(1), 29: text(c.templateList()), // ADVANCEDSERVER, TEMPLATES
		30: indexed(long(5)), 31: indexed(long(6)), // BASE- and DELTACRLPUBLISHSTATUS: complete
		32: bytes(signedData([][]byte{c.cert.Raw, c.root.Raw}, [][]byte{c.CRL(false)})), 33: bytes(nil), // with CRLs
		34: indexed(long(0)), 35: bytes(nil), 36: bytes(nil), 37: indexed(long(0)), 38: indexed(long(0)), // cross certificates
		39: indexed(long(0)), 40: text(sanitize(c.name)), // CACERTVERSION, SANITIZEDCASHORTNAME
		41: indexed(text("")), 42: indexed(text("")), 43: indexed(text("")), // CDP, AIA, OCSP addresses
		44: text("en-US"), 45: text("2.5.4.6\n2.5.4.10\n2.5.4.11\n2.5.4.3\n"), // LOCALENAME, subject template
	}[id]
	return p, ok
}

// templateList is CR_PROP_TEMPLATES: name, line feed, OID, line feed.
func (c *CA) templateList() string {
	var b strings.Builder
	for _, t := range c.templates {
		if c.standalone {
			break
		}
		b.WriteString(t.Name + "\n" + t.OID + "\n")
	}
	return b.String()
}

// information is the CAINFO structure ([MS-WCCE], section 2.2.2.4), which
// CR_PROP_CATYPE returns: the type of the CA is its second field.
func (c *CA) information(separated uint32) []byte {
	const enterpriseSubordinate, standaloneSubordinate = 1, 4
	kind := uint32(enterpriseSubordinate)
	if c.standalone {
		kind = standaloneSubordinate
	}
	var b []byte
	for _, v := range []uint32{40, kind, 1, 0, 1, 45, separated, 0, 0, 1} {
		b = append(b, le32(v)...)
	}
	return b
}

// sanitize makes a CA name fit for files and directory entries ([MS-WCCE],
// section 3.1.1.4.1.1): what is not plain becomes ! and four digits.
func sanitize(name string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.@()$[]{}=^~"
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(name)) {
		if u < 0x80 && strings.IndexByte(plain, byte(u)) >= 0 {
			b.WriteByte(byte(u))
		} else {
			fmt.Fprintf(&b, "!%04x", u)
		}
	}
	return b.String()
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// wireString is UTF-16LE with its NUL.
func wireString(s string) []byte { return encodeUTF16(s + "\x00") }

// filetime is the count of 100 ns since 1601, nil for no time.
func filetime(t time.Time) []byte {
	if t.IsZero() {
		return nil
	}
	ticks := uint64(t.Unix()+11644473600)*1e7 + uint64(t.Nanosecond()/100)
	return binary.LittleEndian.AppendUint64(nil, ticks)
}
