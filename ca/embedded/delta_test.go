package embedded_test

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

var (
	oidDeltaIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidFreshest       = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// publishingCA has all addresses; its key and root are those of fixedCA.
func publishingCA(t testing.TB, at *clock, change func(*embedded.Config)) (*embedded.CA, *catest.Register) {
	t.Helper()
	reg := catest.NewRegister()
	key := testkeys.P256(1)
	cfg := embedded.Config{
		Name: "lab", Key: key, Chain: []*x509.Certificate{rootOf(t, key, at.at.Add(-time.Hour), at.at.Add(3650*day))},
		Register: reg, Clock: at.now,
		CRLURLs: []string{"http://pki.contoso.example/ca.crl"}, DeltaCRLURLs: []string{"http://pki.contoso.example/ca+.crl"},
		OCSPURLs: []string{"http://pki.contoso.example/ocsp"}, IssuerURLs: []string{"http://pki.contoso.example/ca.cer"},
	}
	if change != nil {
		change(&cfg)
	}
	return mustOpen(t, cfg), reg
}

func issueOne(t *testing.T, authority *embedded.CA) *x509.Certificate {
	t.Helper()
	got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{}), Validity: 100 * day})
	if err != nil {
		t.Fatal(err)
	}
	return got.Certificate
}

func issueRevoked(t *testing.T, authority *embedded.CA) *big.Int {
	t.Helper()
	serial := issueOne(t, authority).SerialNumber
	if err := authority.Revoke(t.Context(), serial, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	return serial
}

// currentDelta returns the delta list and the number of the list it completes.
func currentDelta(t *testing.T, authority *embedded.CA) (*x509.RevocationList, int64) {
	t.Helper()
	der, err := authority.DeltaCRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Extensions {
		if e.Id.Equal(oidDeltaIndicator) {
			var base int64
			if _, err := asn1.Unmarshal(e.Value, &base); err != nil || !e.Critical {
				t.Fatalf("delta CRL indicator: critical %t, %v", e.Critical, err)
			}
			return list, base
		}
		if e.Id.Equal(oidFreshest) {
			t.Error("a delta list has a freshest CRL, which RFC 5280, section 5.2.6, forbids")
		}
	}
	t.Fatal("no delta CRL indicator")
	return nil, 0
}

func wantDelta(t *testing.T, authority *embedded.CA, number, base int64, entries int) {
	t.Helper()
	list, of := currentDelta(t, authority)
	if list.Number.Int64() != number || of != base || len(list.RevokedCertificateEntries) != entries {
		t.Errorf("delta list %v of %d with %d entries, want %d of %d with %d", list.Number, of, len(list.RevokedCertificateEntries), number, base, entries)
	}
}

func wantFull(t *testing.T, authority *embedded.CA, number int64, entries int) {
	t.Helper()
	list := currentCRL(t, authority)
	if list.Number.Int64() != number || len(list.RevokedCertificateEntries) != entries {
		t.Errorf("full list %v with %d entries, want %d with %d", list.Number, len(list.RevokedCertificateEntries), number, entries)
	}
}

func TestDeltaList(t *testing.T) {
	at := startOf2031()
	authority, _ := publishingCA(t, at, nil)
	wantFull(t, authority, 1, 0)
	wantDelta(t, authority, 1, 1, 0)

	// A revocation is on both at once; one number, the same information.
	issueRevoked(t, authority)
	wantFull(t, authority, 2, 1)
	wantDelta(t, authority, 2, 1, 1)

	// Half of the delta list's life is over: it alone is made anew.
	at.at = at.at.Add(12 * time.Hour)
	wantDelta(t, authority, 3, 1, 1)
	wantFull(t, authority, 2, 1)

	// Half of the full list's life is over. List 2 is valid for days, so the
	// delta list still completes the lists from 1 on.
	at.at = at.at.Add(3 * day)
	wantFull(t, authority, 4, 1)
	wantDelta(t, authority, 4, 1, 1)
	issueRevoked(t, authority)
	wantDelta(t, authority, 5, 1, 2)

	// Every list before 4 has ended: the delta list forgets them.
	at.at = at.at.Add(7 * day)
	wantFull(t, authority, 6, 2)
	wantDelta(t, authority, 6, 4, 1)
}

func TestDeltaListAfterRestart(t *testing.T) {
	at := startOf2031()
	authority, reg := publishingCA(t, at, nil)
	issueRevoked(t, authority)
	wantDelta(t, authority, 1, 1, 0)
	// What a stopped process made is not remembered: the sequence goes on, and
	// the delta list names the new full list.
	again, _ := publishingCA(t, at, func(cfg *embedded.Config) { cfg.Register = reg.Restart() })
	wantDelta(t, again, 2, 2, 0)
	wantFull(t, again, 2, 1)
}

func TestNoDeltaListWithoutAddress(t *testing.T) {
	authority, _ := fixedCA(t, startOf2031())
	if _, err := authority.DeltaCRL(t.Context()); !errors.Is(err, ca.ErrNotFound) {
		t.Errorf("DeltaCRL: %v, want ErrNotFound", err)
	}
	for _, e := range currentCRL(t, authority).Extensions {
		if e.Id.Equal(oidFreshest) {
			t.Error("the full list points to a delta list that nobody makes")
		}
	}
}

func TestListConfiguration(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  embedded.Config
	}{
		{"delta list outlives the full one", embedded.Config{CRLValidity: time.Hour, DeltaCRLValidity: 2 * time.Hour}},
		{"delta list of a second", embedded.Config{DeltaCRLValidity: time.Second}},
		{"delta list without a full one", embedded.Config{DeltaCRLURLs: []string{"http://a.example/d.crl"}}},
		{"delta list at no URL", embedded.Config{CRLURLs: []string{"http://a.example/c.crl"}, DeltaCRLURLs: []string{"d.crl"}}},
	} {
		c.cfg.Name, c.cfg.Register, c.cfg.Key = "lab", catest.NewRegister(), testkeys.P256(1)
		c.cfg.Chain = []*x509.Certificate{rootOf(t, testkeys.P256(1), time.Now(), time.Now().Add(day))}
		if _, err := embedded.Open(c.cfg); err == nil {
			t.Errorf("%s: opened", c.name)
		}
	}
}

func TestAddressesInCertificates(t *testing.T) {
	authority, _ := publishingCA(t, startOf2031(), nil)
	cert := issueOne(t, authority)
	if len(cert.CRLDistributionPoints) != 1 || len(cert.OCSPServer) != 1 || len(cert.IssuingCertificateURL) != 1 {
		t.Errorf("addresses %v, %v, %v", cert.CRLDistributionPoints, cert.OCSPServer, cert.IssuingCertificateURL)
	}
	freshest := extensionOf(cert, oidFreshest)
	if !strings.Contains(string(freshest.Value), "http://pki.contoso.example/ca+.crl") || freshest.Critical {
		t.Errorf("freshest CRL %q, critical %t", freshest.Value, freshest.Critical)
	}
}

// TestOpenSSLUsesTheDelta has openssl combine an old full list with the delta
// list, as a relying party does that keeps the full one.
func TestOpenSSLUsesTheDelta(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: install the package openssl")
	}
	at := &clock{time.Now()}
	authority, _ := publishingCA(t, at, nil)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	chain, err := authority.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, path("root.pem"), chain[0])
	writeList := func(name string, list *x509.RevocationList) {
		if err := os.WriteFile(path(name), list.Raw, 0o600); err != nil {
			t.Fatal(err)
		}
		text := openssl(t, "crl", "-inform", "DER", "-in", path(name), "-CAfile", path("root.pem"), "-text", "-out", path(name+".pem"))
		if !strings.Contains(text, "verify OK") {
			t.Errorf("%s: %s", name, text)
		}
	}
	leaf := issueOne(t, authority)
	writePEM(t, path("leaf.pem"), leaf)
	writeList("full.crl", currentCRL(t, authority))
	if err := authority.Revoke(t.Context(), leaf.SerialNumber, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	delta, _ := currentDelta(t, authority)
	writeList("delta.crl", delta)

	check := []string{"verify", "-crl_check", "-CAfile", path("root.pem"), "-CRLfile", path("full.crl.pem")}
	openssl(t, append(check, path("leaf.pem"))...)
	check = append(check, "-extended_crl", "-use_deltas", "-CRLfile", path("delta.crl.pem"), path("leaf.pem"))
	out, err := exec.CommandContext(t.Context(), "openssl", check...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "certificate revoked") {
		t.Errorf("openssl does not see the revocation in the delta list: %v\n%s", err, out)
	}
}
