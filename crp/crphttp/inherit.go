package crphttp

// Inherit takes over how often front ends failed under the configuration
// before, and shares with it what is under way: identical questions are joined,
// and outcomes of one challenge wait for each other, whichever of the two they
// reach. It is called before the first request; both may serve then.
func (h *Handler) Inherit(from *Handler) {
	h.failures.buckets = from.failures.buckets
	h.asking, h.telling = from.asking, from.telling
}
