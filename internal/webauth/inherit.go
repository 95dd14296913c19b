package webauth

// Inherit takes over which sources guessed wrong lately, from the Passwords of
// the configuration before. It is called before the first request; both may be
// asked then.
func (p *Passwords) Inherit(from *Passwords) { p.failures = from.failures }
