package entra

// DieAt calls f at every point of a change at which a test may die.
func (s *Store) DieAt(f func(point string)) { s.crash = f }
