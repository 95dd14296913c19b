package intune_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// signInCertificate is a self-signed certificate as one uploads to an app
// registration, valid by every clock of these tests.
func signInCertificate(t *testing.T, i int) intune.Certificate {
	t.Helper()
	key := testkeys.RSA2048(i)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "connector"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2048, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return intune.Certificate{Certificate: cert, Signer: key}
}

func withCredential(c intune.Credential) func(*intune.Config) {
	return func(cfg *intune.Config) { cfg.Credential = c }
}

func TestSignInWithCertificate(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	known := signInCertificate(t, 1)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, known.Certificate)
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(known)}))
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
}

// A certificate that was renewed here but not uploaded yet must not stop the
// connector.
func TestNextCertificateIsTried(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	renewed, known := signInCertificate(t, 1), signInCertificate(t, 2)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, known.Certificate)
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(renewed, known)}))
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	if n := w.counts()[intunetest.Token]; n != 4 {
		t.Errorf("%d token requests, want 4: two for each scope", n)
	}
	if w.logs.FilterMessage("sign-in certificate refused").Len() != 2 {
		t.Error("the log does not tell of the refused certificate")
	}

	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(renewed)}))
	err := w.validate(t, "t")
	if e, ok := errors.AsType[*intune.AuthError](err); !ok || e.AADSTS != 700027 || e.Retryable || !strings.Contains(err.Error(), "upload it") {
		t.Errorf("error %v, want AADSTS700027 and a way out", err)
	}
}

// Certificates are asked for at every sign-in, so that a renewed one counts
// without a restart.
func TestCertificatesAreReloaded(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	first, second := signInCertificate(t, 1), signInCertificate(t, 2)
	var mu sync.Mutex
	current := first
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, first.Certificate)
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: func() []intune.Certificate {
		mu.Lock()
		defer mu.Unlock()
		return []intune.Certificate{current}
	}}))
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, second.Certificate)
	mu.Lock()
	current = second
	mu.Unlock()
	w.clock.Advance(2 * time.Hour)
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
}

// A clock that is wrong by more than the cloud allows is named as the cause.
func TestClockSkew(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	cert := signInCertificate(t, 1)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, cert.Certificate)
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(cert)}),
			func(cfg *intune.Config) { cfg.Clock = func() time.Time { return w.clock.Now().Add(skew) } })
		err := w.validate(t, "t")
		if e, ok := errors.AsType[*intune.AuthError](err); !ok || e.AADSTS != 700024 || !strings.Contains(err.Error(), "clock") {
			t.Errorf("skew %v: error %v, want AADSTS700024", skew, err)
		}
	}
}

// recorder stands in front of the sign-in service and keeps the forms.
type recorder struct {
	mu    sync.Mutex
	forms []url.Values
}

func (r *recorder) front(t *testing.T, w *world) func(*intune.Config) {
	login := w.cloud.Login()
	front := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		_ = req.ParseForm()
		r.mu.Lock()
		if req.Method == http.MethodPost {
			r.forms = append(r.forms, req.PostForm)
		}
		r.mu.Unlock()
		// The cloud reads the form again.
		body := strings.NewReader(req.PostForm.Encode())
		again := httptest.NewRequestWithContext(req.Context(), req.Method, req.URL.String(), body)
		again.Header, again.Host = req.Header, req.Host
		login.ServeHTTP(rw, again)
	}))
	t.Cleanup(front.Close)
	return func(cfg *intune.Config) {
		cfg.Endpoints.Authority = front.URL + "/"
		cfg.RootCAs = w.cloud.Roots()
		cfg.RootCAs.AddCert(front.Certificate())
	}
}

// azidentity hands on the double slash, and adds scopes that do no harm.
func TestScopesOnTheWire(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	var r recorder
	w.client = w.newClient(t, r.front(t, w))
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	if len(r.forms) != 2 {
		t.Fatalf("%d token requests", len(r.forms))
	}
	for i, want := range []string{w.cloud.GraphURL() + ".default", "https://api.manage.microsoft.com//.default"} {
		scopes := strings.Fields(r.forms[i].Get("scope"))
		if scopes[0] != want {
			t.Errorf("scope %q, want %q", scopes[0], want)
		}
		if rest := strings.Join(scopes[1:], " "); rest != "openid offline_access profile" {
			t.Errorf("further scopes %q: azidentity has changed, see the package comment", rest)
		}
		if r.forms[i].Get("grant_type") != "client_credentials" {
			t.Error("another grant")
		}
	}
	for _, c := range w.cloud.Calls() {
		if c.Endpoint == intunetest.Token && strings.HasSuffix(c.Verdict, "api.manage.microsoft.com") {
			t.Error("the audience has lost its slash")
		}
	}
}

func TestAssertion(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	cert := signInCertificate(t, 1)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, cert.Certificate)
	var r recorder
	front := r.front(t, w)
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(cert)}), front)
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, form := range r.forms {
		if form.Get("client_secret") != "" {
			t.Error("a secret beside the assertion")
		}
		parts := strings.Split(form.Get("client_assertion"), ".")
		var header struct {
			Alg, Typ string
			X5T      string `json:"x5t#S256"`
		}
		var claims struct {
			Aud, Iss, Sub, Jti string
			Nbf, Exp           int64
		}
		for i, v := range []any{&header, &claims} {
			b, err := base64.RawURLEncoding.DecodeString(parts[i])
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, v); err != nil {
				t.Fatal(err)
			}
		}
		now := w.clock.Now().Unix()
		if header.Alg != "PS256" || header.Typ != "JWT" || len(header.X5T) != 43 {
			t.Errorf("header %+v", header)
		}
		if claims.Iss != intunetest.ContosoClient || claims.Sub != claims.Iss || !strings.HasSuffix(claims.Aud, "/"+intunetest.ContosoID+"/oauth2/v2.0/token") {
			t.Errorf("claims %+v", claims)
		}
		if claims.Nbf != now-60 || claims.Exp-now > 600 || claims.Exp <= now {
			t.Errorf("valid from %d to %d at %d", claims.Nbf, claims.Exp, now)
		}
		if seen[claims.Jti] {
			t.Error("one jti twice")
		}
		seen[claims.Jti] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d assertions, want 2", len(seen))
	}
}

func TestFederatedToken(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	var r recorder
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("header.claims.signature\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.client = w.newClient(t, withCredential(intune.Credential{TokenFile: path}), r.front(t, w))
	err := w.validate(t, "t") // there is no federation with such an issuer
	if _, ok := errors.AsType[*intune.AuthError](err); !ok {
		t.Fatalf("error %v", err)
	}
	if len(r.forms) != 1 || r.forms[0].Get("client_assertion") != "header.claims.signature" {
		t.Error("the file's token was not sent as the assertion")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := w.validate(t, "t"); err == nil || !strings.Contains(err.Error(), "federated token") {
		t.Errorf("error %v does not name the missing file", err)
	}
}

// Tokens are renewed before they end, and an old one serves while sign-in is
// out of order.
func TestTokenLife(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	step := func(d time.Duration, tokens int) {
		t.Helper()
		w.clock.Advance(d)
		if err := w.validate(t, "t"); err != nil {
			t.Fatal(err)
		}
		if n := w.counts()[intunetest.Token]; n != tokens {
			t.Errorf("%d token requests, want %d", n, tokens)
		}
	}
	step(0, 2)
	step(50*time.Minute, 2)
	step(6*time.Minute, 3) // Intune's; the service list came from Graph 6 minutes ago
	step(time.Hour, 5)
	w.cloud.Fail(intunetest.Token, intunetest.Always, intunetest.Fault{Status: http.StatusServiceUnavailable})
	step(56*time.Minute, 11) // three attempts each for Graph and Intune, in vain
	step(29*time.Second, 11)
	w.clock.Advance(5 * time.Minute)
	err := w.validate(t, "t")
	if e, ok := errors.AsType[*intune.AuthError](err); !ok || !e.Retryable {
		t.Errorf("error %v, want one that is retryable", err)
	}
}

func TestTokenRetries(t *testing.T) {
	for _, row := range []struct {
		name      string
		fault     intunetest.Fault
		attempts  int
		retryable bool
	}{
		{"503", intunetest.Fault{Status: 503}, 3, true},
		{"429 with a short wait", intunetest.Fault{Status: 429, RetryAfter: "0"}, 3, true},
		{"429 with a long wait", intunetest.Fault{Status: 429, RetryAfter: "60"}, 1, true},
		{"reset", intunetest.Fault{Reset: true}, 3, true},
		{"AADSTS90033", intunetest.Fault{AADSTS: 90033, Status: 400}, 3, true},
		{"AADSTS50196 asks for a pause", intunetest.Fault{AADSTS: 50196, Status: 400}, 1, true},
		{"AADSTS7000222", intunetest.Fault{AADSTS: 7000222}, 1, false},
		{"AADSTS500011", intunetest.Fault{AADSTS: 500011, Status: 400}, 1, false},
		{"a page in place of JSON", intunetest.Fault{BadJSON: true}, 1, true},
		{"huge", intunetest.Fault{Huge: true}, 1, true},
		{"redirect", intunetest.Fault{Redirect: "https://example.invalid/"}, 1, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, intunetest.Options{})
			w.cloud.Fail(intunetest.Token, intunetest.Always, row.fault)
			err := w.validate(t, "t")
			if err == nil || intune.Retryable(err) != row.retryable || intune.Final(err) {
				t.Errorf("error %v, want retryable %v", err, row.retryable)
			}
			if n := w.counts(); n[intunetest.Token] != row.attempts || n[intunetest.Discovery] != 0 {
				t.Errorf("calls %v, want %d token requests", n, row.attempts)
			}
		})
	}
}
