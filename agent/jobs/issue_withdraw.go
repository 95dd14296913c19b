package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
)

// withdrawWithin bounds one attempt to take a certificate back.
const withdrawWithin = 30 * time.Second

// Withdrawer is a Sink that can take back what it handed over.
type Withdrawer interface {
	Sink
	// Withdraw takes back the certificate of a job. That it was never handed
	// over is no error.
	Withdraw(ctx context.Context, job jobqueue.Job, thumbprint string) error
}

// Withdrawing returns a Revoke for IssueConfig and QueueConfig that lets revoke
// record the revocation, and then takes the certificate back from where it may
// have been handed over: a device would be given one that is revoked. That is
// tried once, and again only when it was cut off; what is left is for a person,
// who is told.
func Withdrawing(revoke func(context.Context, Undelivered) error, sinks []Sink, log *zap.Logger) func(context.Context, Undelivered) error {
	return func(ctx context.Context, u Undelivered) error {
		if err := revoke(ctx, u); err != nil {
			return err
		}
		if u.Thumbprint == "" || u.Job.Kind != jobqueue.KindImportedPFX {
			return nil
		}
		fields := []zap.Field{zap.String("source", u.Source), zap.String("serial", u.Serial), zap.String("thumbprint", u.Thumbprint)}
		err := takeBack(ctx, sinks, u)
		switch {
		case err != nil && ctx.Err() != nil: // the service stops, or the configuration is replaced
			return fmt.Errorf("taking back a certificate that is being revoked: %w", err)
		case err != nil:
			log.Error("a certificate that is being revoked may still be imported; delete it in Microsoft Graph (userPfxCertificates)",
				append(fields, zap.Error(err))...)
		default:
			log.Info("no import is left of a certificate that is being revoked", fields...)
		}
		return nil
	}
}

func takeBack(ctx context.Context, sinks []Sink, u Undelivered) error {
	ctx, cancel := context.WithTimeout(ctx, withdrawWithin)
	defer cancel()
	for _, s := range sinks {
		if w, ok := s.(Withdrawer); ok && w.Kind() == u.Job.Kind {
			return w.Withdraw(ctx, u.Job, u.Thumbprint)
		}
	}
	return errors.New("this source is not configured to import any more")
}

// Withdraw deletes the import.
func (s *imported) Withdraw(ctx context.Context, job jobqueue.Job, thumbprint string) error {
	upn, ok := userOf(job)
	if !ok {
		return errors.New("the job names no single user")
	}
	userID, err := s.Graph.UserID(ctx, upn)
	if err != nil { // who is not found may have another name by now
		return fmt.Errorf("looking the user up: %w", err)
	}
	return s.Graph.DeletePFX(ctx, userID, thumbprint)
}
