package embedded

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// RAPurpose is what a registration authority's certificate is for. Devices
// tell them apart by the key usage alone.
type RAPurpose string

// NDES has two certificates, one that signs replies and one that devices
// encrypt to; a combined one does both.
const (
	RASigning    RAPurpose = "signing"
	RAEncryption RAPurpose = "encryption"
	RACombined   RAPurpose = "combined"
)

const (
	raValidity  = 2 * 365 * day // as the templates of NDES
	tlsValidity = 397 * day     // browsers and Apple devices refuse more
)

func (p RAPurpose) keyUsage() (x509.KeyUsage, error) {
	switch p {
	case RASigning:
		return x509.KeyUsageDigitalSignature, nil
	case RAEncryption:
		return x509.KeyUsageKeyEncipherment, nil
	case RACombined:
		return x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, nil
	}
	return 0, fmt.Errorf("unknown purpose %q of a registration authority's certificate", p)
}

// IssueRA makes a certificate for the connector itself as a registration
// authority: critical key usage, extended key usage Certificate Request Agent,
// two years or what is left of the CA. The key must be RSA, whatever the CA's
// is: Apple devices encrypt to nothing else.
func (c *CA) IssueRA(ctx context.Context, purpose RAPurpose, key crypto.PublicKey, subject pkix.Name) (*x509.Certificate, error) {
	usage, err := purpose.keyUsage()
	if err != nil {
		return nil, err
	}
	if k, ok := key.(*rsa.PublicKey); !ok || k.N.BitLen() < minRSABits {
		return nil, fmt.Errorf("a registration authority needs an RSA key of at least %d bits", minRSABits)
	}
	if len(subject.ToRDNSequence()) == 0 {
		return nil, errors.New("a registration authority's certificate needs a subject")
	}
	d := draft{keyUsage: usage, extKeyUsage: []asn1.ObjectIdentifier{OIDCertificateRequestAgent}}
	return c.issueOwn(ctx, d, key, subject, raValidity)
}

// IssueTLS makes a server certificate for host names (also with a leading
// "*.") and IP addresses, 397 days or what is left of the CA.
func (c *CA) IssueTLS(ctx context.Context, hosts []string, key crypto.PublicKey) (*x509.Certificate, error) {
	d := draft{extKeyUsage: []asn1.ObjectIdentifier{OIDServerAuth}}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("a TLS server needs an RSA key of at least %d bits", minRSABits)
		}
		d.keyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	case *ecdsa.PublicKey:
		d.keyUsage = x509.KeyUsageDigitalSignature
	default:
		return nil, fmt.Errorf("a TLS server's key must be RSA or ECDSA, not %T", key)
	}
	var subject pkix.Name
	var err error
	if d.san, subject.CommonName, err = hostNames(hosts); err != nil {
		return nil, err
	}
	return c.issueOwn(ctx, d, key, subject, tlsValidity)
}

// issueOwn finishes, signs and records a certificate of the connector's own.
func (c *CA) issueOwn(ctx context.Context, d draft, key crypto.PublicKey, subject pkix.Name, validity time.Duration) (*x509.Certificate, error) {
	var err error
	if d.spki, err = x509.MarshalPKIXPublicKey(key); err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	if d.subject, err = asn1.Marshal(subject.ToRDNSequence()); err != nil {
		return nil, fmt.Errorf("encoding the subject: %w", err)
	}
	d.issuedAt = c.clock()
	if d.notBefore, d.notAfter, err = c.life(d.issuedAt, validity, validity, defaultBackDate); err != nil {
		return nil, err
	}
	row, cert, err := c.sign(ctx, d)
	if err != nil {
		return nil, err
	}
	if err := c.register.AddCertificate(ctx, c.name, row); err != nil {
		return nil, unrecorded(err)
	}
	return cert, nil
}

// maxCommonName is the upper bound of RFC 5280, appendix A.1.
const maxCommonName = 64

// hostNames encodes subjectAltName and chooses the common name: the first that
// fits, for people who read certificates.
func hostNames(hosts []string) (san []byte, commonName string, err error) {
	if len(hosts) == 0 {
		return nil, "", errors.New("a TLS certificate needs a host name or an IP address")
	}
	b := cryptobyte.NewBuilder(nil)
	addSequence(b, func(b *cryptobyte.Builder) {
		for _, host := range hosts {
			tag, value, hostErr := generalName(host)
			if hostErr != nil {
				err = errors.Join(err, hostErr)
				continue
			}
			if commonName == "" && len(host) <= maxCommonName {
				commonName = host
			}
			b.AddASN1(cbasn1.Tag(tag).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(value) })
		}
	})
	der, encodeErr := b.Bytes()
	return der, commonName, errors.Join(err, encodeErr)
}

// generalName is an iPAddress (7) or a dNSName (2). International names are
// given in their ASCII form, "xn--…".
func generalName(host string) (tag uint8, value []byte, err error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return 7, ip.Unmap().WithZone("").AsSlice(), nil
	}
	if !isHostName(strings.TrimPrefix(host, "*.")) {
		return 0, nil, fmt.Errorf("%q is neither a host name in ASCII nor an IP address", host)
	}
	return 2, []byte(host), nil
}

// isHostName checks labels of letters, digits and hyphens (RFC 1123, section 2.1).
func isHostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return false
			}
		}
	}
	return true
}

// Signer returns the certificate that signs responses for a CA at present, for
// an inventory; nil: there is none, or no such CA.
func (r *Responder) Signer(ca string) *x509.Certificate {
	for _, desk := range r.desks {
		if s := desk.current(); desk.ca.name == ca && s != nil {
			return s.cert
		}
	}
	return nil
}
