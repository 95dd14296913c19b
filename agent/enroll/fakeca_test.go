package enroll_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// fakeCA issues, and fails in every way a CA across a network can.
type fakeCA struct {
	root *x509.Certificate

	mu       sync.Mutex
	down     bool                    // ErrUnavailable
	mute     bool                    // carries out, then ErrOutcomeUnknown
	deafTo   bool                    // ErrOutcomeUnknown without carrying out
	broken   bool                    // panics
	search   error                   // of Find
	deny     *ca.Denied              //
	park     bool                    //
	tamper   func(*x509.Certificate) // what a CA might do to a template
	slow     time.Duration           // before it answers
	impostor bool                    // it is somebody else
	life     time.Duration           // of certificates
	issues   int                     // calls to Issue
	issued   map[[32]byte]*x509.Certificate
	revoked  map[string]ca.Reason
	parked   map[string]*parkedRequest
}

type parkedRequest struct {
	req      ca.Request
	approved bool
	denied   bool
}

// issuerFor is the root as the signer would have it: x509 signs for no other
// certificate than the signer's.
func (f *fakeCA) issuerFor(signer *ecdsa.PrivateKey) *x509.Certificate {
	root := *f.root
	root.PublicKey = signer.Public()
	return &root
}

func newFakeCA(t *testing.T) *fakeCA {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Issuing CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, testkeys.P256(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeCA{root: root, life: 365 * 24 * time.Hour, issued: map[[32]byte]*x509.Certificate{}, revoked: map[string]ca.Reason{}, parked: map[string]*parkedRequest{}}
}

func (f *fakeCA) set(change func(*fakeCA)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeCA) Chain(context.Context) ([]*x509.Certificate, error) {
	return []*x509.Certificate{f.root}, nil
}

func (f *fakeCA) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	f.mu.Lock()
	f.issues++
	slow := f.slow
	f.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.broken:
		panic("a bug in the bridge")
	case f.down:
		return nil, fmt.Errorf("connection refused: %w", ca.ErrUnavailable)
	case f.deafTo:
		return nil, fmt.Errorf("connection reset: %w", ca.ErrOutcomeUnknown)
	case f.deny != nil:
		return nil, f.deny
	case f.park:
		id := fmt.Sprint(len(f.parked) + 1)
		f.parked[id] = &parkedRequest{req: req}
		return nil, &ca.Pending{RequestID: id}
	}
	cert, err := f.sign(req.CSR)
	if err != nil {
		return nil, err
	}
	if f.mute {
		return nil, fmt.Errorf("connection reset: %w", ca.ErrOutcomeUnknown)
	}
	return &ca.Issued{Certificate: cert}, nil
}

func (f *fakeCA) sign(csr *pkcs10.Request) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, RawSubject: csr.RawSubject, NotBefore: time.Now(), NotAfter: time.Now().Add(f.life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	if csr.RawSAN != nil {
		tmpl.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 17}, Value: csr.RawSAN}}
	}
	pub := csr.PublicKey
	if f.tamper != nil {
		f.tamper(tmpl)
		if tmpl.PublicKey != nil {
			pub = tmpl.PublicKey
		}
	}
	signer := testkeys.P256(0)
	if f.impostor { // the right name, and another's key
		signer = testkeys.P256(1)
		tmpl.AuthorityKeyId = nil
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, f.issuerFor(signer), pub, signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	f.issued[csr.Digest()] = cert
	return cert, nil
}

func (f *fakeCA) Find(_ context.Context, q ca.Query) (*ca.Issued, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, ca.ErrUnavailable
	}
	if f.search != nil {
		return nil, f.search
	}
	if cert, ok := f.issued[q.CSRDigest]; ok {
		return &ca.Issued{Certificate: cert}, nil
	}
	return nil, ca.ErrNotFound
}

func (f *fakeCA) Collect(_ context.Context, id string) (*ca.Issued, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.parked[id]
	switch {
	case f.down:
		return nil, ca.ErrUnavailable
	case !ok:
		return nil, ca.ErrNotFound
	case p.denied:
		return nil, &ca.Denied{HResult: ca.HResultAdminDenied, Text: "denied by a person"}
	case !p.approved:
		return nil, &ca.Pending{RequestID: id}
	}
	cert, err := f.sign(p.req.CSR)
	if err != nil {
		return nil, err
	}
	return &ca.Issued{Certificate: cert, RequestID: id}, nil
}

func (f *fakeCA) Revoke(_ context.Context, serial *big.Int, reason ca.Reason) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked[serial.String()] = reason
	return nil
}

func (f *fakeCA) Check(_ context.Context, serial *big.Int) (ca.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, cert := range f.issued {
		if cert.SerialNumber.Cmp(serial) == 0 {
			reason, revoked := f.revoked[serial.String()]
			return ca.Status{Revoked: revoked, Reason: reason, Certificate: cert}, nil
		}
	}
	return ca.Status{}, ca.ErrNotFound
}

// blindCA is a CA that cannot be searched.
type blindCA struct{ core *fakeCA }

func (b blindCA) Chain(ctx context.Context) ([]*x509.Certificate, error) { return b.core.Chain(ctx) }
func (b blindCA) Issue(ctx context.Context, r ca.Request) (*ca.Issued, error) {
	return b.core.Issue(ctx, r)
}
func (b blindCA) Revoke(ctx context.Context, serial *big.Int, reason ca.Reason) error {
	return b.core.Revoke(ctx, serial, reason)
}
