package crp

// Inherit takes over the verdicts that the registration point of the same
// tenant remembers under the configuration before: whether Intune grants a
// repeated request twice is not documented. It is called before the first
// question; both may be asked then.
func (p *Point) Inherit(from *Point) { p.memory = from.memory }
