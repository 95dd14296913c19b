// Package webauth tells who asks one of our web services: by client
// certificate over mutual TLS, or by name and password over TLS. There is no
// NTLM and no Negotiate: both can be relayed, and what is asked for here is
// worth relaying for.
package webauth

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/forwarded"
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
	Rule       string
	Detail     string
	RetryAfter time.Duration // of RuleLimited: when trying again may help; else 0
}

// Error returns rule and detail.
func (r *Refusal) Error() string { return r.Rule + ": " + r.Detail }

// CheckClients says what is wrong with a list of clients: one without a name
// or a DNS name, a name with a wildcard, or two that one certificate would
// identify.
func CheckClients(clients []Client) error {
	var errs []error
	for i, c := range clients {
		switch {
		case c.Name == "":
			errs = append(errs, errors.New("a client has no name"))
		case c.DNSName == "":
			errs = append(errs, fmt.Errorf("client %q has no dns_name; give the host's name in its certificate", c.Name))
		case !isHost(c.DNSName):
			errs = append(errs, fmt.Errorf("client %q: %q is no host's name; one host in ASCII and no wildcard", c.Name, c.DNSName))
		}
		for _, other := range clients[:i] {
			if same(c, other) {
				errs = append(errs, fmt.Errorf("clients %q and %q have the DNS name %q and nothing that tells them apart; pin the certificate of each", other.Name, c.Name, c.DNSName))
			}
		}
	}
	return errors.Join(errs...)
}

// same reports whether there is a certificate that names either.
func same(a, b Client) bool {
	if !strings.EqualFold(a.DNSName, b.DNSName) {
		return false
	}
	return len(a.Pins) == 0 && len(b.Pins) == 0 ||
		slices.ContainsFunc(a.Pins, func(pin [32]byte) bool { return slices.Contains(b.Pins, pin) })
}

// IdentifyRequest is Identify with the certificates that the client showed, here
// or to a proxy that is trusted to hand them on.
func (c *Certificates) IdentifyRequest(r *http.Request) (string, error) {
	return c.Identify(&tls.ConnectionState{PeerCertificates: forwarded.ClientCertificates(r)})
}

// Identify returns the caller's configured name, or a *Refusal. The rules are
// those of NDES' registration point: the certificate chains to a configured
// root, is within its time, has the extended key usage Client Authentication,
// names the caller's host (subjectAltName, else the common name), and is
// pinned where pins are configured.
func (c *Certificates) Identify(state *tls.ConnectionState) (string, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return "", &Refusal{Rule: RuleMissing, Detail: "the caller showed no certificate"}
	}
	cert := state.PeerCertificates[0]
	now := time.Now()
	if c.Clock != nil {
		now = c.Clock()
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return "", &Refusal{Rule: RuleExpired, Detail: fmt.Sprintf("the certificate is good from %s to %s", cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))}
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
		return &Refusal{Rule: RuleUntrusted, Detail: "no root is configured"}
	}
	if _, err := chain[0].Verify(options); err != nil {
		return &Refusal{Rule: RuleUntrusted, Detail: err.Error()}
	}
	options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := chain[0].Verify(options); err != nil || !slices.Contains(chain[0].ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return &Refusal{Rule: RuleUsage, Detail: "the certificate is not for Client Authentication (1.3.6.1.5.5.7.3.2)"}
	}
	return nil
}

// named finds the client that the certificate names. A pin goes before a name
// alone, whatever the order of the configuration.
func (c *Certificates) named(cert *x509.Certificate) (string, error) {
	pin := sha256.Sum256(cert.Raw)
	var named, unpinned *Client
	for i, client := range c.Clients {
		if !hasName(cert, client.DNSName) {
			continue
		}
		if slices.Contains(client.Pins, pin) {
			return client.Name, nil
		}
		named = &c.Clients[i]
		if len(client.Pins) == 0 && unpinned == nil {
			unpinned = named
		}
	}
	switch {
	case unpinned != nil:
		return unpinned.Name, nil
	case named != nil:
		return "", &Refusal{Rule: RulePin, Detail: fmt.Sprintf("the certificate is none of those that are pinned; its SHA-256 is %X", pin)}
	}
	return "", &Refusal{Rule: RuleName, Detail: fmt.Sprintf("nobody is configured under the certificate's names %.300q (common name %.100q)", cert.DNSNames, cert.Subject.CommonName)}
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// hasName compares with the DNS names, or with the common name of a
// certificate without subjectAltName, as old NDES servers have. No wildcard: a
// certificate for many hosts identifies none.
func hasName(cert *x509.Certificate, name string) bool {
	names := cert.DNSNames
	if !slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSubjectAltName) }) {
		names = []string{cert.Subject.CommonName}
	}
	return isHost(name) && slices.ContainsFunc(names, func(n string) bool { return isHost(n) && strings.EqualFold(n, name) })
}

// isHost reports whether a text may name one host. Only ASCII: beyond it there
// are letters that fold to those of another name.
func isHost(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '*' || r >= 0x7f })
}
