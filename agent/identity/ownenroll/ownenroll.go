// Package ownenroll gets certificates for the connector itself from the CA in
// front of which it stands: those of the registration authority, which devices
// trust only if they come from the CA that issues theirs, and those of its web
// servers. The command "ra enroll" and the renewal by the service both use it.
//
// Nothing is replaced until all certificates of a run are there and have been
// checked. New keys, requests that were sent, and the IDs of requests that a
// person at the CA must approve wait beside the files, so that a run which was
// cut off anywhere is taken up by the next one.
package ownenroll

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/keys"
)

// Role is what a certificate is for.
type Role struct {
	Name        string // signing, encryption, combined or tls; for people
	Certificate string // where the PEM file belongs, with its key
	// Key is where the new key belongs: a file, or a key of a module or
	// certificate store that is there already, and stays.
	Key string
	// Where a new key is made; "": where that of the file Key is.
	Where      keys.Place
	Template   string // common name of the certificate template
	KeyUsage   x509.KeyUsage
	CommonName string   // of the subject; "": the configured one with "RA" and the name of the role behind it
	Hosts      []string // DNS names and IP addresses of a TLS server
}

// Direct issues without a template: a CA in the process. The subject is that
// of the role.
type Direct func(ctx context.Context, role Role, key crypto.PublicKey, subject pkix.Name) (*x509.Certificate, error)

// Config says what to enrol, and where.
type Config struct {
	CA      ca.Authority
	Direct  Direct              // instead of CA
	Chain   []*x509.Certificate // of the CA, as it is configured
	Subject pkix.Name           // of the certificates
	Roles   []Role
	KeyBits int // 2048, 3072 or 4096; 0: 2048

	Keys *keys.Keys // loads and makes keys; nil: in files

	// StateDir is the service's folder. Where root runs this, a role's new files
	// are for the owner of its present key, or of this folder; "": they stay
	// root's.
	StateDir string

	Clock func() time.Time // nil: time.Now
}

// Result is how far a run came.
type Result struct {
	Installed []Installed `json:"installed"` // empty while one is parked
	Parked    []Parked    `json:"parked"`
}

// Installed is a certificate that is in its place now.
type Installed struct {
	Role     string    `json:"role"`
	File     string    `json:"file"`
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

// Parked is a request that a person at the CA must approve.
type Parked struct {
	Role      string `json:"role"`
	RequestID string `json:"request_id"`
}

// suffixes of what waits beside a role's files.
const (
	newSuffix     = ".new"
	sentSuffix    = ".sent"    // a request that was handed to the CA, whose outcome is not known
	pendingSuffix = ".pending" // the ID of a request that the CA parked
	oldSuffix     = ".old"
)

// Run takes every role as far as it goes, and puts the certificates in their
// places once all are there.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Keys == nil {
		cfg.Keys = keys.New(keys.Config{})
	}
	if cfg.CA == nil && cfg.Direct == nil {
		return Result{}, errors.New("there is no CA to ask for certificates")
	}
	if err := apart(cfg.Roles); err != nil {
		return Result{}, err
	}
	var result Result
	certificates := make([]*x509.Certificate, len(cfg.Roles))
	for i, role := range cfg.Roles {
		cert, err := cfg.enrol(ctx, role)
		parked, isParked := errors.AsType[*ca.Pending](err)
		switch {
		case isParked:
			result.Parked = append(result.Parked, Parked{Role: role.Name, RequestID: parked.RequestID})
		case err != nil:
			return result, fmt.Errorf("%s certificate: %w", role.Name, err)
		}
		certificates[i] = cert
	}
	if len(result.Parked) > 0 {
		return result, nil
	}
	for _, role := range cfg.Roles {
		if err := cfg.handOver(role); err != nil {
			return result, fmt.Errorf("%s certificate: %w", role.Name, err)
		}
	}
	for i, role := range cfg.Roles {
		if err := install(role); err != nil {
			return result, fmt.Errorf("%s certificate: %w", role.Name, err)
		}
		result.Installed = append(result.Installed, Installed{
			Role: role.Name, File: role.Certificate, Subject: certificates[i].Subject.String(), NotAfter: certificates[i].NotAfter,
		})
	}
	return result, nil
}

// apart refuses certificates that are not in files of their own. Roles may
// have one key.
func apart(roles []Role) error {
	for i, role := range roles {
		var others []string
		for j, other := range roles {
			others = append(others, other.Key)
			if j < i {
				others = append(others, other.Certificate)
			}
		}
		if err := keys.CheckApart(role.Certificate, others...); err != nil {
			return fmt.Errorf("%s certificate: %w", role.Name, err)
		}
	}
	return nil
}

// enrol returns a role's new certificate: one that waits since an earlier run,
// one that was approved meanwhile, or a new one.
func (cfg Config) enrol(ctx context.Context, role Role) (*x509.Certificate, error) {
	key, err := cfg.key(role)
	if err != nil {
		return nil, err
	}
	if cert, err := readCertificate(role.Certificate + newSuffix); err == nil && cfg.check(role, cert, key) == nil {
		return cert, nil
	}
	cert, err := cfg.ask(ctx, role, key)
	if err != nil {
		return nil, err
	}
	if err := cfg.check(role, cert, key); err != nil {
		return nil, errors.Join(err, forget(role))
	}
	if err := writeCertificate(role.Certificate+newSuffix, cert); err != nil {
		return nil, err
	}
	return cert, forget(role)
}

// check wants a certificate that devices will take.
func (cfg Config) check(role Role, cert *x509.Certificate, key crypto.Signer) error {
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !pub.Equal(key.Public()):
		return errors.New("the CA returned a certificate for another key")
	case cert.IsCA:
		return errors.New("the CA returned a CA certificate; name another template")
	case cert.KeyUsage != 0 && cert.KeyUsage&role.KeyUsage != role.KeyUsage:
		return fmt.Errorf("the certificate lacks the key usage of the %s role; template %q must allow it (Extensions, Key Usage)", role.Name, role.Template)
	case !cert.NotAfter.After(cfg.Clock()):
		return errors.New("the certificate has expired")
	}
	for _, host := range role.Hosts {
		if err := cert.VerifyHostname(host); err != nil {
			return fmt.Errorf("the certificate is not for %q; the template must take the names from the request: %v", host, err)
		}
	}
	for _, issuer := range cfg.Chain {
		if cert.CheckSignatureFrom(issuer) == nil {
			return nil
		}
	}
	return errors.New("the certificate was not signed by the CA that is configured (chain)")
}
