package pkcs10_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

func TestParseNameText(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       string // as FormatName writes it
	}{
		{"the common case", "CN=phone 7,O=Corp", "CN=phone 7,O=Corp"},
		{"spaces around separators", " cn = phone 7 , O = Corp ", "CN=phone 7,O=Corp"},
		{"a multi-valued RDN", "CN=a+UID=b,DC=corp,DC=example", "CN=a+UID=b,DC=corp,DC=example"},
		{"an object identifier", "2.5.4.3=a,1.2.3.4=b", "CN=a,1.2.3.4=b"},
		{"escaped specials", `CN=a\,b\+c\"d\\e\;f\<g\=h`, `CN=a\,b\+c\"d\\e\;f\<g\=h`},
		{"an unescaped equals sign", "CN=a=b", `CN=a\=b`},
		{"escaped spaces at the ends", `CN=\ a\ ,O=x`, `CN=\ a\ ,O=x`},
		{"octets in hexadecimal", `CN=J\C3\B6rg`, "CN=Jörg"},
		{"an escaped number sign", `CN=\#1`, `CN=\#1`},
		{"the empty name", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			name, err := pkcs10.ParseNameText(row.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := pkcs10.FormatName(name); got != row.want {
				t.Errorf("read as %s, want %s", got, row.want)
			}
		})
	}
}

func TestParseNameTextRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no equals sign":          "phone 7",
		"an unknown type":         "COLOUR=red",
		"no type":                 "=x",
		"an empty value":          "CN=,O=Corp",
		"a blank value":           "CN=  ,O=Corp",
		"a trailing comma":        "CN=a,",
		"a trailing plus":         "CN=a+",
		"a value in hexadecimal":  "CN=#0401",
		"a quoted value":          `CN="a"`,
		"an unescaped semicolon":  "CN=a;O=b",
		"half an escape":          `CN=a\`,
		"half an octet":           `CN=a\4`,
		"an escape of nothing":    `CN=\zz`,
		"octets that are no text": `CN=\ff`,
		"a NUL":                   "CN=a\x00b",
		"too long":                "CN=" + strings.Repeat("a", 9000),
		"too many attributes":     strings.TrimSuffix(strings.Repeat("CN=a,", 65), ","),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := pkcs10.ParseNameText(text); err == nil {
				t.Errorf("read as %s", pkcs10.FormatName(got))
			}
		})
	}
}

// FuzzNameText: a name that can be read is written so that it reads the same.
func FuzzNameText(f *testing.F) {
	f.Add("CN=phone 7,O=Corp")
	f.Add(`CN=a\,b+UID=\C3\B6,1.2.3=\#\ `)
	f.Fuzz(func(t *testing.T, text string) {
		name, err := pkcs10.ParseNameText(text)
		if err != nil {
			return
		}
		written := pkcs10.FormatName(name)
		again, err := pkcs10.ParseNameText(written)
		if len(written) <= 8<<10 && (err != nil || !reflect.DeepEqual(again, name)) {
			t.Errorf("%q was written as %q: %v", text, written, err)
		}
	})
}
