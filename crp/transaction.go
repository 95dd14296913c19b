package crp

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// TransactionID returns what Intune is told as transaction ID: the SCEP
// transaction ID itself if that is text of 1 to 255 characters, else a GUID
// made from it, which is the same after a restart. SCEP allows any octets
// (RFC 8894, section 3.2.1.1), JSON does not.
func TransactionID(scep string) string {
	n := 0
	for _, r := range scep {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return derived(scep)
		}
		n++
	}
	if n > 255 || strings.TrimSpace(scep) == "" {
		return derived(scep)
	}
	return scep
}

// derived is a GUID of version 8 (RFC 9562, section 5.8).
func derived(scep string) string {
	h := sha256.Sum256([]byte("certconnector transaction\x00" + scep))
	b := h[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
