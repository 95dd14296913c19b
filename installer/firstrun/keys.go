package firstrun

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha1" // Entra shows certificates by SHA-1; nothing is verified with it
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"time"

	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/secret"
)

var (
	caKeyFile     = filepath.Join(CAFolder, embedded.KeyFile)
	caCertFile    = filepath.Join(CAFolder, embedded.ChainFile)
	tlsKeyFile    = filepath.Join(TLSFolder, "tls.key.pem")
	tlsCertFile   = filepath.Join(TLSFolder, "tls.crt.pem")
	entraKeyFile  = filepath.Join(EntraFolder, "entra.key.pem")
	entraCertFile = filepath.Join(EntraFolder, "entra.crt.pem")
)

// entraValidity is as long as Entra accepts certificates without complaint.
const entraValidity = 2 * 365 * 24 * time.Hour

// raFile names a file of the registration authority, as ra/signing.key.pem.
func raFile(use, kind string) string { return filepath.Join(RAFolder, use+"."+kind+".pem") }

func (p *Plan) makeLocalKey(context.Context) error {
	if err := secret.CreateKeyFile(p.path(LocalKeyFile)); err != nil {
		return err
	}
	return durable.SyncFolder(p.o.StateDir)
}

func (p *Plan) makeJournal(context.Context) error { return sqlite.Create(p.path(JournalFile)) }

func (p *Plan) makeCA(context.Context) error {
	name := "certconnector CA " + p.o.Hostnames[0]
	root, err := embedded.Create(p.path(CAFolder), embedded.Options{
		Subject: pkix.Name{CommonName: name[:min(len(name), 64)]}, // ub-common-name of RFC 5280
		KeyKind: p.o.CAKey,
		Clock:   p.o.Clock,
	})
	if err != nil {
		return err
	}
	p.describeRoot(root, caCertFile)
	return nil
}

// makeOwn has the CA certify the connector itself. The certificates stand in
// the CA's register like any other, so the journal is open meanwhile.
func (p *Plan) makeOwn(ctx context.Context) (err error) {
	journal, err := sqlite.Open(p.path(JournalFile), sqlite.Options{Clock: p.o.Clock})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	authority, err := embedded.Open(embedded.Config{
		Name: CAName, Dir: p.path(CAFolder), Register: journal, Clock: p.o.Clock,
	})
	if err != nil {
		return err
	}
	for _, purpose := range []embedded.RAPurpose{embedded.RASigning, embedded.RAEncryption} {
		subject := pkix.Name{CommonName: truncated(p.o.Hostnames[0], " RA "+string(purpose))}
		err := p.pair(p.o.RAKey, raFile(string(purpose), "key"), raFile(string(purpose), "crt"), func(key crypto.PublicKey) (*x509.Certificate, error) {
			return authority.IssueRA(ctx, purpose, key, subject)
		})
		if err != nil {
			return err
		}
	}
	if p.o.PlainHTTP {
		return nil
	}
	return p.pair(embedded.RSA2048, tlsKeyFile, tlsCertFile, func(key crypto.PublicKey) (*x509.Certificate, error) {
		return authority.IssueTLS(ctx, p.o.Hostnames, key)
	})
}

// pair makes a key and its certificate and writes both.
func (p *Plan) pair(kind embedded.KeyKind, keyFile, certFile string, certify func(crypto.PublicKey) (*x509.Certificate, error)) error {
	key, err := embedded.GenerateKey(kind)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	cert, err := certify(key.Public())
	if err != nil {
		return err
	}
	if err := embedded.StoreKey(p.path(keyFile), key); err != nil {
		return err
	}
	return durable.Create(p.path(certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o644)
}

// makeEntra makes the certificate that is uploaded to the app registration.
// Entra documents RSA keys of 2048 bits or more; it looks at the key and the
// dates, so a self-signed certificate does.
func (p *Plan) makeEntra(context.Context) error {
	key, err := embedded.GenerateKey(embedded.RSA3072)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	now := p.o.Clock().UTC().Truncate(time.Second)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return fmt.Errorf("making a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: truncated(p.o.Hostnames[0], " certconnector")},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(entraValidity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		// CA:FALSE: it vouches for nobody but itself.
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("signing the certificate: %w", err)
	}
	if err := embedded.StoreKey(p.path(entraKeyFile), key); err != nil {
		return err
	}
	p.made.EntraCertificate = p.path(entraCertFile)
	p.made.EntraSHA1 = fmt.Sprintf("%X", sha1.Sum(der))
	return durable.Create(p.path(entraCertFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// makeChallenge writes 160 random bits in letters and digits that survive
// being typed: 32 characters of 32 kinds, so that one that happens to have no
// digit still passes for random where its bits are estimated.
func (p *Plan) makeChallenge(context.Context) error {
	p.made.ChallengeFile = p.path(ChallengeFile)
	return durable.Create(p.path(ChallengeFile), []byte(randomChallenge()+"\n"), 0o600)
}

func randomChallenge() string { return rand.Text() + rand.Text()[:6] }

// truncated keeps a common name within the 64 characters of RFC 5280 and its
// end visible.
func truncated(name, suffix string) string {
	return name[:min(len(name), 64-len(suffix))] + suffix
}
