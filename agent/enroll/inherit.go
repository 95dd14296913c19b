package enroll

// Inherit shares with the registration authority of the configuration before
// what is between requests: identical ones in flight are joined whichever of
// the two they reach, an exchange that one holds hears of what the workers of
// the other do, and refusals stay known to "trace". It is called before the
// first request, on a Registration with the same journal.
func (r *Registration) Inherit(from *Registration) {
	r.hub, r.admitting, r.recent = from.hub, from.admitting, from.recent
}
