package entra

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/durable"
)

// backDate is how far notBefore lies in the past, for clocks that differ.
const backDate = time.Hour

// Upload is what a person needs to upload a certificate.
type Upload struct {
	Generation int
	Subject    string
	PEM        string // paths of the certificate: either form can be uploaded
	DER        string
	Thumbprint string // SHA-1, as the admin center lists it
	SHA256     string
	NotAfter   time.Time
	Again      bool // it was made before and still waits to be uploaded
}

// Create makes a certificate to be uploaded by hand: the first one of a
// tenant, or one after the last has ended or was lost. One that still waits to
// be uploaded is returned again. Nothing is sent.
func (s *Store) Create(ctx context.Context) (Upload, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return Upload{}, err
	}
	defer end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reload(); err != nil {
		return Upload{}, err
	}
	if g := s.pending(s.Clock()); g != nil {
		u := s.upload(g)
		u.Again = true
		return u, nil
	}
	g, err := s.make(false)
	if err != nil {
		return Upload{}, err
	}
	return s.upload(g), nil
}

func (s *Store) upload(g *generation) Upload {
	c := g.Certificate
	return Upload{
		Generation: g.Generation, Subject: c.Subject.String(),
		PEM: s.file(g.Generation, "pem"), DER: s.file(g.Generation, "cer"),
		Thumbprint: Thumbprint(c.Raw), SHA256: Fingerprint(c.Raw), NotAfter: c.NotAfter,
	}
}

// make makes the next generation: the key first, the record last, so that a
// generation whose making was cut off is told from one that somebody may
// have uploaded. The caller holds the folder's lock and mu.
func (s *Store) make(auto bool) (*generation, error) {
	n, err := s.nextNumber()
	if err != nil {
		return nil, fmt.Errorf("making an Entra certificate: %w", err)
	}
	key, err := s.NewKey(s.file(n, "key"), s.KeyBits)
	if err != nil {
		return nil, fmt.Errorf("making a key of %d bits: %w", s.KeyBits, err)
	}
	s.at("entra.made.key")
	now := s.Clock().UTC().Truncate(time.Second)
	cert, err := s.selfSigned(key, now)
	if err != nil {
		return nil, errors.Join(err, durable.Remove(s.file(n, "key")))
	}
	g := &generation{Credential: Credential{Certificate: cert, Signer: key}, record: record{
		Generation: n, State: Made, Fingerprint: Fingerprint(cert.Raw), Auto: auto, MadeAt: now,
	}}
	if err := s.write(g); err != nil {
		return nil, fmt.Errorf("making an Entra certificate: %w", err)
	}
	s.list = append(s.list, g)
	s.Audit.Info("Entra certificate made", zap.String("tenant", s.Tenant), zap.Int("generation", n),
		zap.String("sha256", g.Fingerprint), zap.Time("not_after", cert.NotAfter), zap.Bool("auto", auto))
	return g, nil
}

// write makes the files of a generation whose key is there. Those of an attempt
// that failed, as on a full disk, are removed with it: nobody was told of them.
func (s *Store) write(g *generation) (err error) {
	n, raw := g.Generation, g.Certificate.Raw
	files := []struct {
		ext  string
		data []byte
	}{
		{"cer", raw},
		{"pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})},
	}
	written := []string{s.file(n, "key")}
	for _, f := range files {
		if err = durable.WriteFile(s.file(n, f.ext), f.data, 0o600); err != nil {
			break
		}
		written = append(written, s.file(n, f.ext))
		s.at("entra.made." + f.ext)
	}
	if err == nil {
		err = s.save(g)
	}
	if err != nil {
		for _, path := range written {
			err = errors.Join(err, durable.Remove(path))
		}
		return err
	}
	s.at("entra.made")
	return nil
}

// selfSigned makes the certificate: names of this host, signatures only,
// Client Authentication only (scep-ndes S71 to S73).
func (s *Store) selfSigned(key crypto.Signer, now time.Time) (*x509.Certificate, error) {
	subject := pkix.Name{CommonName: commonName(s.Host)}
	if s.Subject != nil {
		subject = *s.Subject
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7F | 0x40
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               subject,
		DNSNames:              []string{s.Host},
		NotBefore:             now.Add(-backDate),
		NotAfter:              now.Add(s.Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		SignatureAlgorithm:    x509.SHA256WithRSA,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// commonName shortens a host name to what a common name may hold (RFC 5280,
// appendix A.1); the subjectAltName has it whole.
func commonName(host string) string {
	const most = 64
	return host[:min(len(host), most)]
}
