package intune

import (
	"crypto/rand"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxWords = 255 // characters of foreign text that are kept
	maxWord  = 48  // characters of one word; a token, challenge or request is longer
)

// clean makes foreign text fit for an error and a log line: control characters
// become blanks, secrets that we know and long words that are not addresses
// are replaced, and the rest is cut.
func clean(text string, secrets ...string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for _, s := range secrets {
		if len(s) >= 4 {
			text = strings.ReplaceAll(text, s, "[redacted]")
		}
	}
	words := strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == '"' || r == '\'' || r == '\\'
	})
	for i, w := range words {
		if len(w) > maxWord && !strings.HasPrefix(w, "https://") {
			words[i] = "[redacted]"
		} else if cut, _, found := strings.Cut(w, "?"); found && strings.HasPrefix(w, "https://") {
			words[i] = cut
		}
	}
	return truncate(strings.Join(words, " "), maxWords)
}

// truncate cuts text to n characters of valid UTF-8.
func truncate(text string, n int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}

// newGUID returns a random GUID (RFC 9562, version 4) in its canonical form.
func newGUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
