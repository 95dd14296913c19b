package crpclient_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/crp"
	"github.com/certconnector/certconnector/crp/crpclient"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
)

// point is a registration point that answers what a test wants.
type point struct {
	*httptest.Server
	certificate *x509.Certificate

	mu          sync.Mutex
	status      int
	header      http.Header
	body        string
	hold        bool
	asked       []ask
	connections map[string]bool
}

type ask struct {
	path, userAgent, contentType, proto string
	certificate                         string // common name of the caller
	members                             map[string]any
}

func newPoint(t *testing.T, change ...func(*httptest.Server)) *point {
	t.Helper()
	p := &point{connections: map[string]bool{}}
	p.Server = httptest.NewUnstartedServer(p)
	pair := selfSigned(t, "crp", x509.ExtKeyUsageServerAuth)
	p.certificate = pair.Leaf
	p.TLS = &tls.Config{Certificates: []tls.Certificate{*pair}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	p.EnableHTTP2 = true
	for _, f := range change {
		f(p.Server)
	}
	p.Config.ErrorLog = nil
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func (p *point) answer(status int, contentType, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.body, p.header = status, body, http.Header{"Content-Type": {contentType}}
}

func (p *point) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body)
	a := ask{path: r.URL.Path, userAgent: r.UserAgent(), contentType: r.Header.Get("Content-Type"), proto: r.Proto}
	if len(r.TLS.PeerCertificates) > 0 {
		a.certificate = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	_ = json.Unmarshal(content, &a.members)
	p.mu.Lock()
	p.asked = append(p.asked, a)
	p.connections[r.RemoteAddr] = true
	status, header, body, hold := p.status, p.header, p.body, p.hold
	p.mu.Unlock()
	if hold {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // returning would answer 200, which whoever hangs up may still read
	}
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func selfSigned(t *testing.T, name string, usage x509.ExtKeyUsage) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, testkeys.P256(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: testkeys.P256(0), Leaf: cert}
}

func sealer(t *testing.T) *secret.Sealer {
	t.Helper()
	s, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *point) config(t *testing.T) crpclient.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(p.certificate)
	us := selfSigned(t, "scep.corp.example", x509.ExtKeyUsageClientAuth)
	return crpclient.Config{
		URL: p.URL, Tenant: "contoso", RootCAs: roots, Sealer: sealer(t), ConnectTimeout: time.Minute, Timeout: 2 * time.Minute,
		Certificate: func() (*tls.Certificate, error) { return us, nil },
	}
}

func (p *point) client(t *testing.T, change ...func(*crpclient.Config)) *crpclient.Client {
	t.Helper()
	config := p.config(t)
	for _, f := range change {
		f(&config)
	}
	c, err := crpclient.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func request(t *testing.T) policymodule.Request {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "device"}}, testkeys.RSA2048(0))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	csr.ChallengePassword = "a challenge"
	return policymodule.Request{Endpoint: "corp", TransactionID: "\x00\xff", Template: "Device", CSR: csr}
}

const jsonType, problemType = "application/json", "application/problem+json"

// What is not understood is neither a grant nor a refusal.
func TestVerdicts(t *testing.T) {
	p := newPoint(t)
	c, r := p.client(t), request(t)
	made := time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		name        string
		status      int
		contentType string
		body        string
		want        policymodule.Decision // without ChallengeID
		fails       bool
	}{
		{"granted", 201, jsonType, `{"verdict":"granted","notify":true,"namesVouched":true,"releasesItself":false,"maxValiditySeconds":3600,"challengeMade":"2027-01-15T08:00:00Z","future":[1]}`,
			policymodule.Decision{Granted: true, Notify: true, VouchedNames: true, MaxValidity: time.Hour, ChallengeMade: made}, false},
		{"refused", 201, jsonType, `{"verdict":"refused","rule":"intune_challenge_expired","failInfo":3,"failInfoName":"badTime","detail":"too\u0000old"}`,
			policymodule.Refuse("intune_challenge_expired", policymodule.BadTime, "too old"), false},
		{"refused by a rule that is no name", 201, jsonType, `{"verdict":"refused","rule":"Rule 1\n","failInfo":9}`,
			policymodule.Refuse(crpclient.RuleRefused, policymodule.BadRequest, ""), false},
		{"refused at length", 201, jsonType, `{"verdict":"refused","rule":"a","failInfo":0,"detail":"` + strings.Repeat("ä", 5000) + `"}`,
			policymodule.Refuse("a", policymodule.BadAlg, strings.Repeat("ä", 1024)), false},
		{"200", 200, jsonType, `{"verdict":"granted"}`, policymodule.Decision{}, true},
		{"204", 204, jsonType, "", policymodule.Decision{}, true},
		{"no verdict", 201, jsonType, `{}`, policymodule.Decision{}, true},
		{"another verdict", 201, jsonType, `{"verdict":"perhaps"}`, policymodule.Decision{}, true},
		{"true, as Microsoft's", 201, jsonType, `true`, policymodule.Decision{}, true},
		{"cut off", 201, jsonType, `{"verdict":"granted"`, policymodule.Decision{}, true},
		{"another type", 201, jsonType, `{"verdict":"granted","notify":"yes"}`, policymodule.Decision{}, true},
		{"a negative life", 201, jsonType, `{"verdict":"granted","maxValiditySeconds":-1}`, policymodule.Decision{}, true},
		{"an endless life", 201, jsonType, `{"verdict":"granted","maxValiditySeconds":9223372036854775807}`, policymodule.Decision{}, true},
		{"takes us for NDES", 201, jsonType, `{"verdict":"granted","notify":true,"releasesItself":true}`, policymodule.Decision{}, true},
		{"a page", 201, "text/html", `<html>`, policymodule.Decision{}, true},
		{"too long", 201, jsonType, `{"verdict":"granted","x":"` + strings.Repeat("x", 64<<10) + `"}`, policymodule.Decision{}, true},
		{"400", 400, problemType, `{"rule":"body_malformed"}`, policymodule.Decision{}, true},
		{"403", 403, problemType, `{"rule":"client_certificate_name"}`, policymodule.Decision{}, true},
		{"409", 409, problemType, `{"rule":"notify_refused"}`, policymodule.Decision{}, true},
		{"500", 500, "text/plain", `oops`, policymodule.Decision{}, true},
		{"503", 503, problemType, `{"rule":"could_not_ask"}`, policymodule.Decision{}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			p.answer(row.status, row.contentType, row.body)
			d, err := c.Verify(t.Context(), r)
			if d.Granted != (d.ChallengeID != "") {
				t.Errorf("granted %v with a challenge ID of %d octets", d.Granted, len(d.ChallengeID))
			}
			d.ChallengeID = ""
			if (err != nil) != row.fails || d != row.want {
				t.Errorf("decision %+v, error %v", d, err)
			}
		})
	}
}

// An error names the rule and a way out, and never what was sent.
func TestErrorsTell(t *testing.T) {
	p := newPoint(t)
	c, r := p.client(t), request(t)
	for rule, part := range map[string]string{
		"client_certificate_name": "client_certificate_name", "tenant_not_allowed": "front_ends", "Rule\n1": "answered 403; see",
	} {
		body, _ := json.Marshal(map[string]string{"rule": rule})
		p.answer(403, problemType, string(body))
		if _, err := c.Verify(t.Context(), r); err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "a challenge") {
			t.Errorf("rule %q: %v", rule, err)
		}
	}
}

func TestNotifyAnswers(t *testing.T) {
	p := newPoint(t)
	c, r := p.client(t), request(t)
	o := policymodule.Outcome{Endpoint: "corp", TransactionID: "1", CSR: r.CSR.Raw, Certificate: p.certificate, IssuingCA: "ca"}
	for status, final := range map[int]bool{409: true, 200: false, 201: false, 202: false, 302: false, 400: false, 403: false, 404: false, 429: false, 500: false, 503: false} {
		p.answer(status, problemType, `{"rule":"outcome_differs"}`)
		if status < 300 {
			p.answer(status, jsonType, "{}")
		}
		if err := c.Notify(t.Context(), o); err == nil || errors.Is(err, policymodule.ErrNotifyRefused) != final {
			t.Errorf("%d: %v, want final %v", status, err, final)
		}
	}
	p.answer(204, jsonType, "")
	if err := c.Notify(t.Context(), o); err != nil {
		t.Error(err)
	}
	o.IssuingCA = strings.Repeat("x", 256)
	if err := c.Notify(t.Context(), o); err == nil || errors.Is(err, policymodule.ErrNotifyRefused) {
		t.Errorf("a name that does not fit: %v", err)
	}
}

// What goes over the wire, over one connection, as whom.
func TestQuestion(t *testing.T) {
	p := newPoint(t)
	c, r := p.client(t, func(config *crpclient.Config) { config.URL += "/behind/proxy/" }), request(t)
	r.Renewal = p.certificate
	p.answer(201, jsonType, `{"verdict":"granted"}`)
	for range 3 {
		if _, err := c.Verify(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	p.answer(204, "", "")
	if err := c.Notify(t.Context(), policymodule.Outcome{Endpoint: "corp", TransactionID: "1", CSR: r.CSR.Raw, HResult: -1, Description: "a\r\nb"}); err != nil {
		t.Fatal(err)
	}
	first, last := p.asked[0], p.asked[3]
	if first.path != "/behind/proxy/CertificateRegistrationSvc/Certificate/VerifyRequest" || first.contentType != jsonType ||
		first.userAgent != "certconnector" || first.certificate != "scep.corp.example" || first.proto != "HTTP/2.0" {
		t.Errorf("asked %+v", first)
	}
	if m := first.members; m["tenant"] != "contoso" || m["endpoint"] != "corp" || m["transactionId"] != "AP8=" || m["template"] != "Device" || m["renewalCertificate"] == nil || len(m) != 6 {
		t.Errorf("question %v", m)
	}
	if m := last.members; m["outcome"] != "failed" || m["hresult"] != -1.0 || m["description"] != "a  b" {
		t.Errorf("outcome %v", m)
	}
	if len(p.connections) != 1 {
		t.Errorf("%d connections for 4 exchanges", len(p.connections))
	}
}

// Without a challenge nobody is asked, and the rules have the names that they
// have where the registration point is in the same process.
func TestNothingToAsk(t *testing.T) {
	p := newPoint(t)
	c, r := p.client(t), request(t)
	for want, challenge := range map[policymodule.Reason]secret.Text{
		crp.RuleChallengeMissing: "", crp.RuleChallengeTooLong: secret.Text(strings.Repeat("x", 64<<10+1)),
	} {
		r.CSR.ChallengePassword = challenge
		if d, err := c.Verify(t.Context(), r); err != nil || d.Granted || d.Rule != want {
			t.Errorf("decision %+v, error %v, want %s", d, err, want)
		}
	}
	if d, err := c.Verify(t.Context(), policymodule.Request{}); err != nil || d.Rule != crp.RuleChallengeMissing {
		t.Errorf("no CSR: decision %+v, error %v", d, err)
	}
	if len(p.asked) != 0 {
		t.Errorf("asked %d times", len(p.asked))
	}
}

// A challenge counts once at a registration point and tenant, whichever
// endpoint it comes to.
func TestChallengeIDs(t *testing.T) {
	p := newPoint(t)
	p.answer(201, jsonType, `{"verdict":"granted"}`)
	id := func(tenant, endpoint string) string {
		t.Helper()
		r := request(t)
		r.Endpoint = endpoint
		d, err := p.client(t, func(config *crpclient.Config) { config.Tenant = tenant }).Verify(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return d.ChallengeID
	}
	if id("contoso", "a") != id("contoso", "b") {
		t.Error("two endpoints have two IDs for one challenge")
	}
	if id("contoso", "a") == id("fabrikam", "a") {
		t.Error("two tenants have one ID")
	}
}

func TestRetryAfter(t *testing.T) {
	p := newPoint(t)
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	c := p.client(t, func(config *crpclient.Config) { config.Clock = func() time.Time { return now } })
	for value, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "": 0, "-1": 0, "soon": 0, "86400": 10 * time.Minute, "99999999999": 0,
		"Mon, 01 Mar 2027 12:03:00 GMT": 3 * time.Minute, "Mon, 01 Mar 2027 11:00:00 GMT": 0,
	} {
		p.answer(503, problemType, `{"rule":"could_not_ask"}`)
		p.header.Set("Retry-After", value)
		_, err := c.Verify(t.Context(), request(t))
		e, ok := errors.AsType[*crpclient.StatusError](err)
		if !ok || e.RetryAfter() != want || e.Rule != "could_not_ask" {
			t.Errorf("%q: %v", value, err)
		}
	}
}
