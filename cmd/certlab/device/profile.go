// Package device is an emulated device: it makes a key and a request as its
// profile says, speaks SCEP with the quirks and the patience of its platform,
// and keeps what it got in a folder, so that it can renew it later.
package device

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// Profile is what a device puts into its request.
type Profile struct {
	Subject  string   // as "CN=laptop,O=Contoso"
	DNS      []string // subject alternative names, by kind
	Email    []string
	UPN      []string
	URI      []string
	KeyUsage x509.KeyUsage // 0: the request names none
	EKU      []string      // dotted, or a name that EKU knows
	KeySize  int           // bits of RSA; 0: 2048
	Validity time.Duration // wish in whole days; 0: none

	Challenge secret.Text
}

// Profiled is the profile that a cloud hands out with a challenge.
func Profiled(c intunetest.Challenge) Profile {
	p := Profile{
		Subject: c.Subject, DNS: c.SAN.DNS, Email: c.SAN.Email, UPN: c.SAN.UPN, URI: c.SAN.URI,
		KeyUsage: x509.KeyUsage(c.KeyUsage), EKU: c.EKU, KeySize: c.KeySize, Challenge: secret.Text(c.Challenge),
	}
	if c.ValidityUnit == "Days" {
		p.Validity = time.Duration(c.Validity) * 24 * time.Hour
	}
	return p
}

// CSR returns the request of the profile.
func (p Profile) CSR() (scepclient.CSR, error) {
	csr := scepclient.CSR{
		DNSNames: p.DNS, Emails: p.Email, UPNs: p.UPN,
		KeyUsage: p.KeyUsage, Challenge: p.Challenge, Validity: p.Validity,
	}
	var err error
	if csr.RawSubject, err = Subject(p.Subject); err != nil {
		return csr, err
	}
	for _, text := range p.URI {
		u, err := url.Parse(text)
		if err != nil {
			return csr, fmt.Errorf("uri: %w", err)
		}
		csr.URIs = append(csr.URIs, u)
	}
	for _, name := range p.EKU {
		id, err := EKU(name)
		if err != nil {
			return csr, err
		}
		csr.ExtKeyUsage = append(csr.ExtKeyUsage, id)
	}
	return csr, nil
}

// ekus are the extended key usages with a name (RFC 5280, section 4.2.1.12).
var ekus = map[string]asn1.ObjectIdentifier{
	"serverauth":      {1, 3, 6, 1, 5, 5, 7, 3, 1},
	"clientauth":      {1, 3, 6, 1, 5, 5, 7, 3, 2},
	"codesigning":     {1, 3, 6, 1, 5, 5, 7, 3, 3},
	"emailprotection": {1, 3, 6, 1, 5, 5, 7, 3, 4},
	"ipsecike":        {1, 3, 6, 1, 5, 5, 7, 3, 17},
	"any":             {2, 5, 29, 37, 0},
}

// EKU reads an extended key usage: a name in any case, or dotted numbers.
func EKU(name string) (asn1.ObjectIdentifier, error) {
	if id, ok := ekus[strings.ToLower(name)]; ok {
		return id, nil
	}
	var id asn1.ObjectIdentifier
	for part := range strings.SplitSeq(name, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("extended key usage %q is neither dotted numbers nor one of clientAuth, serverAuth, codeSigning, emailProtection, ipsecIKE, any", name)
		}
		id = append(id, n)
	}
	if len(id) < 2 {
		return nil, fmt.Errorf("extended key usage %q has fewer than two numbers", name)
	}
	return id, nil
}

// usages are the names of RFC 5280, section 4.2.1.3, in the order of their
// bits, which is that of x509.KeyUsage.
var usages = []string{
	"digitalsignature", "contentcommitment", "keyencipherment", "dataencipherment", "keyagreement",
	"keycertsign", "crlsign", "encipheronly", "decipheronly",
}

// KeyUsage reads key usages by name, in any case.
func KeyUsage(names []string) (x509.KeyUsage, error) {
	var u x509.KeyUsage
	for _, name := range names {
		i := slices.Index(usages, strings.ToLower(name))
		if i < 0 {
			return 0, fmt.Errorf("key usage %q is unknown, want one of %s", name, strings.Join(usages, ", "))
		}
		u |= 1 << i
	}
	return u, nil
}
