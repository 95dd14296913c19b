package jobs

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/scep"
)

// Enroller is the registration authority's endpoint for one source of jobs.
type Enroller interface {
	Enroll(ctx context.Context, req *scep.Request) (*scep.Result, error)
}

// IssueConfig is what NewIssuer needs: one source of issuance jobs and what
// may be issued for it.
type IssueConfig struct {
	Source   string       // its name in the journal, as QueueName returns it
	Policy   *IssuePolicy // the module of the endpoint behind Enroller
	Enroller Enroller
	CAName   string // of that endpoint; a job that names another CA is refused
	// Chain returns the CA's certificate and its issuers, which go into the
	// PKCS #12 file behind the certificate.
	Chain func(context.Context) ([]*x509.Certificate, error)

	Sinks  []Sink         // how keys and certificates leave, one a kind of job
	Sealer *secret.Sealer // for the key while it waits

	// Revoke is told of a certificate that was issued and will never be
	// delivered. nil from it says that the revocation is recorded.
	Revoke func(context.Context, Undelivered) error
	// DeliverWithin is how long a sink is tried; 0: 7 days.
	DeliverWithin time.Duration

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger
	Audit *zap.Logger
}

// Undelivered is a certificate whose key never left, or whose result nobody wants.
type Undelivered struct {
	Source     string
	Job        jobqueue.Job
	CA, Serial string // Serial in upper-case hexadecimal of even length
	Thumbprint string // as Delivered.Imported; "": it was surely not imported
	Why        string
}

// Sink hands a key and its certificate over. Deliver is called again after a
// crash, with the same key and certificate.
type Sink interface {
	// Kind is the kind of job whose results go there.
	Kind() string
	// Check says what is wrong with a job before anything is made for it.
	Check(job jobqueue.Job) error
	// Deliver returns what the job's result shall carry. An error that wraps
	// ErrUndeliverable is final; after any other it is tried again.
	Deliver(ctx context.Context, d Delivery) (Delivered, error)
}

// ErrUndeliverable says that a certificate cannot be handed over, however
// often it is tried.
var ErrUndeliverable = errors.New("the certificate cannot be delivered")

// Delivery is what is to be handed over.
type Delivery struct {
	Source      string
	Job         jobqueue.Job
	Key         crypto.Signer
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
}

// Delivered is what a job's result carries: one of them.
type Delivered struct {
	Sealed   []byte `json:"sealed,omitempty"`   // CMS, in the result itself
	Imported string `json:"imported,omitempty"` // SHA-1 of a certificate that was imported elsewhere
}

// Issuer is the handler of issuance jobs of one source.
type Issuer struct {
	IssueConfig
	sinks map[string]Sink
}

// NewIssuer returns a handler, or says what it lacks.
func NewIssuer(cfg IssueConfig) (*Issuer, error) {
	switch {
	case cfg.Source == "" || cfg.Policy == nil || cfg.Enroller == nil || cfg.CAName == "" || cfg.Chain == nil:
		return nil, errors.New("issuance jobs need a source, its policy, an endpoint, the name and the chain of its CA")
	case cfg.Sealer == nil || cfg.Revoke == nil || cfg.Log == nil || cfg.Audit == nil:
		return nil, errors.New("issuance jobs need a sealer, a way to revoke, a log and an audit log")
	case len(cfg.Sinks) == 0:
		return nil, fmt.Errorf("source %q of issuance jobs has neither recipients nor another way to deliver", cfg.Source)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.DeliverWithin <= 0 {
		cfg.DeliverWithin = 7 * 24 * time.Hour
	}
	i := &Issuer{IssueConfig: cfg, sinks: map[string]Sink{}}
	for _, s := range cfg.Sinks {
		if i.sinks[s.Kind()] != nil {
			return nil, fmt.Errorf("source %q has two ways to deliver jobs of kind %q", cfg.Source, s.Kind())
		}
		i.sinks[s.Kind()] = s
	}
	return i, nil
}

// Issuers hands each job to the Issuer of its source.
type Issuers []*Issuer

// Do does a job whose source is configured; others wait.
func (list Issuers) Do(ctx context.Context, j journal.Job) Ending {
	for _, i := range list {
		if i.Source == j.Source {
			return i.Do(ctx, j)
		}
	}
	return TryLater(errors.New("no source of issuance jobs of this name is configured any more; put it back so that its jobs can be done"), time.Hour)
}

// Problems collects what operators should look at.
func (list Issuers) Problems() []string {
	var all []string
	for _, i := range list {
		for _, s := range i.Sinks {
			if p, ok := s.(interface{ Problems() []string }); ok {
				all = append(all, p.Problems()...)
			}
		}
	}
	return all
}
