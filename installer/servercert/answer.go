package servercert

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/certfiles"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
)

const (
	endsSoon   = 30 * 24 * time.Hour
	appleLimit = 825 * 24 * time.Hour // longer ones Apple's systems refuse, whoever issued them
)

// Answer is what a CA sent.
type Answer struct {
	Certificates []*x509.Certificate // in any order
	Names        []string            // that the certificate must have; empty: those of the request, or of the present certificate if it has the same key
	Now          time.Time
}

// Installed is a certificate that was put into its place.
type Installed struct {
	Certificate string    `json:"certificate"` // file
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Names       []string  `json:"names"`
	NotAfter    time.Time `json:"not_after"`
	Chain       int       `json:"chain"` // certificates in the file
	Warnings    []string  `json:"warnings,omitempty"`
}

// Complete checks an answer and installs it, with the key that it is for. An
// error means that nothing was changed, or says what was. Cut off between the
// two files, it is done again.
func (p Place) Complete(a Answer) (Installed, error) {
	if err := p.check(); err != nil {
		return Installed{}, err
	}
	leaf, waits, err := p.leaf(a.Certificates)
	if err != nil {
		return Installed{}, err
	}
	if len(a.Names) == 0 {
		a.Names = p.requestedNames(leaf.PublicKey)
	}
	if present, err := certfiles.Load(p.Certificate); err == nil && len(a.Names) == 0 { // renewed with its key
		if c := certfiles.ForKey(present, leaf.PublicKey); c != nil {
			a.Names = namesOf(c.DNSNames, c.IPAddresses)
		}
	}
	if len(a.Names) == 0 {
		return Installed{}, fmt.Errorf("nothing was installed: there is no request for this key at %q, so the names that the certificate must have are not known: name them with --hostname", p.Certificate+requestSuffix)
	}
	if err := fits(leaf, a); err != nil {
		return Installed{}, fmt.Errorf("nothing was installed: %w", err)
	}
	chain := certfiles.Chain(leaf, a.Certificates)
	warnings := doubts(chain, a.Now)
	if len(chain) > 1 && certfiles.IsRoot(chain[len(chain)-1]) {
		chain = chain[:len(chain)-1] // devices have it, or must not take it from us
	}
	if err := p.put(certfiles.PEM(chain...), waits); err != nil {
		return Installed{}, err
	}
	return Installed{
		Certificate: p.Certificate, Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(),
		Names: namesOf(leaf.DNSNames, leaf.IPAddresses), NotAfter: leaf.NotAfter, Chain: len(chain), Warnings: warnings,
	}, nil
}

// leaf finds the certificate that is for a key of ours: the one that waits, or
// the one in use (a renewal with the same key, or a run that was cut off).
func (p Place) leaf(certs []*x509.Certificate) (leaf *x509.Certificate, waits bool, err error) {
	refs := []string{p.Key + newSuffix, p.Key}
	if keys.IsURI(p.Key) {
		refs = refs[1:]
	}
	found := 0
	for _, ref := range refs {
		key, err := p.Keys.Load(ref)
		if errors.Is(err, fs.ErrNotExist) && !keys.IsURI(ref) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		found++
		if leaf := certfiles.ForKey(certs, key.Public()); leaf != nil {
			return leaf, ref != p.Key, nil
		}
	}
	if found == 0 {
		return nil, false, fmt.Errorf("there is no key at %q: make a request first, with \"certconnector csr tls\"", p.Key+newSuffix)
	}
	var subjects []string
	for _, c := range certs {
		subjects = append(subjects, fmt.Sprintf("%q", c.Subject.String()))
	}
	return nil, false, fmt.Errorf("none of the certificates is for the key of the request: %s; was it another request, or another listener's?", strings.Join(subjects, ", "))
}

// requestedNames are the names of the request that waits, nil where it is gone
// or another's.
func (p Place) requestedNames(key crypto.PublicKey) []string {
	b, err := os.ReadFile(p.Certificate + requestSuffix)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil
	}
	if k, ok := key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(request.PublicKey) {
		return nil
	}
	return namesOf(request.DNSNames, request.IPAddresses)
}

// fits refuses what no device would take.
func fits(leaf *x509.Certificate, a Answer) error {
	var errs []error
	for _, name := range a.Names {
		// A wildcard is no name of a host: compared as it is.
		if leaf.VerifyHostname(name) != nil && !slices.Contains(leaf.DNSNames, name) {
			errs = append(errs, fmt.Errorf("the certificate lacks the name %s; it has %s. Have the CA take the subject alternative names of the request, or name what devices use with --hostname",
				name, strings.Join(append(namesOf(leaf.DNSNames, leaf.IPAddresses), "no more"), ", ")))
		}
	}
	switch {
	case a.Now.After(leaf.NotAfter):
		errs = append(errs, fmt.Errorf("the certificate ended on %s", leaf.NotAfter.UTC().Format(time.RFC3339)))
	case a.Now.Before(leaf.NotBefore):
		errs = append(errs, fmt.Errorf("the certificate is not valid before %s: wait, or set the clock", leaf.NotBefore.UTC().Format(time.RFC3339)))
	}
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 &&
		!slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		errs = append(errs, errors.New("the certificate is not for Server Authentication: take a template for web servers"))
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		errs = append(errs, errors.New("the certificate's key usage lacks digitalSignature, which TLS 1.3 needs"))
	}
	if leaf.BasicConstraintsValid && leaf.IsCA {
		errs = append(errs, errors.New("the certificate is that of a CA"))
	}
	return errors.Join(errs...)
}

// doubts are what some devices may stumble over.
func doubts(chain []*x509.Certificate, now time.Time) []string {
	var list []string
	leaf, last := chain[0], chain[len(chain)-1]
	if !certfiles.IsRoot(last) && (len(chain) == 1 || now.After(last.NotAfter)) {
		list = append(list, fmt.Sprintf("the certificate of the issuer %q is not in the answer: unless it is a root, devices find no way to theirs; add it with --chain", last.Issuer.String()))
	}
	if leaf.NotAfter.Sub(now) < endsSoon {
		list = append(list, "the certificate ends on "+leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	if leaf.NotAfter.Sub(leaf.NotBefore) > appleLimit {
		list = append(list, "the certificate lives longer than 825 days: Apple devices refuse it")
	}
	for _, c := range chain {
		if (c.SignatureAlgorithm == x509.SHA1WithRSA || c.SignatureAlgorithm == x509.ECDSAWithSHA1) && !certfiles.IsRoot(c) {
			list = append(list, fmt.Sprintf("the certificate %q is signed with SHA-1: devices refuse it", c.Subject.String()))
		}
	}
	return list
}

// put has the certificate, and the key that waited, take the places of the
// present ones, which stay beside as .old. The certificate is on disk before
// anything moves, both are the service's, and a certificate that cannot be moved
// gives the key back.
func (p Place) put(text []byte, waits bool) error {
	if err := durable.WriteFile(p.Certificate+newSuffix, text, 0o644); err != nil {
		return err
	}
	account := secret.AccountOf(p.Key, p.StateDir)
	if err := account.Give(p.Certificate + newSuffix); err != nil {
		return err
	}
	if waits {
		if err := account.Give(p.Key + newSuffix); err != nil {
			return err
		}
		if err := replace(p.Key); err != nil {
			return err
		}
	}
	if err := replace(p.Certificate); err != nil {
		if waits {
			err = errors.Join(err, durable.Rename(p.Key, p.Key+newSuffix), optional(durable.Rename(p.Key+oldSuffix, p.Key)))
		}
		return err
	}
	return durable.Remove(p.Certificate + requestSuffix)
}

// replace moves path.new to path, and what was there to path.old.
func replace(path string) error {
	if err := optional(keep(path)); err != nil {
		return fmt.Errorf("keeping the old file: %w", err)
	}
	if err := durable.Rename(path+newSuffix, path); err != nil {
		return fmt.Errorf("putting the new file in its place: %w", err)
	}
	return nil
}

// keep gives a file a second name, so that its own is never without content.
func keep(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%q is a folder", path)
	}
	if err := durable.Remove(path + oldSuffix); err != nil {
		return err
	}
	if os.Link(path, path+oldSuffix) == nil {
		return nil
	}
	return durable.Rename(path, path+oldSuffix) // a file system without links
}

// optional passes over a file that is not there.
func optional(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
