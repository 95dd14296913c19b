package scephttp

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

func TestParameter(t *testing.T) {
	for name, row := range map[string]struct {
		query, want string
		found       bool
	}{
		"plain":                          {"operation=x&message=abc", "abc", true},
		"other case":                     {"MESSAGE=abc", "abc", true},
		"escaped name":                   {"m%65ssage=abc", "abc", true},
		"cut at the first equals sign":   {"message=a=b==", "a=b==", true},
		"empty":                          {"message=", "", true},
		"without equals sign":            {"message", "", true},
		"the first of two":               {"message=a&message=b", "a", true},
		"absent":                         {"operation=x", "", false},
		"semicolons do not separate":     {"x=1;message=2", "", false},
		"slash, plus and colon are text": {"message=/+:", "/+:", true},
	} {
		t.Run(name, func(t *testing.T) {
			if got, found := parameter(row.query, "message"); got != row.want || found != row.found {
				t.Errorf("got %q, %v; want %q, %v", got, found, row.want, row.found)
			}
		})
	}
}

// FuzzMessageParameter feeds the decoder with anything, and with every form in
// which the octets may come: all of them decode to the octets.
func FuzzMessageParameter(f *testing.F) {
	for _, seed := range []string{"", "\x30\x80\xfb\xff\xfe", "\xfb\xef\xbe", "%", "%2", "%zz", "MII=", "a b", "A\r\nB\tC=="} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		if b, err := decodeMessage(string(octets)); err == nil && len(b) > len(octets) {
			t.Errorf("%d octets decoded to %d", len(octets), len(b))
		}
		if len(octets) == 0 {
			return
		}
		std := base64.StdEncoding.EncodeToString(octets)
		escaped := url.QueryEscape(std)
		for form, value := range map[string]string{
			"raw": std, "escaped": escaped, "escaped twice": url.QueryEscape(escaped), "spaces": strings.ReplaceAll(std, "+", " "),
			"escaped spaces": strings.ReplaceAll(std, "+", "%20"), "no padding": strings.TrimRight(std, "="),
			"URL-safe": base64.URLEncoding.EncodeToString(octets), "URL-safe, no padding": base64.RawURLEncoding.EncodeToString(octets),
			"line breaks": strings.Join(strings.SplitAfter(std, "A"), "\r\n"), "escaped line breaks": strings.Join(strings.SplitAfter(escaped, "A"), "%0A"),
			"lower-case escapes": strings.NewReplacer("+", "%2b", "/", "%2f", "=", "%3d").Replace(std),
		} {
			if got, err := decodeMessage(value); err != nil || !bytes.Equal(got, octets) {
				t.Errorf("%s: got %x, %v", form, got, err)
			}
		}
	})
}
