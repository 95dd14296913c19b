package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/intune"
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
// record the revocation, and then takes the certificate back from where it was
// handed over: a device would be given one that is revoked. Taking it back is
// tried once; what is left is for a person, who is told.
func Withdrawing(revoke func(context.Context, Undelivered) error, sinks []Sink, log *zap.Logger) func(context.Context, Undelivered) error {
	return func(ctx context.Context, u Undelivered) error {
		if err := revoke(ctx, u); err != nil {
			return err
		}
		for _, s := range sinks {
			if w, ok := s.(Withdrawer); ok && w.Kind() == u.Job.Kind {
				takeBack(ctx, w, u, log.With(zap.String("source", u.Source), zap.String("serial", u.Serial), zap.String("thumbprint", u.Thumbprint)))
			}
		}
		return nil
	}
}

func takeBack(ctx context.Context, w Withdrawer, u Undelivered, log *zap.Logger) {
	ctx, cancel := context.WithTimeout(ctx, withdrawWithin)
	defer cancel()
	if err := w.Withdraw(ctx, u.Job, u.Thumbprint); err != nil {
		log.Error("a certificate that is being revoked could not be taken back; delete it in Microsoft Graph (userPfxCertificates)", zap.Error(err))
		return
	}
	log.Info("a certificate that is being revoked was taken back")
}

// Withdraw deletes the import.
func (s *imported) Withdraw(ctx context.Context, job jobqueue.Job, thumbprint string) error {
	upn, ok := userOf(job)
	if !ok {
		return nil // nothing is imported for nobody
	}
	userID, err := s.Graph.UserID(ctx, upn)
	if errors.Is(err, intune.ErrNotFound) {
		return nil // an import ends with its user
	}
	if err != nil {
		return fmt.Errorf("looking the user up: %w", err)
	}
	return s.Graph.DeletePFX(ctx, userID, thumbprint)
}
