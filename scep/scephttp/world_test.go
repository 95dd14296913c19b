package scephttp_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

func certificate(t testing.TB, cn string, usage x509.KeyUsage, ca bool, public *rsa.PublicKey, parent *x509.Certificate, by *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: usage, BasicConstraintsValid: true, IsCA: ca,
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// authority is a CA with an NDES-shaped RA. It enrols whoever knows the
// challenge "open sesame", and can be told to be slow, undecided or broken.
type authority struct {
	t    testing.TB
	root *x509.Certificate
	key  *rsa.PrivateKey
	ra   *scep.RA

	mu      sync.Mutex
	pending int                   // so many answers are PENDING
	err     error                 // answered in place of a result
	before  func(context.Context) // called first
	asked   []*scep.Request
	issued  map[string][]byte // by transaction and key
}

func newAuthority(t testing.TB, next bool) *authority {
	t.Helper()
	a := &authority{t: t, key: testkeys.RSA2048(0), issued: map[string][]byte{}}
	a.root = certificate(t, "Test CA", x509.KeyUsageCertSign|x509.KeyUsageCRLSign, true, &a.key.PublicKey, nil, a.key)
	sign, open := testkeys.RSA2048(1), testkeys.RSA2048(2)
	material := scep.RA{
		Signing:    scep.KeyPair{Certificate: certificate(t, "RA sign", x509.KeyUsageDigitalSignature, false, &sign.PublicKey, a.root, a.key), Key: sign},
		Encryption: scep.KeyPair{Certificate: certificate(t, "RA open", x509.KeyUsageKeyEncipherment, false, &open.PublicKey, a.root, a.key), Key: open},
		Chain:      []*x509.Certificate{a.root}, IncludeRoot: true,
	}
	if next {
		material.Next = &scep.NextCA{Chain: []*x509.Certificate{a.root}}
	}
	ra, err := scep.NewRA(material)
	if err != nil {
		t.Fatal(err)
	}
	a.ra = ra
	return a
}

// lastAsked is the type of the newest request; other processes sent it.
func (a *authority) lastAsked() scep.MessageType {
	all := a.requests()
	return all[len(all)-1].MessageType
}

// requests are those that have reached the authority so far.
func (a *authority) requests() []*scep.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

func (a *authority) Enroll(ctx context.Context, req *scep.Request) (*scep.Result, error) {
	a.mu.Lock()
	before := a.before
	a.mu.Unlock()
	if before != nil {
		before(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, req)
	if a.err != nil {
		return nil, a.err
	}
	key := req.Signer.KeyDigest()
	id := req.TransactionID + string(key[:])
	switch req.MessageType {
	case scep.PKCSReq, scep.RenewalReq:
		if req.Signer.SelfIssued && req.CSR.ChallengePassword.Reveal() != "open sesame" {
			return scep.Refuse(scep.BadRequest, "wrong challenge"), nil
		}
		public, _ := req.CSR.PublicKey.(*rsa.PublicKey)
		if a.issued[id] == nil || !req.Signer.SelfIssued {
			a.issued[id] = certificate(a.t, "device", x509.KeyUsageDigitalSignature, false, public, a.root, a.key).Raw
		}
	case scep.CertPoll:
		if a.issued[id] == nil {
			return scep.Refuse(scep.BadCertID, "unknown transaction"), nil
		}
	case scep.GetCert:
		for _, der := range a.issued {
			if c, err := x509.ParseCertificate(der); err == nil && c.SerialNumber.Cmp(req.Serial) == 0 {
				return &scep.Result{Status: scep.Success, Certificate: der}, nil
			}
		}
		return scep.Refuse(scep.BadCertID, "unknown certificate"), nil
	case scep.GetCRL:
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, a.root, a.key)
		return &scep.Result{Status: scep.Success, CRL: der}, err
	}
	if a.pending > 0 {
		a.pending--
		return &scep.Result{Status: scep.Pending}, nil
	}
	return &scep.Result{Status: scep.Success, Certificate: a.issued[id]}, nil
}

func (a *authority) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// endpoint is what most tests serve.
func (a *authority) endpoint() scephttp.Endpoint {
	return scephttp.Endpoint{
		Name: "corp", Path: "/certsrv/mscep/mscep.dll", Enroller: a, RA: func() *scep.RA { return a.ra },
		Algorithms: scep.Algorithms{Legacy3DES: true}, NDESCompatible: true,
	}
}

// watch records what logs and metrics are told.
type watch struct {
	logs *observer.ObservedLogs
	mu   sync.Mutex
	seen []scephttp.Event
}

func (w *watch) Observe(e scephttp.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, e)
}

func (w *watch) last(t testing.TB) scephttp.Event {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		t.Fatal("nothing was observed")
	}
	return w.seen[len(w.seen)-1]
}

// endings counts exchanges that a limit ended, and those that were answered.
func (w *watch) endings() (limited, served int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.seen {
		if e.Limited != "" {
			limited++
		} else if e.HTTPStatus == 200 {
			served++
		}
	}
	return limited, served
}

// await returns the first event, of an exchange whose end nobody else waited for.
func (w *watch) await(t testing.TB) scephttp.Event {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		w.mu.Lock()
		seen := len(w.seen)
		w.mu.Unlock()
		if seen > 0 {
			break
		}
	}
	return w.last(t)
}

func handler(t testing.TB, limits scephttp.Limits, endpoints ...scephttp.Endpoint) (*scephttp.Handler, *watch) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	w := &watch{logs: logs}
	h, err := scephttp.New(endpoints, limits, zap.New(core), w)
	if err != nil {
		t.Fatal(err)
	}
	return h, w
}

// serve starts a server and returns the endpoint's URL.
func serve(t testing.TB, h *scephttp.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

const path = "/certsrv/mscep/mscep.dll"

// device returns an enrolment request for a key of its own.
func device(challenge string) scepclient.EnrollRequest {
	return scepclient.EnrollRequest{Key: testkeys.RSA2048(3), CSR: scepclient.CSR{
		Subject: pkix.Name{CommonName: "device"}, DNSNames: []string{"device.example.test"}, Challenge: secret.Text(challenge),
	}}
}

// service is what a device would learn from GetCACaps and GetCACert.
func (a *authority) service() *scepclient.Service {
	return &scepclient.Service{
		Capabilities: scepclient.Capabilities{"AES", "POSTPKIOperation", "SHA-256"},
		Certificates: []*x509.Certificate{a.ra.Signing.Certificate, a.ra.Encryption.Certificate, a.root},
		Recipient:    a.ra.Encryption.Certificate, Issuer: a.root, Cipher: scepclient.AES128,
	}
}

// message builds an enrolment message.
func (a *authority) message(t testing.TB, q scepclient.Quirks, challenge string) *scepclient.Message {
	t.Helper()
	req := device(challenge)
	req.Service = a.service()
	tr, err := (&scepclient.Client{Quirks: q}).Prepare(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return tr.Message
}

var errDown = errors.New("the CA does not answer")

// sleepy is a key in a slow module.
type sleepy struct {
	*rsa.PrivateKey
	wait time.Duration
}

func (k sleepy) Decrypt(r io.Reader, b []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	time.Sleep(k.wait)
	return k.PrivateKey.Decrypt(r, b, opts)
}

// slow returns the RA with a slow encryption key.
func (a *authority) slow(t testing.TB, wait time.Duration) *scep.RA {
	t.Helper()
	ra, err := scep.NewRA(scep.RA{
		Signing: a.ra.Signing, Chain: a.ra.Chain,
		Encryption: scep.KeyPair{Certificate: a.ra.Encryption.Certificate, Key: sleepy{testkeys.RSA2048(2), wait}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ra
}
