package embedded_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func newResponder(t testing.TB, cfg embedded.ResponderConfig) *embedded.Responder {
	t.Helper()
	r, err := embedded.NewResponder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func rootCert(t testing.TB, authority *embedded.CA) *x509.Certificate {
	t.Helper()
	chain, err := authority.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

func ocspRequest(t testing.TB, serial *big.Int, issuer *x509.Certificate, hash crypto.Hash) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, issuer, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

const ocspType = "application/ocsp-request"

// post returns the response as another implementation reads and verifies it.
func post(t testing.TB, r http.Handler, der []byte, issuer *x509.Certificate) (*ocsp.Response, error) {
	t.Helper()
	got := ask(t, r, "POST", "/ocsp", der, "Content-Type", ocspType)
	if got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != "application/ocsp-response" {
		t.Fatalf("status %d, %s", got.StatusCode, got.Header.Get("Content-Type"))
	}
	return ocsp.ParseResponse(readAll(t, got), issuer)
}

func wantOCSP(t testing.TB, r http.Handler, serial *big.Int, issuer *x509.Certificate, status int) *ocsp.Response {
	t.Helper()
	got, err := post(t, r, ocspRequest(t, serial, issuer, crypto.SHA1), issuer)
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != status || got.SerialNumber.Cmp(serial) != 0 {
		t.Fatalf("status %d for %v, want %d for %v", got.Status, got.SerialNumber, status, serial)
	}
	return got
}

func TestOCSP(t *testing.T) {
	at := startOf2031()
	authority, _ := publishingCA(t, at, nil)
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
	root := rootCert(t, authority)
	good := issueOne(t, authority).SerialNumber
	now := at.at.UTC().Truncate(time.Second)

	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		got, err := post(t, r, ocspRequest(t, good, root, hash), root)
		if err != nil || got.Status != ocsp.Good || got.IssuerHash != hash {
			t.Fatalf("%v: %+v, %v", hash, got, err)
		}
		if !got.ThisUpdate.Equal(now) || !got.ProducedAt.Equal(now) || !got.NextUpdate.Equal(now.Add(time.Hour)) {
			t.Errorf("made %v, from %v to %v", got.ProducedAt, got.ThisUpdate, got.NextUpdate)
		}
	}
	revoked := issueRevoked(t, authority)
	got := wantOCSP(t, r, revoked, root, ocsp.Revoked)
	if got.RevocationReason != ocsp.KeyCompromise || !got.RevokedAt.Equal(now) {
		t.Errorf("revoked at %v for %d", got.RevokedAt, got.RevocationReason)
	}
	wantOCSP(t, r, big.NewInt(4711), root, ocsp.Unknown)
	wantOCSP(t, r, root.SerialNumber, root, ocsp.Good) // some clients ask about the root, too
}

// TestOCSPSigner looks at who signs: never the CA itself.
func TestOCSPSigner(t *testing.T) {
	at := startOf2031()
	authority, _ := publishingCA(t, at, nil)
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
	root := rootCert(t, authority)
	got := wantOCSP(t, r, issueOne(t, authority).SerialNumber, root, ocsp.Good)
	cert := got.Certificate
	if cert == nil || bytes.Equal(cert.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo) {
		t.Fatal("no certificate of the responder, or it signs with the CA's key")
	}
	if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning || cert.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("usages %v, %b", cert.ExtKeyUsage, cert.KeyUsage)
	}
	if no := extensionOf(cert, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}); !bytes.Equal(no.Value, []byte{5, 0}) || no.Critical {
		t.Errorf("id-pkix-ocsp-nocheck: % x", no.Value)
	}
	if len(cert.OCSPServer)+len(cert.CRLDistributionPoints)+len(cert.IssuingCertificateURL) > 0 {
		t.Error("a certificate that needs no check says where to check it")
	}
	if life := cert.NotAfter.Sub(at.at); life > 7*day || life < 7*day-time.Hour {
		t.Errorf("life %v", life)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: poolOf(root), CurrentTime: at.at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}); err != nil {
		t.Error(err)
	}
}

func poolOf(cert *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(cert)
	return p
}

func TestOCSPUnknownIsRevoked(t *testing.T) {
	authority, _ := publishingCA(t, startOf2031(), nil)
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}, Unknown: embedded.AnswerRevoked})
	root := rootCert(t, authority)
	got := wantOCSP(t, r, big.NewInt(4711), root, ocsp.Revoked)
	if got.RevocationReason != ocsp.CertificateHold || !got.RevokedAt.Equal(time.Unix(0, 0)) {
		t.Errorf("revoked at %v for %d (RFC 6960, section 2.2)", got.RevokedAt, got.RevocationReason)
	}
	if extended, _ := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 9}); !bytes.Contains(got.TBSResponseData, extended) {
		t.Error("the response does not say that it uses the extended meaning of revoked")
	}
	wantOCSP(t, r, issueOne(t, authority).SerialNumber, root, ocsp.Good)
	wantOCSP(t, r, root.SerialNumber, root, ocsp.Good)
}

func TestOCSPSeesRevocations(t *testing.T) {
	at := startOf2031()
	authority, reg := publishingCA(t, at, nil)
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
	root := rootCert(t, authority)
	one, two := issueOne(t, authority).SerialNumber, issueOne(t, authority).SerialNumber
	first := wantOCSP(t, r, one, root, ocsp.Good)
	wantOCSP(t, r, two, root, ocsp.Good)
	at.at = at.at.Add(30 * time.Second)
	if again := wantOCSP(t, r, one, root, ocsp.Good); !bytes.Equal(again.Signature, first.Signature) {
		t.Error("signed again within a minute")
	}
	if err := authority.Revoke(t.Context(), one, ca.Superseded); err != nil {
		t.Fatal(err)
	}
	wantOCSP(t, r, one, root, ocsp.Revoked)
	// Another machine with the same register: after a minute.
	if err := reg.RevokeCertificate(t.Context(), "lab", two, ca.Superseded, at.at); err != nil {
		t.Fatal(err)
	}
	at.at = at.at.Add(time.Minute)
	wantOCSP(t, r, two, root, ocsp.Revoked)
}

func TestOCSPRefuses(t *testing.T) {
	authority, _ := publishingCA(t, startOf2031(), nil)
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
	root := rootCert(t, authority)
	serial := issueOne(t, authority).SerialNumber
	plain := ocspRequest(t, serial, root, crypto.SHA1)
	stranger := rootOf(t, testkeys.P256(0), time.Now(), time.Now().Add(day))
	md5 := bytes.Replace(plain, []byte{6, 5, 0x2b, 0x0e, 3, 2, 0x1a}, []byte{6, 5, 0x2b, 0x0e, 3, 2, 0x19}, 1)
	for _, c := range []struct {
		name string
		der  []byte
		want ocsp.ResponseStatus
	}{
		{"nothing", nil, ocsp.Malformed},
		{"rubbish", []byte("GET / HTTP/1.0"), ocsp.Malformed},
		{"something behind it", append(bytes.Clone(plain), 0), ocsp.Malformed},
		{"cut off", plain[:len(plain)-1], ocsp.Malformed},
		{"nonce of no octets", withNonce(t, plain, 0), ocsp.Malformed},
		{"nonce of 129 octets", withNonce(t, plain, 129), ocsp.Malformed},
		{"two certificates", twice(t, plain), ocsp.Malformed},
		{"critical extension that is not known", withExtension(t, plain, asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}), ocsp.Malformed},
		{"serial number of 40 octets", ocspRequest(t, new(big.Int).Lsh(big.NewInt(1), 319), root, crypto.SHA1), ocsp.Malformed},
		{"CA that is not ours", ocspRequest(t, serial, stranger, crypto.SHA256), ocsp.Unauthorized},
		{"digest that is not known", md5, ocsp.Unauthorized},
	} {
		_, err := post(t, r, c.der, root)
		if got, ok := errors.AsType[ocsp.ResponseError](err); !ok || got.Status != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if got := ask(t, r, "POST", "/ocsp", make([]byte, 5000), "Content-Type", ocspType); got.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d for 5,000 octets", got.StatusCode)
	}
	if got := ask(t, r, "POST", "/ocsp", plain, "Content-Type", "text/plain"); got.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("status %d for text", got.StatusCode)
	}
	if got := ask(t, r, "PUT", "/ocsp", plain, "Content-Type", ocspType); got.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("status %d for PUT", got.StatusCode)
	}
}

func TestOCSPNonce(t *testing.T) {
	authority, _ := publishingCA(t, startOf2031(), nil)
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
	root := rootCert(t, authority)
	plain := ocspRequest(t, issueOne(t, authority).SerialNumber, root, crypto.SHA1)
	for _, size := range []int{1, 16, 32, 128} {
		request := withNonce(t, plain, size)
		got, err := post(t, r, request, root)
		if err != nil || got.Status != ocsp.Good {
			t.Fatalf("%d octets: %v", size, err)
		}
		if nonce := nonceOf(size); !bytes.Contains(got.TBSResponseData, append([]byte{4, byte(len(nonce))}, nonce...)) && size < 128 {
			t.Errorf("%d octets: the nonce is not in the response", size)
		}
		if size == 128 && !bytes.Contains(got.TBSResponseData, nonceOf(128)) {
			t.Error("128 octets: the nonce is not in the response")
		}
	}
	if answer := ask(t, r, "GET", "/ocsp/"+url.PathEscape(base64.StdEncoding.EncodeToString(withNonce(t, plain, 16))), nil); answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a response with a nonce may be kept: %v", answer.Header)
	}
	// Others of RFC 6960, section 4.4, are left alone.
	got, err := post(t, r, withExtension(t, plain, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 4}, false, []byte{0x30, 0}), root)
	if err != nil || got.Status != ocsp.Good {
		t.Errorf("acceptable responses: %v", err)
	}
}

func TestOCSPByGET(t *testing.T) {
	at := startOf2031()
	authority, _ := publishingCA(t, at, nil)
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
	root := rootCert(t, authority)
	var text string // with all that is special in a path
	for range 1000 {
		text = base64.StdEncoding.EncodeToString(ocspRequest(t, issueOne(t, authority).SerialNumber, root, crypto.SHA1))
		if strings.Contains(text, "+") && strings.Contains(text, "/") {
			break
		}
	}
	if !strings.Contains(text, "+") || !strings.Contains(text, "/") || !strings.HasSuffix(text, "=") {
		t.Fatalf("%s has not all that is special", text)
	}
	for name, path := range map[string]string{
		"percent-encoded":                 "/ocsp/" + url.PathEscape(text),
		"plus and equals as they are":     "/ocsp/" + strings.ReplaceAll(text, "/", "%2F"),
		"not encoded":                     "/ocsp/" + text,
		"without padding":                 "/ocsp/" + strings.TrimRight(text, "="),
		"plus turned into a space":        "/ocsp/" + strings.ReplaceAll(url.PathEscape(text), "+", "%20"),
		"address with a slash at its end": "/ocsp//" + url.PathEscape(text),
	} {
		got := ask(t, r, "GET", path, nil)
		parsed, err := ocsp.ParseResponse(readAll(t, got), root)
		if err != nil || parsed.Status != ocsp.Good {
			t.Errorf("%s: %v", name, err)
		}
		if cache := got.Header.Get("Cache-Control"); !strings.Contains(cache, "max-age=60") && !strings.Contains(cache, "max-age=59") {
			t.Errorf("%s: %s", name, cache)
		}
		if again := ask(t, r, "GET", path, nil, "If-None-Match", got.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: status %d for the tag", name, again.StatusCode)
		}
	}
	for _, path := range []string{"/ocsp", "/ocsp/", "/ocsp/%", "/ocsp/***", "/ocsp/" + strings.Repeat("A", 6000)} {
		u := &url.URL{Path: strings.ReplaceAll(path, "%", "!")}
		got := ask(t, r, "GET", u.String(), nil)
		_, err := ocsp.ParseResponse(readAll(t, got), root)
		if e, ok := errors.AsType[ocsp.ResponseError](err); !ok || e.Status != ocsp.Malformed {
			t.Errorf("%.20s: %v", path, err)
		}
	}
	if !r.Serves("/ocsp/MEU//+=") || r.Serves("/ocsp/admin") || !r.Serves("/ocsp") || r.Serves("/ocspx") || r.Serves("/") {
		t.Error("it claims what is not its own, or leaves what is")
	}
}

// TestOCSPPaths asks at the addresses that certificates name.
func TestOCSPPaths(t *testing.T) {
	authority, _ := publishingCA(t, startOf2031(), func(cfg *embedded.Config) {
		cfg.OCSPURLs = []string{"http://ocsp.contoso.example", "http://pki.contoso.example/ocsp/lab%20x/", "ldap:///cn=x"}
	})
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}, Path: "/status"})
	root := rootCert(t, authority)
	der := ocspRequest(t, issueOne(t, authority).SerialNumber, root, crypto.SHA1)
	text := url.PathEscape(base64.StdEncoding.EncodeToString(der))
	for _, path := range []string{"", "/ocsp/lab%20x", "/status"} {
		for _, got := range []*http.Response{
			ask(t, r, "GET", path+"/"+text, nil), ask(t, r, "POST", path+"/", der, "Content-Type", ocspType),
		} {
			if parsed, err := ocsp.ParseResponse(readAll(t, got), root); err != nil || parsed.Status != ocsp.Good {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	for path, want := range map[string]bool{
		"/": true, "/MEU": true, "/status": true, "/ocsp/lab x/": true, "/ocsp/lab x/MEU": true,
		"/scep": false, "/crl/lab.crl": false, "/ocsp/": false, "/livez": false,
	} {
		if r.Serves(path) != want {
			t.Errorf("%s: claimed %t", path, !want)
		}
	}
}

func TestOCSPTellsCAsApart(t *testing.T) {
	at := startOf2031()
	one, _ := publishingCA(t, at, nil)
	key := testkeys.RSA2048(3)
	two := mustOpen(t, embedded.Config{
		Name: "other", Key: key, Chain: []*x509.Certificate{rootOf(t, key, at.at.Add(-time.Hour), at.at.Add(3650*day))}, Clock: at.now,
	})
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{one, two}})
	serial := issueRevoked(t, two)
	wantOCSP(t, r, serial, rootCert(t, two), ocsp.Revoked)
	wantOCSP(t, r, serial, rootCert(t, one), ocsp.Unknown)
	if _, err := embedded.NewResponder(embedded.ResponderConfig{CAs: []*embedded.CA{one, two, one}}); err == nil {
		t.Error("one CA twice was taken")
	}
}

func TestOCSPRegisterFails(t *testing.T) {
	at := startOf2031()
	authority := mustOpen(t, embedded.Config{
		Key: testkeys.P256(1), Chain: []*x509.Certificate{rootOf(t, testkeys.P256(1), at.at.Add(-time.Hour), at.at.Add(day))},
		Register: brokenRegister{catest.NewRegister()}, Clock: at.now,
	})
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
	_, err := post(t, r, ocspRequest(t, big.NewInt(5), rootCert(t, authority), crypto.SHA1), nil)
	if got, ok := errors.AsType[ocsp.ResponseError](err); !ok || got.Status != ocsp.TryLater {
		t.Errorf("%v, want tryLater", err)
	}
}

func TestOCSPConfiguration(t *testing.T) {
	authority, _ := fixedCA(t, startOf2031())
	for name, cfg := range map[string]embedded.ResponderConfig{
		"path without a slash":                      {Path: "ocsp"},
		"responses of a second":                     {Validity: time.Second},
		"responses are kept after their end":        {Keep: 2 * time.Hour},
		"signers live shorter than their responses": {SignerValidity: 2 * time.Hour, Validity: time.Hour},
		"unknown answer":                            {Unknown: "good"},
		"negative number":                           {MaxKept: -1},
	} {
		cfg.CAs = []*embedded.CA{authority}
		if _, err := embedded.NewResponder(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	profiles := []embedded.Profile{{Name: "responder", ExtKeyUsages: []asn1.ObjectIdentifier{embedded.OIDOCSPSigning}}}
	_, err := embedded.Open(embedded.Config{
		Name: "lab", Key: testkeys.P256(1), Register: catest.NewRegister(), Profiles: profiles,
		Chain: []*x509.Certificate{rootOf(t, testkeys.P256(1), time.Now(), time.Now().Add(day))},
	})
	if err == nil {
		t.Error("a profile lets devices answer for the CA")
	}
}
