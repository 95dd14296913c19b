package entra

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// tendEvery is how often Run looks. It costs a few small files; Entra is asked
// when something is due.
const tendEvery = time.Minute

// Run tends the certificate once a minute until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	said := ""
	for ctx.Err() == nil {
		err := s.Tend(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && err.Error() != said: // once, not every minute
			said = err.Error()
			s.Log.Warn("the Entra certificate needs something", zap.String("tenant", s.Tenant), zap.String("problem", said))
		case err == nil && !s.troubled():
			said = ""
		}
		_ = s.Wait(ctx, tendEvery) // the loop ends with ctx
	}
	return nil
}

// troubled says that a step waits for its next attempt, or for a person.
func (s *Store) troubled() bool {
	for _, item := range s.Items() {
		if item.Problem != "" {
			return true
		}
	}
	return false
}
