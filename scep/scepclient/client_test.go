package scepclient_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

func unescape(t testing.TB, text string) []byte {
	text, err := url.PathUnescape(text)
	if err != nil {
		t.Errorf("message parameter: %v", err)
	}
	text = strings.NewReplacer("-", "+", "_", "/", "\n", "").Replace(text)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Errorf("message parameter: %v", err)
	}
	return b
}

func request(challenge string) scepclient.EnrollRequest {
	return scepclient.EnrollRequest{Key: testkeys.RSA2048(3), CSR: scepclient.CSR{
		Subject: pkix.Name{CommonName: "device-1"}, DNSNames: []string{"device-1.example.test"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, Challenge: secret.Text(challenge), Validity: 365 * 24 * time.Hour,
	}}
}

// TestPlatformsEnrol lets every platform enrol, wait and renew at a responder
// that reads and writes with another library.
func TestPlatformsEnrol(t *testing.T) {
	for _, name := range scepclient.Platforms() {
		t.Run(name, func(t *testing.T) {
			s := newResponder(t)
			s.pending = 2
			c := &scepclient.Client{URL: s.start(t), Quirks: quirks(t, name), DelayScale: 1e-9}
			r, err := c.Enroll(t.Context(), request(strings.Repeat("Challenge+/", 600)+"=="))
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != scep.Success || r.Certificate.Subject.CommonName != "issued" {
				t.Fatalf("status %v, certificate %v", r.Status, r.Certificate)
			}
			got := s.requests()
			if len(got) != 3 {
				t.Fatalf("%d messages, want a request and two polls", len(got))
			}
			wantPoll := map[bool]string{true: "19", false: "20"}[name == "linux"]
			if got[0].messageType != "19" || got[1].messageType != wantPoll {
				t.Errorf("message types %s, %s; want 19, %s", got[0].messageType, got[1].messageType, wantPoll)
			}
			checkShape(t, name, got[0])
			checkCSR(t, name, got[0].content)

			old := scepclient.Identity{Certificate: r.Certificate.Raw, Key: testkeys.RSA2048(3)}
			renewal := request("")
			renewal.Key, renewal.Renew = testkeys.RSA2048(4), &old
			s.mu.Lock()
			s.pending, s.seen = 0, nil
			s.mu.Unlock()
			if r, err = c.Enroll(t.Context(), renewal); err != nil || r.Status != scep.Success {
				t.Fatalf("renewal: %v", err)
			}
			if again := s.requests()[0]; !bytes.Equal(again.signer, old.Certificate) || again.messageType != "19" {
				t.Errorf("renewal is messageType %s signed by the old certificate: %v", again.messageType, bytes.Equal(again.signer, old.Certificate))
			}
		})
	}
}

// checkShape looks for the marks that tell the platforms apart on the wire.
func checkShape(t *testing.T, name string, got received) {
	t.Helper()
	id := map[string]string{
		"windows": `^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$`, "ios": `^[0-9A-F]{40}$`, "macos": `^[0-9A-F]{40}$`,
		"android": `^[0-9a-f]{40}$`, "linux": `^[0-9]{77,78}$`,
	}[name]
	if !regexp.MustCompile(id).MatchString(got.transactionID) {
		t.Errorf("transaction ID %q does not match %s", got.transactionID, id)
	}
	if ber := got.raw[1] == 0x80; ber != (name == "ios" || name == "android") {
		t.Errorf("outer message in BER: %v", ber)
	}
	if get := got.method == http.MethodGet; get != (name == "linux") {
		t.Errorf("sent by %s", got.method)
	}
	if tail := strings.HasSuffix(got.path, "/pkiclient.exe"); tail != (name == "windows") {
		t.Errorf("sent to %s", got.path)
	}
	c, err := x509.ParseCertificate(got.signer)
	switch name {
	case "windows":
		if err == nil || !strings.Contains(err.Error(), "critical") {
			t.Errorf("signer's authorityKeyIdentifier is not critical: %v", err)
		}
	case "android":
		if c == nil || c.SerialNumber.Int64() != 1 {
			t.Errorf("signer's serial number is not 1: %v", err)
		}
	case "linux":
		if c == nil || c.Version != 1 || len(c.SerialNumber.Bytes()) != 33 {
			t.Errorf("signer is not X.509 v1 with a 33-octet serial number: %v", err)
		}
	default:
		if c == nil || len(c.Subject.CommonName) != 36 {
			t.Errorf("signer's common name is no UUID: %v", err)
		}
	}
}

func checkCSR(t *testing.T, name string, der []byte) {
	t.Helper()
	csr, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := csr.CheckSignature(); err != nil {
		t.Error(err)
	}
	if n := len(csr.ChallengePassword.Reveal()); n != 6602 {
		t.Errorf("challenge of %d characters, want 6602", n)
	}
	want := map[string]time.Duration{"windows": 365 * 24 * time.Hour, "android": 365 * 24 * time.Hour}[name]
	if csr.Validity != want {
		t.Errorf("validity %v, want %v", csr.Validity, want)
	}
	if csr.RawSAN == nil || csr.KeyUsage != int(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment) {
		t.Errorf("SAN %x, key usage %d", csr.RawSAN, csr.KeyUsage)
	}
}

// TestGETEscapings sends by GET what every escaping turns a message into.
func TestGETEscapings(t *testing.T) {
	for name, how := range map[string]scepclient.Escaping{
		"all": scepclient.EscapeAll, "only padding": scepclient.EscapePadded, "none": scepclient.EscapeNone,
		"lines": scepclient.EscapeLines, "URL-safe alphabet": scepclient.EscapeURL,
	} {
		t.Run(name, func(t *testing.T) {
			s := newResponder(t)
			s.capabilities = "AES\nSHA-256\n"
			c := &scepclient.Client{URL: s.start(t), Quirks: scepclient.Quirks{Escaping: how}}
			if _, err := c.Enroll(t.Context(), request("secret")); err != nil {
				t.Fatal(err)
			}
			if got := s.requests()[0]; got.method != http.MethodGet || strings.HasPrefix(got.query, "message=") != (how == scepclient.EscapeURL) {
				t.Errorf("%s with query %.40s", got.method, got.query)
			}
		})
	}
}

// TestRepliesThatAreNotBelieved distorts one thing in each reply.
func TestRepliesThatAreNotBelieved(t *testing.T) {
	for name, row := range map[string]struct {
		distort func(*responder)
		want    string
	}{
		"another nonce":             {func(s *responder) { s.nonce = []byte("another nonce !!") }, "recipientNonce"},
		"another transaction":       {func(s *responder) { s.transactionID = "1234" }, "transactionID"},
		"not a CertRep":             {func(s *responder) { s.messageType = "19" }, "messageType"},
		"Content-Type with charset": {func(s *responder) { s.contentType += "; charset=utf-8" }, "Content-Type"},
		"unknown signer":            {func(s *responder) { s.certificates = []*x509.Certificate{s.encryption, s.root} }, "GetCACert does not name"},
		"signer for encryption":     {func(s *responder) { s.signWith, s.signKey = s.encryption, s.encryptionKey }, "lacks digitalSignature"},
		"wrong signature":           {func(s *responder) { s.signKey = s.rootKey }, "signature"},
		"certificate for another":   {func(s *responder) { s.otherKey = true }, "not for the key"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newResponder(t)
			row.distort(s)
			c := &scepclient.Client{URL: s.start(t), Quirks: quirks(t, "linux")}
			_, err := c.Enroll(t.Context(), request("secret"))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got error %v, want one about %q", err, row.want)
			}
		})
	}
}

func TestRefusalIsAReply(t *testing.T) {
	s := newResponder(t)
	s.failInfo = "2"
	c := &scepclient.Client{URL: s.start(t), Quirks: quirks(t, "ios")}
	r, err := c.Enroll(t.Context(), request("wrong"))
	if err != nil || r.Status != scep.Failure || r.FailInfo != scep.BadRequest {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestPatienceEnds(t *testing.T) {
	s := newResponder(t)
	s.pending = 1000
	c := &scepclient.Client{URL: s.start(t), Quirks: quirks(t, "ios"), DelayScale: 1e-9}
	r, err := c.Enroll(t.Context(), request("x"))
	if err != nil || r.Status != scep.Pending || len(s.requests()) != 4 {
		t.Errorf("%v, %v after %d exchanges; want PENDING after Apple's four", r.Status, err, len(s.requests()))
	}
	s.mu.Lock()
	s.pending = 0
	s.mu.Unlock()
	if r, err = c.Poll(t.Context(), r.Transaction); err != nil || r.Status != scep.Success {
		t.Errorf("later poll: %v", err)
	}
}

// TestPlatformsThatGiveUp covers servers that never see a PKIOperation.
func TestPlatformsThatGiveUp(t *testing.T) {
	for name, row := range map[string]struct {
		platform string
		distort  func(*testing.T, *responder)
	}{
		"Apple without a known digest": {"ios", func(_ *testing.T, s *responder) { s.capabilities = "AES\nPOSTPKIOperation\n" }},
		"Apple without encryption RA":  {"ios", func(_ *testing.T, s *responder) { s.certificates = []*x509.Certificate{s.signing, s.root} }},
		"Apple with a foreign chain": {"macos", func(t *testing.T, s *responder) {
			root := issue(t, "Other", x509.KeyUsageCertSign, true, &s.rootKey.PublicKey, nil, s.rootKey)
			ra := issue(t, "RA", x509.KeyUsageKeyEncipherment, false, &s.signingKey.PublicKey, root, s.rootKey)
			s.certificates = append(s.certificates, ra, root)
		}},
		"only a signing certificate": {"android", func(_ *testing.T, s *responder) { s.certificates = []*x509.Certificate{s.signing} }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newResponder(t)
			row.distort(t, s)
			c := &scepclient.Client{URL: s.start(t), Quirks: quirks(t, row.platform)}
			if _, err := c.Enroll(t.Context(), request("x")); !errors.Is(err, scepclient.ErrNotServed) {
				t.Errorf("got %v, want ErrNotServed", err)
			}
			if len(s.requests()) != 0 {
				t.Error("a PKIOperation was sent")
			}
		})
	}
}

func TestHTTPStatus(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	_, err := (&scepclient.Client{URL: server.URL}).Discover(t.Context())
	status, ok := errors.AsType[*scepclient.StatusError](err)
	if !ok || status.Code != 503 || status.RetryAfter != time.Minute {
		t.Errorf("got %v, want status 503 and a minute", err)
	}
}

// TestOpenSSLReadsMessages has an unrelated implementation verify and unwrap
// what every platform sends.
func TestOpenSSLReadsMessages(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing; on Debian: apt-get install openssl")
		}
		t.Skip("openssl is missing; on Debian: apt-get install openssl")
	}
	a := newAuthority(t)
	ciphers := []scepclient.Cipher{scepclient.AES128, scepclient.AES192, scepclient.AES256, scepclient.TripleDES}
	for i, oaep := range []crypto.Hash{0, 0, crypto.SHA1, crypto.SHA256} {
		cipher := ciphers[i]
		for _, name := range scepclient.Platforms() {
			t.Run(fmt.Sprintf("%s %s OAEP %d", name, cipher, oaep), func(t *testing.T) {
				q := quirks(t, name)
				q.OAEP = oaep
				key := testkeys.RSA2048(5)
				subject, err := scepclient.MarshalName(pkix.Name{CommonName: "x"})
				if err != nil {
					t.Fatal(err)
				}
				signer, err := scepclient.SelfSigned(key, subject, q)
				if err != nil {
					t.Fatal(err)
				}
				content := bytes.Repeat([]byte("content "), 500)
				m := &scepclient.Message{Type: scep.PKCSReq, TransactionID: "1", Content: content, Signer: signer, Recipients: []*x509.Certificate{a.encryption}, Cipher: cipher, Quirks: q}
				raw, err := m.Build()
				if err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				write(t, dir, "m", raw)
				write(t, dir, "ra.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.encryption.Raw}))
				write(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(a.encryptionKey)}))
				for _, args := range []string{
					"cms -verify -noverify -binary -inform DER -in m -out envelope",
					"cms -decrypt -binary -inform DER -in envelope -recip ra.pem -inkey key.pem -out plain",
				} {
					cmd := exec.CommandContext(t.Context(), openssl, strings.Fields(args)...)
					cmd.Dir = dir
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Fatalf("openssl %s: %v\n%s", args, err, out)
					}
				}
				if plain, _ := os.ReadFile(filepath.Join(dir, "plain")); !bytes.Equal(plain, content) {
					t.Error("openssl unwrapped something else")
				}
			})
		}
	}
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}
