package scephttp_test

import (
	"crypto"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// TestPlatforms has every platform enrol, wait for a decision, renew and be
// refused.
func TestPlatforms(t *testing.T) {
	variants := map[string]func(*scepclient.Quirks){
		"":                      func(*scepclient.Quirks) {},
		", GET":                 func(q *scepclient.Quirks) { q.AlwaysGET = true },
		", AES-192, SHA-384":    func(q *scepclient.Quirks) { q.Cipher, q.Digest = scepclient.AES192, crypto.SHA384 },
		", triple DES":          func(q *scepclient.Quirks) { q.Cipher = scepclient.TripleDES },
		", OAEP SHA-1":          func(q *scepclient.Quirks) { q.OAEP = crypto.SHA1 },
		", OAEP SHA-256":        func(q *scepclient.Quirks) { q.OAEP = crypto.SHA256 },
		", RenewalReq":          func(q *scepclient.Quirks) { q.Renewal = scep.RenewalReq },
		", unsorted attributes": func(q *scepclient.Quirks) { q.Unordered = true },
	}
	for _, name := range scepclient.Platforms() {
		for variant, change := range variants {
			t.Run(name+variant, func(t *testing.T) {
				t.Parallel()
				a := newAuthority(t, false)
				a.pending = 2
				h, w := handler(t, scephttp.Limits{}, a.endpoint())
				q, err := scepclient.Platform(name)
				if err != nil {
					t.Fatal(err)
				}
				change(&q)
				c := &scepclient.Client{URL: serve(t, h) + path, Quirks: q, DelayScale: 1e-9}
				life(t, a, c)
				if e := w.last(t); e.Status != scep.Failure || e.FailInfo != scep.BadRequest || e.Endpoint != "corp" || e.Operation != "PKIOperation" {
					t.Errorf("the refusal was observed as %+v", e)
				}
			})
		}
	}
}

// life is a device's: enrolment, renewal, GetCert, GetCRL, a wrong challenge.
func life(t *testing.T, a *authority, c *scepclient.Client) {
	t.Helper()
	r, err := c.Enroll(t.Context(), device("open sesame"))
	if err != nil || r.Status != scep.Success {
		t.Fatalf("enrolment: %+v, %v", r, err)
	}
	if err := r.Certificate.CheckSignatureFrom(a.root); err != nil {
		t.Error(err)
	}
	if len(r.Certificates) != 1 {
		t.Errorf("%d certificates in the reply: Apple takes the first, whatever it is", len(r.Certificates))
	}
	own := scepclient.Identity{Certificate: r.Certificate.Raw, Key: testkeys.RSA2048(3)}
	renewal := device("")
	renewal.Renew, renewal.Key = &own, testkeys.RSA2048(4)
	again, err := c.Enroll(t.Context(), renewal)
	if err != nil || again.Status != scep.Success {
		t.Fatalf("renewal: %+v, %v", again, err)
	}
	if again.Certificate.SerialNumber.Cmp(r.Certificate.SerialNumber) == 0 {
		t.Error("the renewal returned the old certificate")
	}
	if got, err := c.GetCert(t.Context(), own, r.Certificate); err != nil || got.Status != scep.Success {
		t.Errorf("GetCert: %+v, %v", got, err)
	}
	if got, err := c.GetCRL(t.Context(), own, r.Certificate); err != nil || got.CRL == nil || got.CRL.Number.Int64() != 7 {
		t.Errorf("GetCRL: %+v, %v", got, err)
	}
	wrong := device("wrong")
	wrong.Key = testkeys.RSA2048(5)
	if r, err = c.Enroll(t.Context(), wrong); err != nil || r.Status != scep.Failure || r.FailInfo != scep.BadRequest {
		t.Errorf("wrong challenge: %+v, %v", r, err)
	}
}

// TestForbiddenAlgorithms must be answered with a signed FAILURE.
func TestForbiddenAlgorithms(t *testing.T) {
	for name, q := range map[string]scepclient.Quirks{
		"single DES": {Cipher: scepclient.SingleDES}, "MD5": {Digest: crypto.MD5}, "SHA-1": {Digest: crypto.SHA1},
		"triple DES switched off": {Cipher: scepclient.TripleDES},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t, false)
			e := a.endpoint()
			e.Algorithms = scep.Algorithms{}
			h, _ := handler(t, scephttp.Limits{}, e)
			c := &scepclient.Client{URL: serve(t, h) + path, Quirks: q}
			r, err := c.Enroll(t.Context(), device("open sesame"))
			if err != nil || r.Status != scep.Failure || r.FailInfo != scep.BadAlg {
				t.Errorf("got %+v, %v; want badAlg", r, err)
			}
			if len(a.asked) != 0 {
				t.Error("the request reached the enroller")
			}
		})
	}
}

// TestRollover fetches the next CA certificate.
func TestRollover(t *testing.T) {
	a := newAuthority(t, true)
	h, _ := handler(t, scephttp.Limits{}, a.endpoint())
	c := &scepclient.Client{URL: serve(t, h) + path}
	s, err := c.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.Capabilities.Has("GetNextCACert") {
		t.Error("GetNextCACert is not announced")
	}
	next, err := c.NextCACerts(t.Context(), s.Certificates)
	if err != nil || len(next) == 0 || !next[0].Equal(a.root) {
		t.Errorf("got %v, %v", next, err)
	}
	if _, err := c.NextCACerts(t.Context(), []*x509.Certificate{a.root}); err == nil {
		t.Error("the answer was believed without knowing its signer")
	}
}

// TestTransactionIDs come back octet for octet, whatever is in them.
func TestTransactionIDs(t *testing.T) {
	a := newAuthority(t, false)
	h, _ := handler(t, scephttp.Limits{}, a.endpoint())
	// micromdm's way of GET: URL-safe base64, message before operation.
	c := &scepclient.Client{URL: serve(t, h) + path, Quirks: scepclient.Quirks{AlwaysGET: true, Escaping: scepclient.EscapeURL}}
	ids := map[string]string{"sscep's literal": "SSCEP transactionId", "one character": "1", "255 characters": strings.Repeat("7", 255), "path": "../../etc/passwd"}
	for name, form := range map[string]scepclient.TransactionIDForm{"MD5 (sscep)": scepclient.UpperHexMD5, "base64 (micromdm)": scepclient.Base64SHA1, "decimal (certmonger)": scepclient.DecimalSHA256} {
		id, err := scepclient.NewTransactionID(&testkeys.RSA2048(3).PublicKey, form)
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = id
	}
	for name, id := range ids {
		t.Run(name, func(t *testing.T) {
			req := device("open sesame")
			req.TransactionID = id
			r, err := c.Enroll(t.Context(), req) // the client compares the ID
			if err != nil || r.Status != scep.Success {
				t.Fatalf("%+v, %v", r, err)
			}
			if got := a.asked[len(a.asked)-1].TransactionID; got != id {
				t.Errorf("the enroller saw %q", got)
			}
		})
	}
}
