package ndesdll_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestBodies(t *testing.T) {
	p := newPortable(t)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	transaction := "tx \x01 ä"
	for _, row := range []struct {
		name  string
		words []any // tenant, endpoint, transaction, csr, template or certificate, CA, signer
		want  map[string]any
	}{
		{
			"question",
			[]any{"question", []byte("contoso"), []byte(`a"b\c`), []byte(transaction), []byte("csr"), []byte("Tëmplate"), []byte("ca"), []byte(nil)},
			map[string]any{"tenant": "contoso", "endpoint": `a"b\c`, "transactionId": b64(transaction), "certificateRequest": b64("csr"), "template": "Tëmplate"},
		},
		{
			"renewal of the only tenant",
			[]any{"question", []byte(nil), []byte("corp"), []byte("t"), []byte("csr"), []byte(nil), []byte("ca"), []byte("signer")},
			map[string]any{"endpoint": "corp", "transactionId": b64("t"), "certificateRequest": b64("csr"), "renewalCertificate": b64("signer")},
		},
		{
			"issued",
			[]any{"outcome", []byte(nil), []byte("corp"), []byte("t"), []byte("csr"), []byte("cert"), []byte(`ca01\Corp`)},
			map[string]any{"endpoint": "corp", "transactionId": b64("t"), "certificateRequest": b64("csr"), "outcome": "issued", "certificate": b64("cert"), "issuingCa": `ca01\Corp`},
		},
		{
			"failed",
			[]any{"outcome", []byte("contoso"), []byte("corp"), []byte("t"), []byte("csr"), []byte(nil), []byte("ca")},
			map[string]any{
				"tenant": "contoso", "endpoint": "corp", "transactionId": b64("t"), "certificateRequest": b64("csr"), "outcome": "failed",
				"hresult": float64(-2146875392), "description": "NDES issued no certificate: 0x80094800",
			},
		},
	} {
		body := octets(t, p.call(row.words[0].(string), row.words[1:]...))
		var got map[string]any
		if err := json.Unmarshal(body, &got); err != nil {
			t.Errorf("%s: %v in %s", row.name, err, body)
		} else if !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %s, want %v", row.name, body, row.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	p := newPortable(t)
	const unreadable, refused, granted = 0, 1, 2
	for body, want := range map[string]string{
		`{"verdict":"granted","notify":true}`:                   fmt.Sprintf("%d -", granted),
		`{"verdict":"refused","rule":"key_proof","failInfo":1}`: fmt.Sprintf("%d %s", refused, hexOf("key_proof")),
		`{"verdict":"refused","rule":"a\nb"}`:                   fmt.Sprintf("%d %s", refused, hexOf("a?b")),
		`{"verdict":"refused"}`:                                 fmt.Sprintf("%d -", refused),
		`{"verdict":"granted","verdict":"refused"}`:             fmt.Sprintf("%d -", unreadable),
		`{"verdict":"granted"`:                                  fmt.Sprintf("%d -", unreadable),
		`{"verdict":true}`:                                      fmt.Sprintf("%d -", unreadable),
		`{"Verdict":"granted"}`:                                 fmt.Sprintf("%d -", unreadable),
		`{"x":{"verdict":"granted"}}`:                           fmt.Sprintf("%d -", unreadable),
		`{"verdict":"granted\u0000"}`:                           fmt.Sprintf("%d -", unreadable),
		`{"verdict":"granted and rather more than that"}`:       fmt.Sprintf("%d -", unreadable),
		`true`: fmt.Sprintf("%d -", unreadable),
		`{"rule":"client_certificate_name","status":403}`:                fmt.Sprintf("%d %s", unreadable, hexOf("client_certificate_name")),
		`{"verdict":"refused","rule":"` + strings.Repeat("x", 60) + `"}`: fmt.Sprintf("%d %s", refused, hexOf(strings.Repeat("x", 36)+"...")),
	} {
		if got := p.call("verdict", []byte(body)); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestAddress(t *testing.T) {
	p := newPortable(t)
	for url, want := range map[string]string{
		"https://crp.corp.example":                 "crp.corp.example 443 ",
		"HTTPS://crp.corp.example:8443/":           "crp.corp.example 8443 ",
		"https://crp.corp.example/base/x//":        "crp.corp.example 443 /base/x",
		"https://[::1]:8443":                       "::1 8443 ",
		"https://10.1.2.3:65535":                   "10.1.2.3 65535 ",
		"http://crp.corp.example":                  "error Url must begin with https://",
		"":                                         "error Url must begin with https://",
		"https://":                                 "error Url names no host",
		"https://:443":                             "error Url names no host",
		"https://[::1":                             "error Url names no host",
		"https://host:0":                           "error Url has a port that is none",
		"https://host:65536":                       "error Url has a port that is none",
		"https://host:99999999999":                 "error Url has a port that is none",
		"https://host:":                            "error Url has a port that is none",
		"https://user@host":                        "error Url has characters that no host name has",
		"https://höst":                             "error Url has characters that no host name has",
		"https://host:443x":                        "error Url has characters that no host name has",
		"https://host/?a":                          "error Url has a query",
		"https://host/a b":                         "error Url has a query",
		"https://host/" + strings.Repeat("x", 600): "error Url is too long",
		"https://" + strings.Repeat("x", 300):      "error Url has characters that no host name has",
	} {
		if got := p.call("address", wide(url)); got != want && !(strings.HasPrefix(want, "error") && strings.HasPrefix(got, want)) {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}

func TestErrorNumbers(t *testing.T) {
	p := newPortable(t)
	for _, n := range []int{12002, 12007, 12029, 12030, 12037, 12038, 12044, 12045, 12057, 12152, 12157, 12170, 12175, 12185, 12186} {
		if part := strings.Split(p.call("reason", fmt.Sprint(n)), "|"); !strings.HasPrefix(part[0], "ERROR_WINHTTP_") || len(part[1]) < 20 {
			t.Errorf("%d has no name and no way out: %q", n, part)
		}
	}
	for _, n := range []int{400, 403, 404, 409, 413, 415, 429, 500, 503} {
		if part := strings.Split(p.call("reason", fmt.Sprint(n)), "|"); part[2] == "unknown" {
			t.Errorf("status %d has no name", n)
		}
	}
	if got := p.call("reason", "0x18"); !strings.HasSuffix(got, "|WINHTTP_CALLBACK_STATUS_FLAG_INVALID_CA WINHTTP_CALLBACK_STATUS_FLAG_CERT_CN_INVALID") {
		t.Errorf("flags: %q", got)
	}
}

func TestPending(t *testing.T) {
	p := newPortable(t)
	csr, cert := samples(t)
	key := strings.Fields(p.call("keys", csr))[1]
	other := strings.Fields(p.call("keys", cert))[2]
	tx, second := []byte("tx"), []byte("a second request")
	want := func(want, command string, words ...any) {
		t.Helper()
		if got := p.call(command, words...); got != want {
			t.Errorf("%s %v: %s, want %s", command, words[len(words)-1], got, want)
		}
	}
	hexOfBytes := func(b []byte) string { return hexOf(string(b)) }
	want("none", "find", tx, "-", "-", "100")
	want("1 1", "keep", tx, csr, "01", "100")
	want("1 1", "keep", tx, csr, "01", "101") // the same again
	want(hexOfBytes(csr), "find", tx, "-", "-", "102")
	want("1 2", "keep", tx, second, "01", "103")
	want(hexOfBytes(second), "find", tx, "-", "-", "104") // newest first
	want(hexOfBytes(csr), "find", tx, key, "-", "104")    // by the certificate's key
	want("none", "find", tx, other, "-", "104")
	want("none", "find", []byte("t"), "-", "-", "104")
	want(fmt.Sprintf("1 %d", len(csr)), "forget", tx, second)
	want("1 1", "keep", tx, csr, "01", "105")
	week := 7 * 24 * 60 * 60
	want(hexOfBytes(csr), "find", tx, "-", "-", fmt.Sprint(104+week))
	want("none", "find", tx, "-", "-", fmt.Sprint(105+week))
	// The oldest makes room for the newest.
	for i := range 4097 {
		p.call("keep", []byte(fmt.Sprintf("t%d", i)), second, "01", fmt.Sprint(1_000_000+i))
	}
	want("none", "find", []byte("t0"), "-", "-", "1004097")
	want(hexOfBytes(second), "find", []byte("t1"), "-", "-", "1004097")
	big := make([]byte, 300<<10)
	for i := range 60 {
		p.call("keep", []byte(fmt.Sprintf("big%d", i)), big, "01", "1004098")
	}
	var count, size int
	if fmt.Sscan(p.call("forget", []byte("nobody"), "00"), &count, &size); size > 16<<20 || count > 60 {
		t.Errorf("%d requests of %d octets are kept", count, size)
	}
}
