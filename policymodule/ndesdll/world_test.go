//go:build e2ewindows

package ndesdll_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/crp"
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

// world is the connector's machine: a simulated cloud and the registration
// point in front of it, over mutual TLS on loopback.
type world struct {
	cloud    *intunetest.Cloud
	ca       *x509.Certificate
	handler  http.Handler
	address  string // localhost:port
	server   *x509.Certificate
	reporter *reporter
	asked    *recorder
	made     int
}

// recorder keeps what the module was asked.
type recorder struct {
	policymodule.Module
	mu       sync.Mutex
	requests []policymodule.Request
}

func (r *recorder) Verify(ctx context.Context, req policymodule.Request) (policymodule.Decision, error) {
	r.mu.Lock()
	r.requests = append(r.requests, req)
	r.mu.Unlock()
	return r.Module.Verify(ctx, req)
}

func (r *recorder) last() policymodule.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[len(r.requests)-1]
}

// reporter takes outcomes as the agent does: once per error, then as told says.
type reporter struct {
	mu       sync.Mutex
	told     bool
	errs     []error
	outcomes []policymodule.Outcome
}

func (r *reporter) set(told bool, errs ...error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told, r.errs = told, errs
}

func (r *reporter) Report(_ context.Context, _, _ string, o policymodule.Outcome) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes = append(r.outcomes, o)
	if len(r.errs) > 0 {
		err := r.errs[0]
		r.errs = r.errs[1:]
		return false, err
	}
	return r.told, nil
}

func (r *reporter) of(transaction string) (all []policymodule.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.outcomes {
		if o.TransactionID == transaction {
			all = append(all, o)
		}
	}
	return all
}

// trustedCA is the CA of front ends and of the registration point.
const trustedCA = "Corp Machines"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{reporter: &reporter{told: true}}
	var err error
	if w.cloud, err = intunetest.New(intunetest.Options{Strict: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.cloud.Close() })
	w.ca = selfSigned(t, trustedCA)
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := sqlite.Create(path); err != nil {
		t.Fatal(err)
	}
	journal, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	w.asked = &recorder{Module: w.point(t)}
	roots := x509.NewCertPool()
	roots.AddCert(w.ca)
	callers := &webauth.Certificates{Roots: roots, Clients: []webauth.Client{{Name: "ndes", DNSName: "ndes.corp.example"}}}
	w.handler, err = crphttp.New(crphttp.Config{
		FrontEnds: []crphttp.FrontEnd{{Name: "ndes", Tenants: []string{"contoso"}, ReleasesItself: true}},
		Modules:   map[string]policymodule.Module{"contoso": w.asked}, Verdicts: journal, Reporter: w.reporter,
		Identify: func(r *http.Request) (string, error) { return callers.Identify(r.TLS) },
		Limits:   crphttp.Limits{RetryAfter: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.address, w.server = w.serve(t, w.handler, w.ca)
	return w
}

func (w *world) point(t *testing.T) *crp.Point {
	t.Helper()
	cfg := w.cloud.ClientConfig()
	cfg.Backoff = retry.Schedule{First: time.Millisecond, Most: 2 * time.Millisecond}
	client, err := intune.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	p, err := crp.New(crp.Config{Tenant: "contoso", Cloud: client, Sealer: sealer})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve starts a TLS server for localhost whose certificate comes from a CA.
// It asks for client certificates.
func (w *world) serve(t *testing.T, handler http.Handler, ca *x509.Certificate) (address string, cert *x509.Certificate) {
	t.Helper()
	key := testkeys.RSA2048(2)
	cert = issue(t, ca, key, "localhost", x509.ExtKeyUsageServerAuth)
	clients := x509.NewCertPool()
	clients.AddCert(w.ca)
	server, err := webserver.Listen(webserver.Config{
		Address: "127.0.0.1:0", Handler: handler, ClientCAs: clients,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	_, port, err := net.SplitHostPort(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "localhost:" + port, cert
}

func selfSigned(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	return create(t, template, template, caKey(template), caKey(template))
}

// caKey returns the key of a CA: two of one key could be taken for each other.
func caKey(ca *x509.Certificate) *rsa.PrivateKey {
	if ca.Subject.CommonName == trustedCA {
		return testkeys.RSA2048(0)
	}
	return testkeys.RSA2048(6)
}

func issue(t *testing.T, ca *x509.Certificate, key *rsa.PrivateKey, name string, usage x509.ExtKeyUsage) *x509.Certificate {
	t.Helper()
	return create(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(12 * time.Hour),
	}, ca, key, caKey(ca))
}

func create(t *testing.T, template, ca *x509.Certificate, key, signer *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// client puts a client certificate with its key into the machine's store and
// returns its thumbprint.
func (w *world) client(t *testing.T, h *host, name string, key *rsa.PrivateKey) string {
	t.Helper()
	cert := issue(t, w.ca, key, name, x509.ExtKeyUsageClientAuth)
	h.want(0, "client", name, hex.EncodeToString(cert.Raw), hex.EncodeToString(capiKey(key)))
	return fmt.Sprintf("%x", sha1.Sum(cert.Raw))
}

// capiKey returns a PRIVATEKEYBLOB for key exchange (Microsoft Learn, "RSA
// public key BLOBs"): numbers are little endian.
func capiKey(key *rsa.PrivateKey) []byte {
	var b bytes.Buffer
	size := key.Size()
	binary.Write(&b, binary.LittleEndian, struct {
		Type, Version    uint8
		Reserved         uint16
		Algorithm, Magic uint32
		Bits, Exponent   uint32
	}{7, 2, 0, 0xa400, 0x32415352, uint32(8 * size), uint32(key.E)})
	number := func(n *big.Int, size int) {
		octets := n.FillBytes(make([]byte, size))
		slices.Reverse(octets)
		b.Write(octets)
	}
	number(key.N, size)
	number(key.Primes[0], size/2)
	number(key.Primes[1], size/2)
	number(key.Precomputed.Dp, size/2)
	number(key.Precomputed.Dq, size/2)
	number(key.Precomputed.Qinv, size/2)
	number(key.D, size)
	return b.Bytes()
}

// request is one that a device makes; key is its number in testkeys.
type request struct {
	transaction string
	challenge   string
	csr         *pkcs10.Request
}

func (r request) hex() string { return hex.EncodeToString(r.csr.Raw) }

func (w *world) request(t *testing.T, change ...func(*intunetest.Challenge)) request {
	t.Helper()
	ch, err := w.cloud.Challenge(intunetest.Ask{Platform: "ios"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&ch)
	}
	der, err := ch.CSR(testkeys.RSA2048(3))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	w.made++
	return request{transaction: fmt.Sprintf("transaction-%d", w.made), challenge: ch.Challenge, csr: csr}
}

// certificate is what the CA behind NDES makes of a request.
func (w *world) certificate(t *testing.T, r request) string {
	t.Helper()
	return hex.EncodeToString(issue(t, w.ca, testkeys.RSA2048(3), "device", x509.ExtKeyUsageClientAuth).Raw)
}
