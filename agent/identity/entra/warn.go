package entra

import (
	"time"

	"go.uber.org/zap"
)

// thresholds are the days before the end at which Tend warns.
var thresholds = []int{60, 30, 14, 7}

// warn says, once a threshold, that the certificate ends and nothing has replaced it.
func (s *Store) warn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Clock()
	g := s.current(now)
	if g == nil {
		if g = s.pending(now); g == nil {
			return
		}
	}
	left := g.Certificate.NotAfter.Sub(now)
	reached := 0
	for _, days := range thresholds {
		if left <= time.Duration(days)*day {
			reached = days
		}
	}
	if reached == 0 || s.warnedAt[g.Generation] == reached {
		return
	}
	s.warnedAt[g.Generation] = reached
	problem := ""
	if p := s.pending(now); p != nil && p != g {
		problem = p.Problem
	}
	s.Log.Warn("the Entra certificate ends soon and has no successor that works", zap.String("tenant", s.Tenant), zap.Int("generation", g.Generation),
		zap.Time("not_after", g.Certificate.NotAfter), zap.Int("days", int(left/day)), zap.String("problem", problem))
}
