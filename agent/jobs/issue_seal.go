package jobs

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/pfx"
	"github.com/certconnector/certconnector/internal/secret"
)

// BundleFormat is the member format of what is sealed.
const BundleFormat = "certconnector-pfx-1"

const leastRecipientBits = 2048

// sealed delivers in the job's own result.
type sealed struct {
	recipients map[string]*x509.Certificate // by SHA-256 in lower-case hexadecimal
	clock      func() time.Time
}

// NewSealed returns the sink of jobs of kind jobqueue.KindPFX: PKCS #12 and its
// password in a JSON object, sealed in a CMS EnvelopedData (AES-256 in CBC
// mode, RSAES-OAEP with SHA-256) to one of the recipients. A job names a
// recipient by fingerprint; one that is not in this list is refused, so that
// neither a job nor the queue can redirect a key. clock nil: time.Now.
func NewSealed(recipients []*x509.Certificate, clock func() time.Time) (Sink, error) {
	if len(recipients) == 0 {
		return nil, errors.New("sealed results need at least one recipient's certificate")
	}
	if clock == nil {
		clock = time.Now
	}
	s := &sealed{recipients: map[string]*x509.Certificate{}, clock: clock}
	for _, cert := range recipients {
		key, ok := cert.PublicKey.(*rsa.PublicKey)
		switch {
		case !ok:
			return nil, fmt.Errorf("recipient %q has no RSA key; results are sealed with RSAES-OAEP", cert.Subject)
		case key.N.BitLen() < leastRecipientBits:
			return nil, fmt.Errorf("recipient %q has an RSA key of %d bits; %d are the least", cert.Subject, key.N.BitLen(), leastRecipientBits)
		case cert.KeyUsage != 0 && cert.KeyUsage&(x509.KeyUsageKeyEncipherment|x509.KeyUsageDataEncipherment) == 0:
			return nil, fmt.Errorf("recipient %q has a certificate that is not for encryption", cert.Subject)
		}
		s.recipients[fingerprint(cert)] = cert
	}
	return s, nil
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Kind is jobqueue.KindPFX.
func (s *sealed) Kind() string { return jobqueue.KindPFX }

// Check wants a recipient that is pinned and whose certificate is valid.
func (s *sealed) Check(job jobqueue.Job) error {
	cert := s.recipients[job.Recipient]
	switch {
	case cert == nil:
		return errors.New("the recipient is none of those that are pinned for this source")
	case s.clock().After(cert.NotAfter):
		return errors.New("the recipient's certificate has expired")
	}
	return nil
}

// bundle is what a recipient finds in the envelope. It is one line of JSON
// whose values need no escapes but for requestContext.
type bundle struct {
	Format   string `json:"format"`
	Password string `json:"password"`
	PFX      []byte `json:"pfx"` // base64
	Source   string `json:"source"`
	Context  string `json:"requestContext"`
}

// Deliver seals. Nobody but the recipient can open what it returns.
func (s *sealed) Deliver(_ context.Context, d Delivery) (Delivered, error) {
	cert := s.recipients[d.Job.Recipient]
	if cert == nil {
		return Delivered{}, fmt.Errorf("%w: the recipient is not pinned any more", ErrUndeliverable)
	}
	der, password, err := pfx.Encode(d.Key, d.Certificate, issuersOf(d.Certificate, d.Chain))
	if err != nil {
		return Delivered{}, fmt.Errorf("%w: %v", ErrUndeliverable, err)
	}
	plain, err := d.bundle(der, password)
	if err != nil {
		return Delivered{}, fmt.Errorf("%w: the bundle cannot be written", ErrUndeliverable)
	}
	envelope, err := cms.Seal(plain, []*x509.Certificate{cert})
	clear(plain)
	if err != nil {
		return Delivered{}, fmt.Errorf("%w: sealing: %v", ErrUndeliverable, err)
	}
	return Delivered{Sealed: envelope}, nil
}

func (d Delivery) bundle(der []byte, password secret.Text) ([]byte, error) {
	return json.Marshal(bundle{BundleFormat, password.Reveal(), der, d.Source, d.Job.Context})
}

// issuersOf leaves the certificate itself out of its chain.
func issuersOf(leaf *x509.Certificate, chain []*x509.Certificate) []*x509.Certificate {
	var issuers []*x509.Certificate
	for _, c := range chain {
		if !c.Equal(leaf) {
			issuers = append(issuers, c)
		}
	}
	return issuers
}

// warnRecipient is how long before its end a recipient's certificate is a problem.
const warnRecipient = 30 * 24 * time.Hour

// Problems names recipients whose certificates end.
func (s *sealed) Problems() []string {
	var list []string
	for print, cert := range s.recipients {
		if left := cert.NotAfter.Sub(s.clock()); left < warnRecipient {
			list = append(list, fmt.Sprintf("the certificate of recipient %s (SHA-256 %s…) ends on %s: jobs for it are refused from then on; pin its successor",
				clean(cert.Subject.String()), print[:16], cert.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return list
}
