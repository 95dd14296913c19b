package onetime_test

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule/onetime"
)

// decode reads UTF-16 as a program that looks for a byte order mark does,
// taking little-endian order without one.
func decode(b []byte) string {
	order := binary.ByteOrder(binary.LittleEndian)
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		b = b[2:]
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		order, b = binary.BigEndian, b[2:]
	}
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, order.Uint16(b))
	}
	return string(utf16.Decode(units))
}

// How programs find the password, as public ones do it.
var (
	fleetLike = regexp.MustCompile(`(?i)The enrollment challenge password is: <B> (\S+)`)
	upperHex  = regexp.MustCompile(`The enrollment challenge password is: <B> ([0-9A-F]+) </B> <P> This password can be used only once and will expire within (\d+) minutes\.`)
	firstHex  = regexp.MustCompile(`(?i)^[A-F0-9]{16}`) // PowerShell's -match looks at no case
	hexRun    = regexp.MustCompile(`(?i)[0-9A-F]{16,}`)
)

// passwords returns what different programs take for the password.
func passwords(page string) map[string]string {
	found := map[string]string{}
	if m := fleetLike.FindStringSubmatch(page); m != nil {
		found["label and blanks"] = m[1]
	}
	if m := upperHex.FindStringSubmatch(page); m != nil {
		found["label and digits"] = m[1]
	}
	for _, word := range strings.Fields(page) {
		if firstHex.MatchString(word) {
			found["first run of digits"] = word
			break
		}
	}
	if _, rest, ok := strings.Cut(page, "challenge password is:"); ok {
		if _, rest, ok = strings.Cut(rest, "<B>"); ok {
			cut, _, _ := strings.Cut(rest, "</B>")
			found["between the tags, untrimmed"] = cut
		}
	}
	return found
}

func TestPageAsProgramsReadIt(t *testing.T) {
	for _, row := range []struct {
		charset onetime.Charset
		begins  string
		decode  func([]byte) string
	}{
		{"", "\xff\xfe<\x00H\x00T\x00M\x00L\x00>\x00", decode},
		{onetime.UTF16LEWithBOM, "\xff\xfe<\x00H\x00T\x00M\x00L\x00>\x00", decode},
		{onetime.UTF16LE, "<\x00H\x00T\x00M\x00L\x00>\x00", decode},
		{onetime.UTF8, "<HTML>", func(b []byte) string { return string(b) }},
	} {
		t.Run("charset "+string(row.charset), func(t *testing.T) {
			s := newSite(t, func(c *onetime.Config, p *onetime.PageConfig) {
				c.Lifetime, p.Lifetime, p.Charset = 45*time.Minute, 45*time.Minute, row.charset
			})
			w := s.ask(get("/certsrv/mscep_admin"))
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html" {
				t.Fatalf("status %d, type %q", w.Code, w.Header().Get("Content-Type"))
			}
			if !strings.HasPrefix(w.Body.String(), row.begins) {
				t.Errorf("the page begins with %q", w.Body.String()[:16])
			}
			page := row.decode(w.Body.Bytes())
			found := passwords(page)
			if len(found) != 4 {
				t.Fatalf("only %d kinds of programs find the password", len(found))
			}
			for how, password := range found {
				if d := verify(t, s.module, request("a", secret.Text(password))); !d.Granted {
					t.Errorf("%s: refused by %s", how, d.Rule)
				}
			}
			if m := upperHex.FindStringSubmatch(page); m == nil || m[2] != "45" {
				t.Errorf("the page says %v", m)
			}
			checkBeforePassword(t, page, found["label and digits"])
		})
	}
}

func checkBeforePassword(t *testing.T, page, password string) {
	t.Helper()
	before, _, _ := strings.Cut(page, password)
	if hexRun.MatchString(before) {
		t.Error("a run of 16 digits stands before the password")
	}
	sum := fmt.Sprintf("%X", md5.Sum(authority().Raw))
	groups := strings.Join([]string{sum[:8], sum[8:16], sum[16:24], sum[24:]}, " ")
	for _, literal := range []string{
		"<TITLE>Network Device Enrollment Service</TITLE>",
		"The thumbprint (hash value) for the CA certificate is: <B> " + groups + " </B>",
		"The enrollment challenge password is: <B> " + password + " </B> <P> ",
	} {
		if !strings.Contains(page, literal) {
			t.Errorf("the page lacks a text that programs look for, %d characters long", len(literal))
		}
	}
}
