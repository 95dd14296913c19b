package agent

import "time"

// SetRetirement shortens the time that an old Agent's work may go on.
func (s *Service) SetRetirement(d time.Duration) { s.retirement = d }
