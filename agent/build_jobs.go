package agent

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/intune"
)

// buildJobs builds who is asked for work, and who does it.
func (a *Agent) buildJobs() error {
	log := a.log.Named("jobs")
	revoker, sources, err := a.revocations()
	if err != nil {
		return err
	}
	issuer, queues, err := a.issuanceJobs()
	if err != nil {
		return err
	}
	cfg := jobs.Config{
		Journal: a.journal, Clock: a.options.Clock, Log: log, Audit: a.audit, Sources: append(sources, queues...),
		Work: map[journal.JobKind]jobs.Work{}, Background: admission.Background,
	}
	if revoker != nil {
		cfg.Work[journal.RevokeJob] = jobs.Work{Handler: revoker, AtOnce: 8} // its own gate bounds calls to CAs
	}
	if issuer != nil {
		cfg.Work[journal.IssueJob] = jobs.Work{Handler: issuer}
	}
	if len(cfg.Work) == 0 {
		return nil
	}
	if cfg.Owner, err = a.cfg.instance(); err != nil {
		return err
	}
	a.jobs, err = jobs.New(cfg)
	return err
}

// revocations are the tenants that are asked for certificates to revoke, and
// who revokes them. A queue's certificates are revoked by the same handler.
func (a *Agent) revocations() (jobs.Handler, []jobs.Polled, error) {
	cfg := jobs.RevokerConfig{
		Entries: a.journal, Imported: a.journal, Tenants: map[string]jobs.RevocationTenant{}, RestoredAt: a.journal.RestoredAt(),
		Clock: a.options.Clock, Log: a.log.Named("jobs"), Audit: a.audit,
	}
	var sources []jobs.Polled
	for _, t := range a.cfg.Tenants {
		r := t.Revocation
		if r == nil {
			continue
		}
		reason, err := ca.ParseReason(r.Reason)
		if err != nil {
			return nil, nil, err
		}
		source := jobs.NewRevocations(t.Name, r.Issuer, a.tenants[t.Name], a.log.Named("jobs"))
		sources = append(sources, jobs.Polled{
			Source: source, Interval: r.Interval, Batch: r.Batch, Kind: journal.RevokeJob, AtMostPerHour: r.AtMostPerHour,
		})
		cfg.Tenants[source.Name()] = jobs.RevocationTenant{
			Name: t.Name, Reason: reason, AnySerial: r.AnySerial, OwnsTenant: r.OwnsTenant, GiveUpAfter: r.GiveUpAfter,
		}
	}
	if len(a.cas) == 0 {
		return nil, nil, nil
	}
	cfg.Tenants[jobs.OperatorSource] = jobs.RevocationTenant{Name: jobs.OperatorSource, Operator: true}
	names := make([]string, 0, len(a.cas))
	for name := range a.cas {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		cfg.CAs = append(cfg.CAs, jobs.RevocationCA{Name: name, Authority: a.bridges[name]})
	}
	return jobs.NewRevoker(cfg), sources, nil
}

// issuanceJobs are the queues of issuance jobs, and who issues.
func (a *Agent) issuanceJobs() (jobs.Handler, []jobs.Polled, error) {
	var issuers jobs.Issuers
	var sources []jobs.Polled
	for _, s := range a.cfg.Jobs.Sources {
		issuer, source, err := a.issuanceSource(s)
		if err != nil {
			return nil, nil, fmt.Errorf("source of jobs %q: %w", s.Name, err)
		}
		issuers = append(issuers, issuer)
		sources = append(sources, jobs.Polled{Source: source, Interval: s.Interval, Batch: s.Batch, Kind: journal.IssueJob, AtMostPerHour: s.AtMostPerHour})
	}
	if issuers == nil {
		return nil, nil, nil
	}
	return issuers, sources, nil
}

// issuanceSource builds one queue: who is asked, what may be issued, and how
// keys leave.
func (a *Agent) issuanceSource(s JobSource) (*jobs.Issuer, jobs.Source, error) {
	log := a.log.Named("jobs")
	queue, err := a.queueClient(s)
	if err != nil {
		return nil, nil, err
	}
	sinks, err := a.sinks(s)
	if err != nil {
		return nil, nil, err
	}
	revoke := jobs.Withdrawing(jobs.RevokeByJob(a.journal, s.Name, a.options.Clock), sinks, log)
	source, err := jobs.NewQueue(jobs.QueueConfig{Name: s.Name, Queue: queue, Revoke: revoke, Log: log})
	if err != nil {
		return nil, nil, err
	}
	policy, err := jobs.NewIssuePolicy(jobs.IssueRules{
		Subject: s.Allow.Subject, SANs: s.Allow.SAN, ExtKeyUsages: s.Allow.EKU, KeyTypes: s.Allow.Keys, MaxValidity: s.Allow.MaxValidity,
	})
	if err != nil {
		return nil, nil, err
	}
	enroller, err := a.registration.Add(enroll.EndpointConfig{
		Name: source.Name(), Tenant: source.Name(), Module: policy, ModuleKind: "job", CA: a.bridges[s.CA], CAName: s.CA,
		Templates: enroll.Templates{Signature: s.Template, Encryption: s.Template, General: s.Template},
		Rules: enroll.Rules{
			MinRSABits: 2048, MaxRSABits: 4096, MaxValidity: s.Allow.MaxValidity, Names: policy.Names(), ExtKeyUsages: policy.ExtKeyUsages(),
			RefuseSIDURI: true, ECDSA: true,
		},
		AnswerWithin: jobAnswerWithin, WithholdFor: s.GiveUpAfter, ReplayWindow: jobs.IssueReplayWindow,
		SameStore: a.cas[s.CA].sameStore, Jobs: true,
	})
	if err != nil {
		return nil, nil, err
	}
	issuer, err := jobs.NewIssuer(jobs.IssueConfig{
		Source: source.Name(), Policy: policy, Enroller: enroller, CAName: s.CA, Chain: a.chain(s.CA).Get, Sinks: sinks,
		Sealer: a.sealer, Revoke: revoke, DeliverWithin: s.GiveUpAfter, Clock: a.options.Clock, Log: log, Audit: a.audit,
	})
	return issuer, source, err
}

// jobAnswerWithin is how long a worker waits for one certificate before it
// takes up another job.
const jobAnswerWithin = 20 * time.Second

func (a *Agent) queueClient(s JobSource) (*jobqueue.Client, error) {
	pair, err := a.watch("source of jobs "+s.Name, identity.KindJobQueueClient, KeyPair{Certificate: s.Queue.Certificate, Key: s.Queue.Key})
	if err != nil {
		return nil, err
	}
	dial, err := s.Queue.Proxy.dial()
	if err != nil {
		return nil, err
	}
	trusted, err := roots(s.Queue.CAFile)
	if err != nil {
		return nil, err
	}
	client, err := jobqueue.New(jobqueue.Config{
		URL: s.Queue.URL, Certificate: pair.Certificate, RootCAs: trusted, UserAgent: "certconnector/" + a.options.Version,
		Dial: dial, Clock: a.options.Clock, Log: a.log.Named("jobs"),
	})
	if err != nil {
		return nil, err
	}
	pair.OnChange(client.Reconnect) // the next question is asked with the new certificate
	return client, nil
}

// sinks are how keys leave: sealed to a recipient in the result, and where the
// configuration has it, imported into Intune.
func (a *Agent) sinks(s JobSource) ([]jobs.Sink, error) {
	var recipients []*x509.Certificate
	for _, r := range s.Recipients {
		certs, err := embedded.LoadChain(r.Certificate)
		if err != nil {
			return nil, err
		}
		recipients = append(recipients, certs[0])
	}
	sealed, err := jobs.NewSealed(recipients, a.options.Clock)
	if err != nil {
		return nil, err
	}
	if s.Import == nil {
		return []jobs.Sink{sealed}, nil
	}
	key, err := intune.LoadPFXPublicKey(s.Import.PublicKey)
	if err != nil {
		return nil, err
	}
	imported, err := jobs.NewImported(jobs.ImportConfig{
		Graph: a.tenants[s.Import.Tenant], PublicKey: key, ProviderName: s.Import.Provider, KeyName: s.Import.KeyName,
		PaddingScheme: intune.PFXPadding(s.Import.Padding), Purpose: intune.PFXPurpose(s.Import.Purpose),
	})
	return []jobs.Sink{sealed, imported}, err
}

// jobProblems says what keeps jobs from being fetched or done.
func (a *Agent) jobProblems() error {
	if a.jobs == nil {
		return nil
	}
	var errs []error
	for _, p := range a.jobs.Problems() {
		errs = append(errs, errors.New(p))
	}
	return errors.Join(errs...)
}
