package catest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/testkeys"
)

type runner func(name string, test func(t *testing.T, b *Bridge))

func (s *suite) runIssue(run runner) {
	run("certificate says what the request asks for", s.issue)
	run("names are kept byte for byte", s.names)
	run("elliptic-curve key is certified as it came", s.ellipticKey)
	run("asking to be a CA yields none", s.noCA)
	run("key usages of a CA or a notary are not granted", s.noGreatUsages)
	if s.KeepsValidity {
		run("validity is the wish within the cap", s.validity)
	}
}

func (s *suite) issue(t *testing.T, b *Bridge) {
	req, got := mustIssue(t, b, CSROptions{})
	checkAgainst(t, b, req, got)
	cert := got.Certificate
	if want := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment; cert.KeyUsage != want {
		t.Errorf("key usage %b, want %b", cert.KeyUsage, want)
	}
	if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || len(cert.UnknownExtKeyUsage) > 0 {
		t.Errorf("extended key usages %v %v, want clientAuth alone", cert.ExtKeyUsage, cert.UnknownExtKeyUsage)
	}
}

// checkAgainst checks what holds for every certificate of every bridge.
func checkAgainst(t *testing.T, b *Bridge, req ca.Request, got *ca.Issued) {
	t.Helper()
	cert, now := got.Certificate, b.now()
	if again, err := x509.ParseCertificate(cert.Raw); err != nil || !again.Equal(cert) {
		t.Errorf("the certificate's own bytes do not read back: %v", err)
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, req.CSR.RawSubjectPublicKeyInfo) {
		t.Error("the certificate has another public key")
	}
	if !bytes.Equal(cert.RawSubject, req.CSR.RawSubject) {
		t.Errorf("subject\n%x, want\n%x", cert.RawSubject, req.CSR.RawSubject)
	}
	if san := extension(cert, oidSAN); !bytes.Equal(san, req.CSR.RawSAN) {
		t.Errorf("subjectAltName\n%x, want\n%x", san, req.CSR.RawSAN)
	}
	if cert.IsCA || cert.SerialNumber.Sign() <= 0 || len(cert.SerialNumber.Bytes()) > 20 {
		t.Errorf("CA %t, serial number %X", cert.IsCA, cert.SerialNumber)
	}
	if cert.NotBefore.After(now) || !cert.NotAfter.After(now) {
		t.Errorf("valid from %v to %v, but it is %v", cert.NotBefore, cert.NotAfter, now)
	}
	chain, err := b.Authority.Chain(t.Context())
	if err != nil {
		t.Fatalf("Chain: %v", err)
	}
	if err := cert.CheckSignatureFrom(chain[0]); err != nil {
		t.Errorf("not issued by the first certificate of the chain: %v", err)
	}
}

// extension returns the octets of an extension, nil when absent.
func extension(cert *x509.Certificate, oid asn1.ObjectIdentifier) []byte {
	for _, e := range cert.Extensions {
		if e.Id.Equal(oid) {
			return e.Value
		}
	}
	return nil
}

func (s *suite) names(t *testing.T, b *Bridge) {
	req, got := mustIssue(t, b, CSROptions{RawSubject: OddSubject(t), RawSAN: OddSAN(t)})
	checkAgainst(t, b, req, got)
}

func (s *suite) ellipticKey(t *testing.T, b *Bridge) {
	req, got := mustIssue(t, b, CSROptions{Key: testkeys.P256(0), KeyUsage: x509.KeyUsageDigitalSignature})
	checkAgainst(t, b, req, got)
	if got.Certificate.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("key usage %b, want digitalSignature", got.Certificate.KeyUsage)
	}
}

func (s *suite) noCA(t *testing.T, b *Bridge) {
	wish := basicConstraints(t)
	req := ca.Request{CSR: NewCSR(t, CSROptions{Extra: wish}), Template: b.Templates.Issue}
	got, err := b.Authority.Issue(t.Context(), req)
	if _, denied := errors.AsType[*ca.Denied](err); denied {
		return // refusing is as good
	}
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	checkAgainst(t, b, req, got)
}

func (s *suite) noGreatUsages(t *testing.T, b *Bridge) {
	great := x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageContentCommitment
	req := ca.Request{CSR: NewCSR(t, CSROptions{KeyUsage: great | x509.KeyUsageDigitalSignature}), Template: b.Templates.Issue}
	got, err := b.Authority.Issue(t.Context(), req)
	if _, denied := errors.AsType[*ca.Denied](err); denied {
		return
	}
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	if got.Certificate.KeyUsage&great != 0 {
		t.Errorf("key usage %b has bits that a device must not have", got.Certificate.KeyUsage)
	}
}

func (s *suite) validity(t *testing.T, b *Bridge) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name             string
		wish, limit, max time.Duration
	}{
		{"wish is kept", 20 * day, 0, 20 * day},
		{"decision caps the wish", 20 * day, 3 * day, 3 * day},
		{"decision caps the template", 0, 3 * day, 3 * day},
		{"wish below the decision's cap is kept", 2 * day, 3 * day, 2 * day},
	} {
		req := ca.Request{CSR: NewCSR(t, CSROptions{}), Template: b.Templates.Issue, Validity: c.wish, MaxValidity: c.limit}
		got, err := b.Authority.Issue(t.Context(), req)
		if err != nil {
			t.Fatalf("%s: Issue: %v", c.name, err)
		}
		// Back-dating may take an hour of the life or add one to it.
		life := got.Certificate.NotAfter.Sub(b.now())
		if life > c.max+time.Minute || life < c.max-time.Hour {
			t.Errorf("%s: certificate lives %v from now, want %v", c.name, life, c.max)
		}
	}
}

func (s *suite) cancelled(t *testing.T, b *Bridge) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := ca.Request{CSR: NewCSR(t, CSROptions{}), Template: b.Templates.Issue}
	_, err := b.Authority.Issue(ctx, req)
	wantError(t, err, ca.ErrUnavailable)
	if f, ok := ability[ca.Finder](b.Authority); ok {
		_, err := f.Find(t.Context(), queryFor(b, req))
		wantError(t, err, ca.ErrNotFound)
	}
}

func (s *suite) manyAtOnce(t *testing.T, b *Bridge) {
	const many = 64
	var wg sync.WaitGroup
	keys := []crypto.Signer{testkeys.P256(0), testkeys.P256(1)}
	requests := make([]ca.Request, many)
	for i := range requests {
		o := CSROptions{Key: keys[i%len(keys)], KeyUsage: x509.KeyUsageDigitalSignature}
		requests[i] = ca.Request{CSR: NewCSR(t, o), Template: b.Templates.Issue}
	}
	issued, errs := make([]*ca.Issued, many), make([]error, many)
	for i, req := range requests {
		wg.Go(func() { issued[i], errs[i] = b.Authority.Issue(t.Context(), req) })
	}
	wg.Wait()
	serials := map[string]bool{}
	for i, got := range issued {
		if errs[i] != nil {
			t.Fatalf("request %d: %v", i, errs[i])
		}
		checkAgainst(t, b, requests[i], got)
		serials[got.Certificate.SerialNumber.Text(16)] = true
	}
	if len(serials) != many {
		t.Errorf("%d serial numbers for %d certificates", len(serials), many)
	}
}
