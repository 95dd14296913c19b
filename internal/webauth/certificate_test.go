package webauth_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/internal/webauth"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

// signed makes a certificate that an issuer signed, itself where that is nil.
func signed(t *testing.T, c, issuer *x509.Certificate, key crypto.Signer, issuerKey crypto.Signer) *x509.Certificate {
	t.Helper()
	if c.SerialNumber == nil {
		c.SerialNumber = big.NewInt(1)
	}
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = now.AddDate(0, -1, 0), now.AddDate(1, 0, 0)
	}
	if issuer == nil {
		issuer = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func authority(t *testing.T, name string, key crypto.Signer) *x509.Certificate {
	return signed(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, key, key)
}

var clientAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}

func ruleOf(err error) string {
	if refusal, ok := errors.AsType[*webauth.Refusal](err); ok {
		return refusal.Rule
	}
	return ""
}

func TestCertificateRules(t *testing.T) {
	rootKey, otherKey, key := testkeys.P256(0), testkeys.RSA2048(0), testkeys.P256(1)
	root, other := authority(t, "Root", rootKey), authority(t, "Other Root", otherKey)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	hosts := func(names ...string) *x509.Certificate {
		return &x509.Certificate{DNSNames: names, ExtKeyUsage: clientAuth}
	}
	common := func(cn string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: cn}, ExtKeyUsage: clientAuth}
	}
	with := func(c *x509.Certificate, change func(*x509.Certificate)) *x509.Certificate {
		change(c)
		return c
	}
	for _, row := range []struct {
		name    string
		cert    *x509.Certificate // nil: none is shown
		byOther bool              // signed by a root that is not configured
		rule    string            // "": identified as front1
	}{
		{"a DNS name that is configured", hosts("ndes1.corp.example"), false, ""},
		{"letter case does not matter", hosts("NDES1.Corp.Example"), false, ""},
		{"one of several DNS names", hosts("ndes.example", "ndes1.corp.example"), false, ""},
		{"none shown", nil, false, webauth.RuleMissing},
		{"expired", with(hosts("ndes1.corp.example"), func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = now.AddDate(-1, 0, 0), now.Add(-time.Second)
		}), false, webauth.RuleExpired},
		{"not valid yet", with(hosts("ndes1.corp.example"), func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = now.Add(time.Second), now.AddDate(1, 0, 0)
		}), false, webauth.RuleExpired},
		{"another root", hosts("ndes1.corp.example"), true, webauth.RuleUntrusted},
		{"no extended key usage", &x509.Certificate{DNSNames: []string{"ndes1.corp.example"}}, false, webauth.RuleUsage},
		{"server authentication only", with(hosts("ndes1.corp.example"), func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), false, webauth.RuleUsage},
		{"any usage does not say client authentication", with(hosts("ndes1.corp.example"), func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		}), false, webauth.RuleUsage},
		{"both usages in one certificate", with(hosts("ndes1.corp.example"), func(c *x509.Certificate) {
			c.ExtKeyUsage = append([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, clientAuth...)
		}), false, ""},
		{"another DNS name", hosts("ndes9.corp.example"), false, webauth.RuleName},
		{"a common name without subjectAltName", common("ndes1.corp.example"), false, ""},
		{"another common name", common("ndes9.corp.example"), false, webauth.RuleName},
		{"no name at all", common(""), false, webauth.RuleName},
		{"a common name beside another DNS name", with(common("ndes1.corp.example"), func(c *x509.Certificate) {
			c.DNSNames = []string{"phone7.corp.example"}
		}), false, webauth.RuleName},
		{"a common name beside a subjectAltName without DNS names", with(common("ndes1.corp.example"), func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "urn", Opaque: "device:7"}}
		}), false, webauth.RuleName},
		{"a Kelvin sign is no k", common("\u212aiosk.corp.example"), false, webauth.RuleName},
		{"a wildcard identifies no host", hosts("*.corp.example"), false, webauth.RuleName},
		{"a wildcard common name identifies no host", common("*.corp.example"), false, webauth.RuleName},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := webauth.Certificates{Roots: roots, Clock: clock, Clients: []webauth.Client{
				{Name: "front1", DNSName: "ndes1.corp.example"},
				{Name: "kiosk", DNSName: "kiosk.corp.example"},
				{Name: "a mistake", DNSName: "*.corp.example"},
				{Name: "another mistake"},
			}}
			state := &tls.ConnectionState{}
			if row.cert != nil {
				issuer, issuerKey := root, crypto.Signer(rootKey)
				if row.byOther {
					issuer, issuerKey = other, otherKey
				}
				state.PeerCertificates = []*x509.Certificate{signed(t, row.cert, issuer, key, issuerKey)}
			}
			name, err := c.Identify(state)
			switch {
			case row.rule == "" && (err != nil || name != "front1"):
				t.Errorf("identified as %q, error %v", name, err)
			case row.rule != "" && (ruleOf(err) != row.rule || name != ""):
				t.Errorf("identified as %q, error %v; want the rule %s", name, err, row.rule)
			case err != nil && !strings.Contains(err.Error(), row.rule):
				t.Errorf("the error %q does not name its rule", err)
			}
		})
	}
}

func TestNoConnectionAndNoRoots(t *testing.T) {
	c := webauth.Certificates{Clients: []webauth.Client{{Name: "front1", DNSName: "ndes1.corp.example"}}}
	if _, err := c.Identify(nil); ruleOf(err) != webauth.RuleMissing {
		t.Errorf("without TLS: %v", err)
	}
	key := testkeys.P256(0)
	self := signed(t, &x509.Certificate{
		DNSNames: []string{"ndes1.corp.example"}, ExtKeyUsage: clientAuth, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, nil, key, key)
	// Without roots, crypto/x509 would ask the system's.
	if _, err := c.Identify(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{self}}); ruleOf(err) != webauth.RuleUntrusted {
		t.Errorf("without roots: %v", err)
	}
}

func TestPins(t *testing.T) {
	rootKey := testkeys.P256(0)
	root := authority(t, "Root", rootKey)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	leaf := func(serial int64) *x509.Certificate {
		return signed(t, &x509.Certificate{
			SerialNumber: big.NewInt(serial), DNSNames: []string{"ndes.corp.example"}, ExtKeyUsage: clientAuth,
		}, root, testkeys.P256(1), rootKey)
	}
	first, second, third := leaf(1), leaf(2), leaf(3)
	pin := func(c *x509.Certificate) [][32]byte { return [][32]byte{sha256.Sum256(c.Raw)} }
	one := webauth.Client{Name: "one", DNSName: "ndes.corp.example", Pins: pin(first)}
	two := webauth.Client{Name: "two", DNSName: "ndes.corp.example", Pins: pin(second)}
	anyone := webauth.Client{Name: "anyone", DNSName: "ndes.corp.example"}
	for _, row := range []struct {
		name    string
		clients []webauth.Client
		cert    *x509.Certificate
		want    string // "": refused by the pin
	}{
		{"the pinned certificate", []webauth.Client{one}, first, "one"},
		{"another certificate of that name", []webauth.Client{one}, third, ""},
		{"two clients of one name, the first", []webauth.Client{one, two}, first, "one"},
		{"two clients of one name, the second", []webauth.Client{one, two}, second, "two"},
		{"two clients of one name, neither", []webauth.Client{one, two}, third, ""},
		{"a pin goes before a name alone", []webauth.Client{anyone, two}, second, "two"},
		{"a name alone where no pin fits", []webauth.Client{anyone, two}, third, "anyone"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := webauth.Certificates{Roots: roots, Clock: clock, Clients: row.clients}
			name, err := c.Identify(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{row.cert}})
			if name != row.want || (row.want == "") != (ruleOf(err) == webauth.RulePin) {
				t.Errorf("identified as %q, error %v; want %q", name, err, row.want)
			}
		})
	}
}

func TestIntermediatesComeFromTheClient(t *testing.T) {
	rootKey, betweenKey := testkeys.P256(0), testkeys.RSA2048(1)
	root := authority(t, "Root", rootKey)
	between := signed(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Issuing"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, root, betweenKey, rootKey)
	leaf := signed(t, &x509.Certificate{DNSNames: []string{"ndes1.corp.example"}, ExtKeyUsage: clientAuth}, between, testkeys.P256(1), betweenKey)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	c := webauth.Certificates{Roots: roots, Clock: clock, Clients: []webauth.Client{{Name: "front1", DNSName: "ndes1.corp.example"}}}
	if name, err := c.Identify(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf, between}}); err != nil || name != "front1" {
		t.Errorf("with its intermediate: %q, %v", name, err)
	}
	if _, err := c.Identify(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}); ruleOf(err) != webauth.RuleUntrusted {
		t.Errorf("without its intermediate: %v", err)
	}
}

func TestCheckClients(t *testing.T) {
	pin := func(b byte) [][32]byte { return [][32]byte{{b}} }
	for _, row := range []struct {
		name    string
		clients []webauth.Client
		want    string // in the error; "": none
	}{
		{"none", nil, ""},
		{"two names", []webauth.Client{{Name: "a", DNSName: "a.example"}, {Name: "b", DNSName: "b.example"}}, ""},
		{"one name, two pins", []webauth.Client{{Name: "a", DNSName: "x.example", Pins: pin(1)}, {Name: "b", DNSName: "x.example", Pins: pin(2)}}, ""},
		{"one name, one pin", []webauth.Client{{Name: "a", DNSName: "x.example", Pins: pin(1)}, {Name: "b", DNSName: "X.example", Pins: pin(1)}}, "tells them apart"},
		{"one name, no pins", []webauth.Client{{Name: "a", DNSName: "x.example"}, {Name: "b", DNSName: "x.example"}}, "tells them apart"},
		{"one name, one with a pin", []webauth.Client{{Name: "a", DNSName: "x.example"}, {Name: "b", DNSName: "x.example", Pins: pin(1)}}, ""},
		{"no DNS name", []webauth.Client{{Name: "a"}}, "no dns_name"},
		{"a wildcard", []webauth.Client{{Name: "a", DNSName: "*.example"}}, "no host's name"},
		{"no name", []webauth.Client{{DNSName: "a.example"}}, "has no name"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := webauth.CheckClients(row.clients)
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one about %q", err, row.want)
			}
		})
	}
}
