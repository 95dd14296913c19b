package ndesimport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decode returns the text of an export, whatever it was saved as: regedit
// writes UTF-16LE with a byte order mark, or the ANSI code page for
// REGEDIT4; editors and version control often leave UTF-8. Bytes that are
// neither are read as Windows-1252, the code page of most western systems.
func decode(b []byte) (string, error) {
	switch {
	case bytes.HasPrefix(b, []byte("regf")):
		return "", errors.New(`this is a registry hive, not its text; write the text with "reg export HKLM\SOFTWARE\Microsoft\Cryptography\MSCEP FILE.reg"`)
	case bytes.HasPrefix(b, []byte{0xFF, 0xFE}):
		return fromUTF16(b[2:], binary.LittleEndian)
	case bytes.HasPrefix(b, []byte{0xFE, 0xFF}):
		return fromUTF16(b[2:], binary.BigEndian)
	case len(b) >= 2 && b[0] != 0 && b[1] == 0:
		return fromUTF16(b, binary.LittleEndian) // the mark was lost
	}
	b = bytes.TrimPrefix(b, []byte{0xEF, 0xBB, 0xBF})
	if bytes.IndexByte(b, 0) >= 0 {
		return "", errors.New("this is no text; give the file that regedit or reg export wrote")
	}
	return fromANSI(b), nil
}

func fromUTF16(b []byte, order binary.ByteOrder) (string, error) {
	if len(b)%2 != 0 {
		return "", errors.New("the file ends in the middle of a character: it was cut off; export it again")
	}
	s := string(utf16.Decode(units(b, order)))
	if strings.IndexByte(s, 0) >= 0 {
		return "", errors.New("the text holds NUL characters; export it again")
	}
	return s, nil
}

func units(b []byte, order binary.ByteOrder) []uint16 {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = order.Uint16(b[2*i:])
	}
	return u
}

// windows1252 are the characters of the octets 0x80 to 0x9F; the five that
// are not assigned are replaced.
const windows1252 = "€\uFFFD‚ƒ„…†‡ˆ‰Š‹Œ\uFFFDŽ\uFFFD\uFFFD‘’“”•–—˜™š›œ\uFFFDžŸ"

var high = []rune(windows1252)

// fromANSI reads UTF-8, or else Windows-1252.
func fromANSI(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var s strings.Builder
	for _, c := range b {
		switch {
		case c >= 0x80 && c <= 0x9F:
			s.WriteRune(high[c-0x80])
		default:
			s.WriteRune(rune(c))
		}
	}
	return s.String()
}
