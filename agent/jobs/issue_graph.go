package jobs

import (
	"context"
	"crypto/rsa"
	"crypto/sha1" // #nosec G505 -- Graph names certificates by their SHA-1
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/internal/pfx"
	"github.com/certconnector/certconnector/intune"
)

// Graph is what imported PFX certificates need of intune.Client.
type Graph interface {
	UserID(ctx context.Context, upn string) (string, error)
	PFX(ctx context.Context, userID, thumbprint string) (intune.UserPFX, error)
	CreatePFX(ctx context.Context, p intune.UserPFX) error
	DeletePFX(ctx context.Context, userID, thumbprint string) error
}

// ImportConfig is what NewImported needs.
type ImportConfig struct {
	Graph Graph
	// PublicKey encrypts the passwords. Its private key is in ProviderName under
	// KeyName on the machines of Microsoft's connector, which delivers.
	PublicKey     *rsa.PublicKey
	ProviderName  string            // "": Microsoft Software Key Storage Provider
	KeyName       string            // required
	PaddingScheme intune.PFXPadding // "": oaepSha512
	Purpose       intune.PFXPurpose // "": unassigned
}

type imported struct{ ImportConfig }

// NewImported returns the sink of jobs of kind jobqueue.KindImportedPFX: key
// and certificate are imported into Intune through Microsoft Graph
// (userPfxCertificates, beta). That import is public; the delivery to devices
// is not: without Microsoft's own connector, set up for imported PKCS
// certificates, what was imported never reaches a device.
func NewImported(cfg ImportConfig) (Sink, error) {
	if cfg.Graph == nil || cfg.PublicKey == nil || cfg.KeyName == "" {
		return nil, errors.New("imported PFX certificates need Microsoft Graph, the public key for their passwords and its name")
	}
	if cfg.ProviderName == "" {
		cfg.ProviderName = "Microsoft Software Key Storage Provider"
	}
	// Whatever is wrong with key and padding shows now, not with the first job.
	if _, err := intune.SealPFXPassword(cfg.PublicKey, cfg.PaddingScheme, "test"); err != nil {
		return nil, fmt.Errorf("the key for the passwords of imported PFX certificates: %w", err)
	}
	return &imported{cfg}, nil
}

// Kind is jobqueue.KindImportedPFX.
func (s *imported) Kind() string { return jobqueue.KindImportedPFX }

// Check wants one user.
func (s *imported) Check(job jobqueue.Job) error {
	if _, ok := userOf(job); !ok {
		return errors.New("member sans must have exactly one user principal name: whose certificate it is")
	}
	if job.Recipient != "" {
		return errors.New("an imported certificate has no recipient")
	}
	return nil
}

func userOf(job jobqueue.Job) (upn string, ok bool) {
	for _, san := range job.SANs {
		kind, value, _ := strings.Cut(san, ":")
		if !strings.EqualFold(kind, "upn") {
			continue
		}
		if upn != "" {
			return "", false
		}
		upn = value
	}
	return upn, upn != ""
}

// Deliver imports unless it has been done: a crash, or an answer that was
// lost, makes one certificate of one thumbprint all the same.
func (s *imported) Deliver(ctx context.Context, d Delivery) (Delivered, error) {
	upn, ok := userOf(d.Job)
	if !ok {
		return Delivered{}, fmt.Errorf("%w: it is nobody's", ErrUndeliverable)
	}
	thumbprint := thumbprintOf(d.Certificate)
	userID, err := s.Graph.UserID(ctx, upn)
	if errors.Is(err, intune.ErrNotFound) {
		return Delivered{}, fmt.Errorf("%w: the tenant has no such user", ErrUndeliverable)
	}
	if err != nil {
		return Delivered{}, fmt.Errorf("looking the user up: %w", err)
	}
	switch _, err := s.Graph.PFX(ctx, userID, thumbprint); {
	case err == nil:
		return Delivered{Imported: thumbprint}, nil
	case !errors.Is(err, intune.ErrNotFound):
		return Delivered{}, fmt.Errorf("looking for an earlier import: %w", err)
	}
	p, err := s.pack(d, upn, thumbprint)
	if err != nil {
		return Delivered{}, fmt.Errorf("%w: %v", ErrUndeliverable, err)
	}
	switch err := s.Graph.CreatePFX(ctx, p); {
	case err == nil, errors.Is(err, intune.ErrExists):
	case intune.Final(err), errors.Is(err, intune.ErrArgument):
		return Delivered{}, fmt.Errorf("%w: Microsoft Graph does not take it", ErrUndeliverable)
	default:
		return Delivered{}, fmt.Errorf("importing: %w", err)
	}
	return Delivered{Imported: thumbprint}, nil
}

// thumbprintOf is how Graph names a certificate.
func thumbprintOf(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw)
	return hex.EncodeToString(sum[:])
}

// pack makes the PFX and encrypts its password.
func (s *imported) pack(d Delivery, upn, thumbprint string) (intune.UserPFX, error) {
	der, password, err := pfx.Encode(d.Key, d.Certificate, issuersOf(d.Certificate, d.Chain))
	if err != nil {
		return intune.UserPFX{}, err
	}
	encrypted, err := intune.SealPFXPassword(s.PublicKey, s.PaddingScheme, password.Reveal())
	if err != nil {
		return intune.UserPFX{}, errors.New("the password cannot be encrypted")
	}
	return intune.UserPFX{
		UserPrincipalName: upn, Thumbprint: thumbprint, IntendedPurpose: s.Purpose,
		Start: d.Certificate.NotBefore, Expires: d.Certificate.NotAfter,
		ProviderName: s.ProviderName, KeyName: s.KeyName, PaddingScheme: s.PaddingScheme,
		EncryptedPFX: der, EncryptedPassword: encrypted,
	}, nil
}
