package jobs

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/scep"
)

// Do takes one job as far as it goes. Each step is recorded before the next
// is taken, so that a crash repeats one step with the same key:
//
//  1. Accept: the job is read and held against the source's rules; key and CSR
//     are made, sealed, and saved.
//  2. Enroll: the registration authority gets the CSR under a transaction ID
//     of the job. The same CSR gets the same certificate, however often it is asked.
//  3. Deliver: the certificate is saved; key and certificate go to the sink,
//     and what it returns becomes the result. The journal then wipes the key.
func (i *Issuer) Do(ctx context.Context, j journal.Job) Ending {
	a := &assignment{Issuer: i, journaled: j}
	if err := a.read(); err != nil {
		return a.refuse(jobqueue.DataSerializationError, "job_malformed", err.Error())
	}
	if len(j.Work) == 0 {
		return a.accept()
	}
	if err := a.open(); err != nil {
		i.Log.Error("the saved key of a job cannot be opened: was the local key replaced?", append(a.fields(), zap.Error(err))...)
		return a.abandon(ctx, jobqueue.CryptographyError, "work_sealed", "the connector lost the key that it had made for this job")
	}
	if a.certificate == nil {
		failpoint.Hit("jobs.issue.saved")
		return a.enroll(ctx)
	}
	return a.deliver(ctx)
}

// assignment is a job on its way through Do.
type assignment struct {
	*Issuer
	journaled   journal.Job
	job         jobqueue.Job
	key         crypto.Signer
	csr         *pkcs10.Request
	certificate *x509.Certificate
	untaken     bool // the sink surely did not take it
}

// malformed is the content of a job that came with a context and little else
// that can be read: it is accepted, so that its source is told.
type malformed struct {
	Context   string `json:"requestContext"`
	Malformed string `json:"malformed"`
}

func (a *assignment) read() error {
	var bad malformed
	if json.Unmarshal(a.journaled.Content, &bad) == nil && bad.Malformed != "" {
		return errors.New(bad.Malformed)
	}
	job, err := jobqueue.ReadJob(a.journaled.Content)
	a.job = job
	return err
}

// accept is step 1.
func (a *assignment) accept() Ending {
	sink := a.sinks[a.job.Kind]
	if sink == nil {
		return a.refuse(jobqueue.NotSupportedError, "job_kind", "jobs of this kind are not done for this source")
	}
	if a.job.CAConfiguration != "" && a.job.CAConfiguration != a.CAName {
		return a.refuse(jobqueue.ParameterDataInvalidError, "job_ca", "this source has no such caConfiguration")
	}
	if err := sink.Check(a.job); err != nil {
		return a.refuse(jobqueue.ParameterDataInvalidError, "job_delivery", err.Error())
	}
	kind := a.job.Key.Type
	if kind == "" {
		kind = "rsa2048"
	}
	makeKey := keyTypes[strings.ToLower(kind)]
	if makeKey == nil || !slices.Contains(a.Policy.keyTypes, strings.ToLower(kind)) {
		return a.refuse(jobqueue.ParameterDataInvalidError, string(RuleJobKey), "the key type is not allowed for this source")
	}
	key, err := makeKey()
	if err != nil {
		return TryLater(errors.New("a key cannot be made"), 0)
	}
	der, err := buildCSR(a.job, key)
	if err != nil {
		return a.refuse(jobqueue.ParameterDataInvalidError, "job_names", err.Error())
	}
	// The request is read as a device's would be: what we cannot read ourselves
	// never gets to a CA.
	csr, err := pkcs10.Parse(der)
	if err != nil {
		return a.refuse(jobqueue.ParameterDataInvalidError, "job_names", "the job's names cannot be written into a request")
	}
	if d := a.Policy.check(csr); d != nil {
		return a.refuse(resultCode(string(d.Rule)), string(d.Rule), d.Detail)
	}
	work, err := a.seal(key, der)
	if err != nil {
		return TryLater(err, 0)
	}
	a.csr = csr
	a.audit(a.Audit.Info, "issuance job accepted", zap.String("subject", clean(csr.SubjectString())))
	return Continue(work)
}

// enroll is step 2.
func (a *assignment) enroll(ctx context.Context) Ending {
	req, err := scepRequest(a.Source, a.job.Context, a.csr, a.key)
	if err != nil {
		return TryLater(err, 0)
	}
	res, err := a.Enroller.Enroll(a.Policy.mark(ctx, a.csr), req)
	switch {
	case err != nil:
		return TryLater(fmt.Errorf("enrolling for a job: %w", err), 0)
	case res.Status == scep.Pending:
		return TryLater(errors.New("the certificate is pending at the CA"), 0)
	case res.Status != scep.Success:
		rule, _, _ := strings.Cut(res.FailText, ":")
		if !plainRule(rule) {
			rule = "refused"
		}
		// Words of the CA stay in our log: the queue gets the rule.
		a.Log.Warn("the registration authority refused an issuance job", append(a.fields(), zap.String("rule", rule), zap.String("detail", clean(res.FailText)))...)
		return a.refuse(resultCode(rule), rule, "no certificate was issued")
	}
	failpoint.Hit("jobs.issue.issued")
	if a.certificate, err = x509.ParseCertificate(res.Certificate); err != nil {
		return TryLater(errors.New("the certificate that was issued cannot be read"), time.Hour)
	}
	a.audit(a.Audit.Info, "issuance job issued", zap.String("serial", a.serial()), zap.String("ca", a.CAName))
	work, err := a.withCertificate()
	if err != nil {
		return TryLater(err, 0)
	}
	return Continue(work)
}

func plainRule(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// deliver is step 3.
func (a *assignment) deliver(ctx context.Context) Ending {
	sink := a.sinks[a.job.Kind]
	if sink == nil {
		return a.abandon(ctx, jobqueue.NotSupportedError, "job_kind", "jobs of this kind are not done for this source any more")
	}
	chain, err := a.Chain(ctx)
	if err != nil {
		return TryLater(fmt.Errorf("reading the CA's chain: %w", err), 0)
	}
	out, err := sink.Deliver(ctx, Delivery{a.Source, a.job, a.key, a.certificate, chain})
	switch {
	case errors.Is(err, ErrUndeliverable):
		a.untaken = true
		return a.abandon(ctx, jobqueue.NonRetryableServiceError, "job_delivery", err.Error())
	case err != nil && a.Clock().Sub(a.journaled.AcceptedAt) > a.DeliverWithin && a.journaled.Attempts >= leastAttempts:
		return a.abandon(ctx, jobqueue.NonRetryableServiceError, "job_delivery", "the certificate could not be delivered in time")
	case err != nil:
		return TryLater(fmt.Errorf("delivering a certificate: %w", err), retryAfter(err))
	}
	payload, err := json.Marshal(out)
	if err != nil {
		return TryLater(fmt.Errorf("writing down what is delivered: %w", err), 0)
	}
	a.audit(a.Audit.Info, "issuance job done", zap.String("serial", a.serial()), zap.String("ca", a.CAName), zap.String("kind", a.job.Kind),
		zap.String("recipient", a.job.Recipient), zap.String("outcome", "issued"))
	return Done(journal.JobResult{Succeeded: true, Payload: payload, Serial: a.serial(), CA: a.CAName})
}

// abandon ends a job whose certificate, if there is one, will not leave: its
// revocation is recorded first.
func (a *assignment) abandon(ctx context.Context, code jobqueue.Code, rule, text string) Ending {
	if a.certificate == nil {
		return a.refuse(code, rule, text)
	}
	lost := Undelivered{Source: a.Source, Job: a.job, CA: a.CAName, Serial: a.serial(), Why: text}
	if !a.untaken {
		lost.Thumbprint = thumbprintOf(a.certificate)
	}
	if err := a.Revoke(ctx, lost); err != nil {
		return TryLater(fmt.Errorf("recording that a certificate must be revoked: %w", err), 0)
	}
	end := a.refuse(code, rule, text)
	end.Result.Serial, end.Result.CA = a.serial(), a.CAName
	return end
}

// refuse ends a job with a code for its source.
func (a *assignment) refuse(code jobqueue.Code, rule, text string) Ending {
	a.audit(a.Audit.Warn, "issuance job refused", zap.String("outcome", "refused"), zap.String("rule", rule), zap.Stringer("code", code), zap.String("detail", clean(text)))
	return Done(journal.JobResult{Code: int(code), Text: rule + ": " + text, Retryable: code.Retryable()})
}

// serial is the certificate's number as the journal writes it.
func (a *assignment) serial() string { return fmt.Sprintf("%X", a.certificate.SerialNumber.Bytes()) }
