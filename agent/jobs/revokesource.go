package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/intune"
)

// Cloud is what a tenant's revocations need of intune.Client.
type Cloud interface {
	DownloadRevocations(ctx context.Context, max int, issuer string) (intune.RevocationBatch, error)
	UploadRevocations(ctx context.Context, results []intune.RevocationResult) error
}

// RevocationSource is the name of a tenant's revocations as a source of jobs.
func RevocationSource(tenant string) string { return "revocations/" + tenant }

// Revocation is the content of a revocation job, as the cloud sent it.
type Revocation struct {
	Serial          string `json:"serial"`
	Issuer          string `json:"issuer,omitempty"`
	CAConfiguration string `json:"ca_configuration,omitempty"`
}

type revocations struct {
	tenant, issuer string
	cloud          Cloud
	log            *zap.Logger
}

// NewRevocations returns a tenant's revocations as a source of jobs. issuer is
// the cloud's own filter, "" for none: it was seen to drop what it should
// have kept, and each request is compared with our CAs in any case.
func NewRevocations(tenant, issuer string, cloud Cloud, log *zap.Logger) Source {
	return &revocations{tenant: tenant, issuer: issuer, cloud: cloud, log: log.With(zap.String("tenant", tenant))}
}

func (r *revocations) Name() string { return RevocationSource(r.tenant) }

func (r *revocations) Fetch(ctx context.Context, limit int) ([]journal.NewJob, error) {
	batch, err := r.cloud.DownloadRevocations(ctx, limit, r.issuer)
	if err != nil {
		return nil, fetchError(err)
	}
	for _, why := range batch.Bad {
		r.log.Warn("a revocation request was skipped: it cannot be read", zap.String("why", clean(why)), event(journal.RevokeJob, eventid.RevokeDownloadFailure))
	}
	list := make([]journal.NewJob, 0, len(batch.Requests))
	for _, q := range batch.Requests {
		content, err := json.Marshal(Revocation{Serial: q.Serial, Issuer: q.Issuer, CAConfiguration: q.CAConfiguration})
		if err != nil {
			return nil, fmt.Errorf("writing down a request: %w", err)
		}
		list = append(list, journal.NewJob{
			Kind: journal.RevokeJob, Context: q.Context, Content: content,
			Summary: clean(strings.TrimSpace("serial " + q.Serial + " of " + q.Issuer)),
		})
	}
	return list, nil
}

// fetchError tells what surely did not reach the revocation service: no
// connection, no token, no address.
func fetchError(err error) error {
	network, _ := errors.AsType[*intune.NetworkError](err)
	status, _ := errors.AsType[*intune.HTTPError](err)
	_, auth := errors.AsType[*intune.AuthError](err)
	_, unlisted := errors.AsType[*intune.ServiceNotFoundError](err)
	before := func(call string) bool { return call == "token" || call == "discovery" }
	switch {
	case errors.Is(err, intune.ErrActionGone):
		return fmt.Errorf("%w: %w", ErrGone, err)
	case auth, unlisted,
		network != nil && (network.Connect || before(network.Call)),
		status != nil && before(status.Call):
		return fmt.Errorf("%w: %w", ErrNotReached, err)
	}
	return err
}

func (r *revocations) Report(ctx context.Context, jobs []journal.Job) error {
	results := make([]intune.RevocationResult, 0, len(jobs))
	for _, j := range jobs {
		result := intune.RevocationResult{Context: j.Context, Code: intune.RevocationNonRetryableServiceError, Message: "failed"}
		switch w := j.Result; {
		case w == nil: // the journal owes no report without one
		case w.Succeeded:
			result.Succeeded, result.Code, result.Message = true, intune.RevocationNone, ""
		default:
			if w.Code != int(intune.RevocationNone) {
				result.Code = intune.RevocationCode(w.Code)
			}
			if strings.TrimSpace(w.Text) != "" {
				result.Message = w.Text
			}
		}
		results = append(results, result)
	}
	err := r.cloud.UploadRevocations(ctx, results)
	if err != nil && (intune.Final(err) || errors.Is(err, intune.ErrArgument)) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}
