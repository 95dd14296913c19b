package ndesdll_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
)

func TestBase64(t *testing.T) {
	p := newPortable(t)
	for n := range 70 {
		b := make([]byte, n)
		rand.Read(b)
		if got, want := string(octets(t, p.call("base64", b))), base64.StdEncoding.EncodeToString(b); got != want {
			t.Errorf("%x: %q, want %q", b, got, want)
		}
	}
}

func TestUTF16(t *testing.T) {
	p := newPortable(t)
	for _, s := range []string{"", "a", "ä", "€", "𝄞", "transaction 0\u07ff\u0800\uffff\U00010000\U0010ffff"} {
		if got := octets(t, p.call("utf8", wide(s))); string(got) != s {
			t.Errorf("%q: %q", s, got)
		}
	}
	for _, lone := range []string{"00d8", "00dc", "00d86100", "00d800d8", "00dc00d8"} {
		if got := p.call("utf8", lone); got != "error" {
			t.Errorf("surrogate without partner %s: %q", lone, got)
		}
	}
}

func TestThumbprint(t *testing.T) {
	p := newPortable(t)
	digits := "00112233445566778899aabbccddeeff01234567"
	for _, row := range []struct{ name, text, want string }{
		{"as certutil prints it", digits, digits},
		{"upper case", strings.ToUpper(digits), digits},
		{"as the certificate dialog copies it", "\u200e00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff 01 23 45 67", digits},
		{"with colons", "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:01:23:45:67", digits},
		{"too short", digits[2:], "error"},
		{"half an octet", digits[1:], "error"},
		{"too long", digits + "00", "error"},
		{"no digit", "g" + digits[1:], "error"},
		{"nothing", "", "error"},
	} {
		if got := p.call("hex20", wide(row.text)); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	p := newPortable(t)
	for in, want := range map[string]string{
		"plain":                  "plain",
		"a\r\nFAKE line\x1b[2J":  "a??FAKE line?[2J",
		"ä":                      "??",
		strings.Repeat("x", 100): strings.Repeat("x", 36) + "...",
		strings.Repeat("x", 39):  strings.Repeat("x", 39),
	} {
		if got := p.call("printable", []byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// jsonText is the judge: what Go's decoder makes of the same octets.
func jsonText(doc []byte, name string) string {
	var members map[string]json.RawMessage
	if !json.Valid(doc) || json.Unmarshal(doc, &members) != nil || members == nil {
		return "bad"
	}
	raw, ok := members[name]
	if !ok || string(raw) == "null" {
		return "absent"
	}
	var s string
	if json.Unmarshal(raw, &s) != nil || len(s) > 63 || strings.ContainsRune(s, 0) {
		return "bad"
	}
	return "found " + hexOf(s)
}

func hexOf(s string) string {
	if s == "" {
		return "-"
	}
	return hex.EncodeToString([]byte(s))
}

func TestJSON(t *testing.T) {
	p := newPortable(t)
	documents := []string{
		`{"v":"granted"}`, ` { "a" : [1,2,{"v":"x"}] , "v" : "y" } `, `{}`, `{"v":null}`, `{"w":"x"}`, `{"v":""}`,
		`{"v":"\u00e4\ud834\udd1e\"\\\/\b\f\n\r\t"}`, `{"\u0076":"x"}`, `{"v":-0.5e+3}`, `{"v":1}`, `{"v":["x"]}`, `{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":-}`, `{"a":1e}`,
		`{"v":"x"`, `{"v":"x"}}`, `{"v":"x"},`, `{"v":"x",}`, `{"v" "x"}`, `{v:"x"}`, `["v"]`, `"v"`, `true`, ``, `{`, `{"v":"x`, `{"v":"\x"}`, `{"v":"\u12"}`,
		"{\"v\":\"a\nb\"}", `{"v":"\u0000"}`, `{"a":tru}`, `{"a":true,"b":false}`, `{"v":"` + strings.Repeat("x", 63) + `"}`, `{"v":"` + strings.Repeat("x", 64) + `"}`,
		`{"` + strings.Repeat("n", 100) + `":1,"v":"x"}`, `{"a":{},"b":[],"v":"x"}`, `{"a":[1,]}`, `{"a":[1 2]}`,
	}
	for _, d := range documents {
		if got, want := p.call("json", []byte("v"), []byte(d)), jsonText([]byte(d), "v"); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	// Where we are stricter than Go.
	for name, d := range map[string]string{
		"a member twice":         `{"v":"x","v":"y"}`,
		"a surrogate alone":      `{"v":"\ud834"}`,
		"deeper than 16":         `{"a":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`,
		"null first, then again": `{"v":"x","v":null}`,
	} {
		if got := p.call("json", []byte("v"), []byte(d)); name != "null first, then again" && got != "bad" || got == "found 78" {
			t.Errorf("%s: %s", name, got)
		}
	}
	compareMutants(t, p, documents[:12])
}

// compareMutants breaks documents in ten thousand ways, the same each time: both
// readers must call the same ones good.
func compareMutants(t *testing.T, p *portable, documents []string) {
	t.Helper()
	random := mathrand.New(mathrand.NewPCG(1, 2))
	const letters = `{}[]":,\u0vx 1e-.tn` + "\n"
	for range 10_000 {
		doc := []byte(documents[random.IntN(len(documents))])
		for range 1 + random.IntN(3) {
			doc[random.IntN(len(doc))] = letters[random.IntN(len(letters))]
		}
		got, want := p.call("json", []byte("v"), doc), jsonText(doc, "v")
		stricter := got == "bad" && (bytes.Count(doc, []byte(`"v"`))+bytes.Count(doc, []byte(`\`)) > 1)
		if got != want && !stricter {
			t.Fatalf("%q: %s, want %s", doc, got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	p := newPortable(t)
	csrDER, certDER := samples(t)
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.call("keys", csrDER), fmt.Sprintf("request %x", csr.RawSubjectPublicKeyInfo); got != want {
		t.Errorf("request: %s, want %s", got, want)
	}
	if got, want := p.call("keys", certDER), fmt.Sprintf("certificate %x %x", cert.SerialNumber, cert.RawSubjectPublicKeyInfo); got != want {
		t.Errorf("certificate: %s, want %s", got, want)
	}
	for name, der := range map[string][]byte{
		"nothing":             nil,
		"cut off":             certDER[:len(certDER)-1],
		"something behind":    append(bytes.Clone(certDER), 0),
		"indefinite length":   {0x30, 0x80, 0x00, 0x00},
		"length of 5 octets":  {0x30, 0x85, 1, 0, 0, 0, 0},
		"length not shortest": {0x30, 0x81, 0x02, 0x30, 0x00},
	} {
		if got := p.call("keys", der); got != "error" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func samples(t *testing.T) (csr, cert []byte) {
	t.Helper()
	var err error
	if csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "device"}}, testkeys.RSA2048(0)); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(0x1234567890), Subject: pkix.Name{CommonName: "device"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	if cert, err = x509.CreateCertificate(rand.Reader, template, template, testkeys.P256(0).Public(), testkeys.P256(0)); err != nil {
		t.Fatal(err)
	}
	return csr, cert
}

// TestSurviveStrangers mutates what strangers send, under the sanitizers.
func TestSurviveStrangers(t *testing.T) {
	p := newPortable(t)
	csr, cert := samples(t)
	for _, seed := range [][]byte{
		csr, cert,
		{0x30, 0x0b, 0x30, 0x09, 2, 1, 0, 0x30, 0, 0x30, 2, 5, 0}, // as short as a request can be
		{0x30, 0x11, 0x30, 0x0f, 2, 1, 7, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 2, 5, 0},
		[]byte(`{"verdict":"refused","rule":"intune_subject_mismatch","a":[{"b":null}],"n":-1.5e3}`), []byte(`{"v":"\ud834\udd1e\u0041"}`),
		wide("https://crp.corp.example:8443/base"), wide("https://[::1]:443/"), wide("\u200e00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff 01 23 45 67"),
	} {
		p.call("seed", seed)
	}
	// Fixed in number and in kind, so that a run says the same on each machine.
	if got := p.call("fuzz", "50000", "1"); got != "50000" {
		t.Errorf("%s rounds", got)
	}
}
