// Package webauth tells who asks one of our web services: by client
// certificate over mutual TLS, or by name and password over TLS. There is no
// NTLM and no Negotiate: both can be relayed, and what is asked for here is
// worth relaying for.
package webauth

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Client is one caller that a certificate may identify.
type Client struct {
	Name    string     // what the caller is called here
	DNSName string     // the name that the certificate must have
	Pins    [][32]byte // SHA-256 of certificates; empty: any that the roots vouch for
}

// Certificates identifies callers by their certificates. The listener asks
// for one and verifies nothing, so that a refusal can say why.
type Certificates struct {
	Roots   *x509.CertPool
	Clients []Client
	Clock   func() time.Time // nil: time.Now
}

// The names of the rules, as they stand in answers and logs.
const (
	RuleMissing   = "client_certificate_missing"
	RuleExpired   = "client_certificate_expired"
	RuleUntrusted = "client_certificate_untrusted"
	RuleUsage     = "client_certificate_usage"
	RuleName      = "client_certificate_name"
	RulePin       = "client_certificate_pin"
)

// Refusal says which rule a caller's credential breaks. Detail is for the log.
type Refusal struct {
	Rule   string
	Detail string
}

// Error returns rule and detail.
func (r *Refusal) Error() string { return r.Rule + ": " + r.Detail }

// Identify returns the caller's configured name, or a *Refusal. The rules are
// those of NDES' registration point: the certificate chains to a configured
// root, is within its time, has the extended key usage Client Authentication,
// names the caller's host (subjectAltName, else the common name), and is
// pinned where pins are configured.
func (c *Certificates) Identify(state *tls.ConnectionState) (string, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return "", &Refusal{RuleMissing, "the caller showed no certificate"}
	}
	cert := state.PeerCertificates[0]
	now := time.Now()
	if c.Clock != nil {
		now = c.Clock()
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return "", &Refusal{RuleExpired, fmt.Sprintf("the certificate is good from %s to %s", cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))}
	}
	if err := c.trusted(state.PeerCertificates, now); err != nil {
		return "", err
	}
	return c.named(cert)
}

func (c *Certificates) trusted(chain []*x509.Certificate, now time.Time) error {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	// First without the usage: an untrusted chain and a wrong usage are mended
	// by different people.
	options := x509.VerifyOptions{Roots: c.Roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if c.Roots == nil {
		return &Refusal{RuleUntrusted, "no root is configured"}
	}
	if _, err := chain[0].Verify(options); err != nil {
		return &Refusal{RuleUntrusted, err.Error()}
	}
	options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := chain[0].Verify(options); err != nil || !slices.Contains(chain[0].ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return &Refusal{RuleUsage, "the certificate is not for Client Authentication (1.3.6.1.5.5.7.3.2)"}
	}
	return nil
}

// named finds the client that the certificate names.
func (c *Certificates) named(cert *x509.Certificate) (string, error) {
	pin := sha256.Sum256(cert.Raw)
	known := false
	for _, client := range c.Clients {
		if !hasName(cert, client.DNSName) {
			continue
		}
		known = true
		if len(client.Pins) == 0 || slices.Contains(client.Pins, pin) {
			return client.Name, nil
		}
	}
	if known {
		return "", &Refusal{RulePin, fmt.Sprintf("the certificate is none of those that are pinned; its SHA-256 is %X", pin)}
	}
	return "", &Refusal{RuleName, fmt.Sprintf("nobody is configured under the certificate's names %q (common name %q)", cert.DNSNames, cert.Subject.CommonName)}
}

// hasName compares with the DNS names, or with the common name where there
// are none. No wildcard: a certificate for many hosts identifies none.
func hasName(cert *x509.Certificate, name string) bool {
	names := cert.DNSNames
	if len(names) == 0 {
		names = []string{cert.Subject.CommonName}
	}
	return name != "" && slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}
