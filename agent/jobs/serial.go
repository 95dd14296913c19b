package jobs

import (
	"errors"
	"math/big"
	"strings"
)

const (
	maxSerialText   = 256 // octets of text, separators included
	maxSerialOctets = 32  // RFC 5280, section 4.1.2.2 allows 20; some CAs did not know
)

var errSerial = errors.New("the serial number cannot be read: a hexadecimal number of 1 to 20 octets is needed")

// serialForms reads a serial number as whoever wrote it may have meant it, and
// returns it as the journal has it: upper-case hexadecimal of even length.
// Blanks, colons, a leading 0x and leading zeros do not count. Text of digits
// only is hexadecimal first, and decimal if there is no such certificate.
func serialForms(text string) ([]string, error) {
	if len(text) > maxSerialText {
		return nil, errSerial
	}
	plain := strings.Map(func(c rune) rune {
		switch c {
		case ' ', '\t', '\r', '\n', ':', '\u00a0':
			return -1
		case 'X':
			return 'x'
		}
		return c
	}, text)
	plain, marked := strings.CutPrefix(plain, "0x")
	var forms []string
	digits := plain != ""
	for i := range len(plain) {
		c := plain[i]
		isDigit := '0' <= c && c <= '9'
		if !isDigit && !('a' <= c && c <= 'f') && !('A' <= c && c <= 'F') {
			return nil, errSerial
		}
		digits = digits && isDigit
	}
	for _, base := range []int{16, 10} {
		if base == 10 && (!digits || marked) {
			continue
		}
		n, ok := new(big.Int).SetString(plain, base)
		if !ok || n.Sign() <= 0 || n.BitLen() > 8*maxSerialOctets {
			continue
		}
		if form := serialText(n); len(forms) == 0 || forms[0] != form {
			forms = append(forms, form)
		}
	}
	if len(forms) == 0 {
		return nil, errSerial
	}
	return forms, nil
}

// serialText writes a serial number as the journal has it.
func serialText(n *big.Int) string {
	s := strings.ToUpper(n.Text(16))
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return s
}
