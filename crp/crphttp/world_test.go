package crphttp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/crp"
	"github.com/certconnector/certconnector/crp/crpclient"
	"github.com/certconnector/certconnector/crp/crphttp"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/internal/webserver"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/policymodule"
)

// world is machine B: a simulated cloud, a registration point of its tenant
// "contoso" with a journal on disk, and the service in front of it on
// loopback. Its front ends are "scep" (scep.corp.example), "dmz"
// (dmz.corp.example) and "ndes" (ndes.corp.example), which releases by itself.
type world struct {
	cloud    *intunetest.Cloud
	roots    *x509.CertPool
	address  string // another one after a restart
	path     string // of the journal
	logs     *observer.ObservedLogs
	audit    *observer.ObservedLogs
	reporter *fakeReporter
	change   func(*crphttp.Config)

	handler *crphttp.Handler
	journal *sqlite.Journal
	stop    func()

	mu   sync.Mutex
	now  time.Time
	made atomic.Int64
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t testing.TB, change ...func(*crphttp.Config)) *world {
	t.Helper()
	w := &world{now: time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC), reporter: &fakeReporter{told: true}}
	w.change = func(c *crphttp.Config) {
		for _, f := range change {
			f(c)
		}
	}
	var err error
	if w.cloud, err = intunetest.New(intunetest.Options{Clock: w.clock, Strict: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.cloud.Close() })
	w.roots = x509.NewCertPool()
	w.roots.AddCert(authority(t))
	w.path = filepath.Join(t.TempDir(), "journal.db")
	if err := sqlite.Create(w.path); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	t.Cleanup(func() { w.stop() })
	return w
}

// restart is a new process on the same disk, which clients reach at the address
// that they know.
func (w *world) restart(t testing.TB) {
	t.Helper()
	w.stop()
	w.start(t)
}

func (w *world) start(t testing.TB) {
	t.Helper()
	var err error
	if w.journal, err = sqlite.Open(w.path, sqlite.Options{Clock: w.clock}); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	auditCore, audit := observer.New(zap.DebugLevel)
	w.logs, w.audit = logs, audit
	callers := &webauth.Certificates{Roots: w.roots, Clients: []webauth.Client{
		{Name: "scep", DNSName: "scep.corp.example"}, {Name: "dmz", DNSName: "dmz.corp.example"},
		{Name: "ndes", DNSName: "ndes.corp.example"}, {Name: "gone", DNSName: "gone.corp.example"},
		{Name: "pinned", DNSName: "pinned.corp.example", Pins: [][32]byte{{1}}},
	}}
	config := crphttp.Config{
		FrontEnds: []crphttp.FrontEnd{
			{Name: "scep", Tenants: []string{"contoso"}}, {Name: "dmz", Tenants: []string{"contoso"}},
			{Name: "ndes", Tenants: []string{"contoso"}, ReleasesItself: true},
			{Name: "pinned", Tenants: []string{"contoso"}},
		},
		Modules:  map[string]policymodule.Module{"contoso": w.point(t), "fabrikam": w.point(t)},
		Verdicts: w.journal,
		Identify: func(r *http.Request) (string, error) { return callers.Identify(r.TLS) },
		Reporter: w.reporter, Clock: w.clock, Log: zap.New(core), Audit: zap.New(auditCore),
	}
	w.change(&config)
	if w.handler, err = crphttp.New(config); err != nil {
		t.Fatal(err)
	}
	w.serve(t)
}

func (w *world) serve(t testing.TB) {
	t.Helper()
	certificate := issue(t, leaf{names: []string{"crp.corp.example"}, usage: x509.ExtKeyUsageServerAuth})
	server, err := webserver.Listen(webserver.Config{
		Address: "127.0.0.1:0", Handler: conform(t, w.handler), ClientCAs: w.roots,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.address = server.Addr().String()
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) point(t testing.TB) *crp.Point {
	t.Helper()
	cfg := w.cloud.ClientConfig()
	cfg.Backoff = retry.Schedule{First: time.Millisecond, Most: 2 * time.Millisecond}
	// An attempt that ends early on a busy machine is made again, and counted.
	cfg.Timeouts = intune.Timeouts{
		Token: 2 * time.Minute, Discovery: 2 * time.Minute, Validate: 2 * time.Minute, Notify: 2 * time.Minute,
		Revocation: 2 * time.Minute, Graph: 2 * time.Minute, Renewal: 2 * time.Minute, Total: 4 * time.Minute,
	}
	client, err := intune.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	p, err := crp.New(crp.Config{Tenant: "contoso", Cloud: client, Sealer: sealer(t), Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sealer(t testing.TB) *secret.Sealer {
	t.Helper()
	s, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// client is machine A: a front end of that name.
func (w *world) client(t testing.TB, name string, change ...func(*crpclient.Config)) *crpclient.Client {
	t.Helper()
	certificate := issue(t, leaf{names: []string{name + ".corp.example"}, usage: x509.ExtKeyUsageClientAuth})
	config := crpclient.Config{
		URL: "https://" + w.address, RootCAs: w.roots, Sealer: sealer(t), Clock: w.clock,
		Certificate: func() (*tls.Certificate, error) { return certificate, nil },
		// The port of a server that has ended may be somebody else's by now.
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			w.mu.Lock()
			address := w.address
			w.mu.Unlock()
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
		ConnectTimeout: minute, Timeout: 2 * minute,
	}
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

// post sends bytes as a front end whose certificate is given, nil for none.
func (w *world) post(t testing.TB, certificate *tls.Certificate, path string, body []byte) (*http.Response, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+w.address+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return w.do(t, certificate, r)
}

func (w *world) do(t testing.TB, certificate *tls.Certificate, r *http.Request) (*http.Response, map[string]any) {
	t.Helper()
	config := &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12}
	if certificate != nil {
		// Whatever the server says it would like to see.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if len(content) > 0 && answer.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		if err := json.Unmarshal(content, &members); err != nil {
			t.Fatalf("status %d: %v: %q", answer.StatusCode, err, content)
		}
	}
	return answer, members
}

// request makes a request that the cloud would grant.
func (w *world) request(t testing.TB, change ...func(*intunetest.Challenge)) policymodule.Request {
	t.Helper()
	ch, err := w.cloud.Challenge(intunetest.Ask{Platform: "ios"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&ch)
	}
	return policymodule.Request{
		Endpoint: "corp", TransactionID: fmt.Sprintf("transaction %d", w.made.Add(1)), Template: "Device", CSR: sign(t, ch, 0),
	}
}

func sign(t testing.TB, ch intunetest.Challenge, key int) *pkcs10.Request {
	t.Helper()
	der, err := ch.CSR(testkeys.RSA2048(key))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// issued is what a CA would have made of a request.
func issued(t testing.TB, r policymodule.Request, serial int64) policymodule.Outcome {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "device"},
		NotBefore: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority(t), r.CSR.PublicKey, testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return policymodule.Outcome{Endpoint: r.Endpoint, TransactionID: r.TransactionID, CSR: r.CSR.Raw, Certificate: cert, IssuingCA: "corp-issuing-ca-1"}
}

func failed(r policymodule.Request) policymodule.Outcome {
	return policymodule.Outcome{Endpoint: r.Endpoint, TransactionID: r.TransactionID, CSR: r.CSR.Raw, HResult: -2146877420, Description: "denied"}
}

func mustGrant(t testing.TB, m policymodule.Module, r policymodule.Request) policymodule.Decision {
	t.Helper()
	d, err := m.Verify(t.Context(), r)
	if err != nil || !d.Granted {
		t.Fatalf("decision %+v, error %v", d, err)
	}
	return d
}

func mustRefuse(t testing.TB, m policymodule.Module, r policymodule.Request, rule policymodule.Reason) {
	t.Helper()
	if d, err := m.Verify(t.Context(), r); err != nil || d.Granted || d.Rule != rule {
		t.Errorf("decision %+v, error %v, want a refusal by %s", d, err, rule)
	}
}

// leaf describes an end entity's certificate.
type leaf struct {
	names   []string
	usage   x509.ExtKeyUsage
	expired bool
	foreign bool // made by a CA that nobody trusts
}

var authorities sync.Map

// authority is the CA of front ends and of the registration point.
func authority(t testing.TB) *x509.Certificate {
	t.Helper()
	if cert, ok := authorities.Load("ours"); ok {
		return cert.(*x509.Certificate)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corp Machines"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, testkeys.P256(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	actual, _ := authorities.LoadOrStore("ours", cert)
	return actual.(*x509.Certificate)
}

func issue(t testing.TB, l leaf) *tls.Certificate {
	t.Helper()
	key := testkeys.P256(1)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "machine"}, DNSNames: l.names, ExtKeyUsage: []x509.ExtKeyUsage{l.usage},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if l.expired {
		template.NotAfter = time.Now().Add(-time.Minute)
	}
	parent, signer := authority(t), testkeys.P256(0)
	if l.foreign {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func frontEnd(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	return issue(t, leaf{names: []string{name + ".corp.example"}, usage: x509.ExtKeyUsageClientAuth})
}

type clientConfig = crpclient.Config

// fakeReporter records outcomes as the agent does, and tells them when told.
type fakeReporter struct {
	mu       sync.Mutex
	told     bool
	err      error
	reports  map[[32]byte]int // by certificate, zero for failures
	rejected map[[32]byte]int
}

func (f *fakeReporter) set(told bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told, f.err = told, err
}

func thumbprint(o policymodule.Outcome) (sum [32]byte) {
	if o.Certificate != nil {
		sum = sha256.Sum256(o.Certificate.Raw)
	}
	return sum
}

func (f *fakeReporter) Report(_ context.Context, frontEnd, tenant string, o policymodule.Outcome) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if frontEnd != "ndes" || tenant != "contoso" {
		return false, fmt.Errorf("report of %s for %s", frontEnd, tenant)
	}
	if f.reports == nil {
		f.reports = map[[32]byte]int{}
	}
	f.reports[thumbprint(o)]++
	return f.told, f.err
}

func (f *fakeReporter) Reject(_ context.Context, _, _ string, o policymodule.Outcome) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rejected == nil {
		f.rejected = map[[32]byte]int{}
	}
	f.rejected[thumbprint(o)]++
	return nil
}
