package ownenroll

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/pkcs10"
)

// clockSlack is how far the CA's clock may be from ours when it is searched.
const clockSlack = time.Hour

// ask gets a certificate for a key: it collects a request that was parked,
// looks for the outcome of one that was sent, or submits one. What was sent
// and its ID are on disk before anybody relies on it.
func (cfg Config) ask(ctx context.Context, role Role, key crypto.Signer) (*x509.Certificate, error) {
	if cfg.Direct != nil {
		return cfg.Direct(ctx, role, key.Public(), cfg.subject(role))
	}
	id, err := os.ReadFile(role.Certificate + pendingSuffix)
	if err == nil {
		return cfg.settle(role)(cfg.collect(ctx, strings.TrimSpace(string(id))))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the ID of a parked request: %w", err)
	}
	csr, sent, err := cfg.request(role, key)
	if err != nil {
		return nil, err
	}
	finder, can := ca.Ability[ca.Finder](cfg.CA)
	if !sent.IsZero() && can {
		issued, err := finder.Find(ctx, ca.Query{
			CSRDigest: csr.Digest(), KeyDigest: csr.KeyDigest(), NameDigest: csr.NameDigest(),
			Sent: sent, From: sent.Add(-clockSlack), To: cfg.Clock().Add(clockSlack),
		})
		if !errors.Is(err, ca.ErrNotFound) {
			return cfg.settle(role)(issued, err)
		}
	}
	return cfg.settle(role)(cfg.CA.Issue(ctx, ca.Request{CSR: csr, Template: role.Template}))
}

// collect asks for the outcome of a parked request. One that the CA does not
// know any more is final, as a denial is.
func (cfg Config) collect(ctx context.Context, id string) (*ca.Issued, error) {
	collector, ok := ca.Ability[ca.Collector](cfg.CA)
	if !ok {
		return nil, fmt.Errorf("%w: a request is parked, and this bridge cannot collect it", ca.ErrOutcomeUnknown)
	}
	issued, err := collector.Collect(ctx, id)
	if errors.Is(err, ca.ErrNotFound) {
		return nil, &ca.Denied{HResult: ca.HResultFail, Text: "the CA does not know parked request " + id + " any more"}
	}
	return issued, err
}

// settle writes down what an answer means for the next run, before it is
// believed.
func (cfg Config) settle(role Role) func(*ca.Issued, error) (*x509.Certificate, error) {
	return func(issued *ca.Issued, err error) (*x509.Certificate, error) {
		if parked, ok := errors.AsType[*ca.Pending](err); ok {
			if failed := durable.WriteFile(role.Certificate+pendingSuffix, []byte(parked.RequestID+"\n"), 0o600); failed != nil {
				return nil, failed
			}
			return nil, err
		}
		_, denied := errors.AsType[*ca.Denied](err)
		if denied || errors.Is(err, ca.ErrUnavailable) && !exists(role.Certificate+pendingSuffix) {
			return nil, errors.Join(err, forget(role)) // nothing is under way: the next run begins anew
		}
		if err != nil {
			return nil, err
		}
		return issued.Certificate, nil
	}
}

// request returns the request for a key, and when it was sent if an earlier
// run did so: the same octets again, by which the CA is searched.
func (cfg Config) request(role Role, key crypto.Signer) (csr *pkcs10.Request, sent time.Time, err error) {
	path := role.Certificate + sentSuffix
	if der, err := os.ReadFile(path); err == nil {
		csr, err := pkcs10.Parse(der)
		info, failed := os.Stat(path)
		if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); err == nil && failed == nil && ok && pub.Equal(csr.PublicKey) {
			return csr, info.ModTime(), nil
		}
	}
	der, err := cfg.certificationRequest(role, key)
	if err != nil {
		return nil, time.Time{}, err
	}
	if csr, err = pkcs10.Parse(der); err != nil {
		return nil, time.Time{}, err
	}
	if err := durable.WriteFile(path, der, 0o600); err != nil {
		return nil, time.Time{}, err
	}
	return csr, time.Time{}, os.Chtimes(path, time.Time{}, cfg.Clock()) // by the clock that Find is asked with
}

// certificationRequest asks for the names and the usage of a role.
func (cfg Config) certificationRequest(role Role, key crypto.Signer) ([]byte, error) {
	usage, err := asn1.Marshal(keyUsageBits(role.KeyUsage))
	if err != nil {
		return nil, fmt.Errorf("encoding the key usage: %w", err)
	}
	template := &x509.CertificateRequest{
		Subject:         cfg.subject(role),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: usage}},
	}
	for _, host := range role.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	return der, nil
}

// subject is that of a role's certificate.
func (cfg Config) subject(role Role) pkix.Name {
	subject := cfg.Subject
	subject.CommonName = cmp.Or(role.CommonName, strings.TrimSpace(subject.CommonName+" RA "+role.Name))
	return subject
}

// keyUsageBits is the BIT STRING of RFC 5280, section 4.2.1.3, for the usages
// that our roles have: they are in its first three bits.
func keyUsageBits(usage x509.KeyUsage) asn1.BitString {
	var b byte
	length := 1
	if usage&x509.KeyUsageDigitalSignature != 0 {
		b |= 0x80
	}
	if usage&x509.KeyUsageKeyEncipherment != 0 {
		b |= 0x20
		length = 3
	}
	return asn1.BitString{Bytes: []byte{b}, BitLength: length}
}

// forget removes what was kept of a request, which is settled.
func forget(role Role) error {
	return errors.Join(durable.Remove(role.Certificate+sentSuffix), durable.Remove(role.Certificate+pendingSuffix))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
