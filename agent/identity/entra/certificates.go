package entra

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Certificates returns what to sign in with, the best first: those that have
// worked, newest first, then those that have not yet. So a new one costs no
// sign-in before a token was had with it, and the old one is still there when
// a replica of Entra has not heard of the new one. Expired ones are left out.
func (s *Store) Certificates() []Credential {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Clock()
	var working, other []Credential
	for _, g := range slices.Backward(s.list) {
		switch {
		case !g.live(now):
		case g.State == Working:
			working = append(working, g.Credential)
		default:
			other = append(other, g.Credential)
		}
	}
	return append(working, other...)
}

// markWorking records that a token was had. The caller holds mu.
func (s *Store) markWorking(g *generation) error {
	now := s.Clock().UTC()
	g.State, g.WorkedAt = Working, now
	if g.RegisteredAt.IsZero() {
		g.RegisteredAt = now
	}
	s.settle(g)
	err := s.save(g)
	s.Audit.Info("Entra certificate works", zap.String("tenant", s.Tenant), zap.Int("generation", g.Generation), zap.String("sha256", g.Fingerprint))
	s.Log.Info("a token was had with the new Entra certificate", zap.String("tenant", s.Tenant), zap.Int("generation", g.Generation))
	return err
}

// settle forgets the attempts of a step that is done.
func (s *Store) settle(g *generation) {
	g.Attempts, g.NextAt, g.Problem, g.ByHand = 0, g.MadeAt, "", false
}

// postpone records a failed attempt and when to try next. The caller holds mu.
func (s *Store) postpone(g *generation, cause error) error {
	g.Attempts++
	g.ByHand = errors.Is(cause, ErrByHand)
	delay := min(s.Retries.Delay(g.Attempts), longest)
	if now := s.Clock(); g.ByHand && now.Sub(g.MadeAt) > day { // each try is a line in Entra's sign-in log
		delay = max(delay, time.Hour)
	}
	g.NextAt = s.Clock().UTC().Add(delay)
	g.Problem = cause.Error()
	return s.save(g)
}
