// Package certfiles reads certificates in the forms in which CAs hand them out
// (PEM, DER, PKCS #7, and Microsoft's PKCS #7 that calls itself a certificate)
// and puts a chain into order. What it reads is not believed: it compares
// keys and names, and verifies the signatures within a chain.
package certfiles

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/durable"
)

const (
	maxFile         = 1 << 20 // bytes
	maxCertificates = 32
)

// Load reads the certificates of a file, in its order; see Parse.
func Load(path string) ([]*x509.Certificate, error) {
	b, err := durable.ReadFile(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	certs, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return certs, nil
}

// Parse reads certificates in the order in which they stand, one at least and
// each once.
func Parse(b []byte) ([]*x509.Certificate, error) {
	if len(b) > maxFile {
		return nil, errors.New("this is too long for certificates")
	}
	var all []*x509.Certificate
	blocks := 0
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE", "PKCS7", "CMS", "CERTIFICATE CHAIN":
		default:
			continue // a key or a request, which tools put beside
		}
		certs, err := parseDER(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("block %d (%s): %w", blocks, block.Type, err)
		}
		all = append(all, certs...)
	}
	if blocks == 0 {
		certs, err := parseDER(b)
		if err != nil {
			// Base64 without lines around it, as some consoles copy it.
			der, bad := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(b), nil)))
			if bad != nil || len(der) == 0 {
				return nil, err
			}
			if certs, err = parseDER(der); err != nil {
				return nil, err
			}
		}
		all = certs
	}
	all = distinct(all)
	if len(all) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	if len(all) > maxCertificates {
		return nil, fmt.Errorf("there are %d certificates in it, more than %d", len(all), maxCertificates)
	}
	return all, nil
}

// parseDER reads certificates one after the other, or a PKCS #7.
func parseDER(der []byte) ([]*x509.Certificate, error) {
	certs, err := x509.ParseCertificates(der)
	if err == nil && len(certs) > 0 {
		return certs, nil
	}
	// Microsoft's web enrolment writes a PKCS #7 in the lines of a certificate.
	if m, bad := cms.Parse(der, cms.Limits{Bytes: maxFile, Certificates: maxCertificates}); bad == nil && len(m.Certificates()) > 0 {
		return m.Certificates(), nil
	}
	return nil, errors.New("it is neither a certificate nor a PKCS #7 with certificates")
}

func distinct(certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	seen := map[string]bool{}
	for _, c := range certs {
		if !seen[string(c.Raw)] {
			seen[string(c.Raw)] = true
			out = append(out, c)
		}
	}
	return out
}

// ForKey finds the certificate of a public key: of several the one that begins
// last. It returns nil when there is none.
func ForKey(certs []*x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	known, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil
	}
	var found *x509.Certificate
	for _, c := range certs {
		if known.Equal(c.PublicKey) && (found == nil || c.NotBefore.After(found.NotBefore)) {
			found = c
		}
	}
	return found
}

// Chain is the way from a certificate up to its root, or as far as the given
// certificates lead: the certificate itself first, each followed by one that
// signed it. Others are left out. Of two issuers with the same key the one
// that ends last is taken, and none twice: CAs that certified each other make no
// endless way.
func Chain(leaf *x509.Certificate, from []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for last := leaf; !IsRoot(last) && len(chain) <= maxCertificates; {
		var next *x509.Certificate
		for _, c := range from {
			if bytes.Equal(c.RawSubject, last.RawIssuer) && !slices.ContainsFunc(chain, c.Equal) && (next == nil || c.NotAfter.After(next.NotAfter)) && last.CheckSignatureFrom(c) == nil {
				next = c
			}
		}
		if next == nil {
			break
		}
		chain = append(chain, next)
		last = next
	}
	return chain
}

// IsRoot tells a certificate that its own key signed.
func IsRoot(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// PEM writes certificates one after the other.
func PEM(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}
