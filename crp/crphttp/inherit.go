package crphttp

// Inherit takes over how often front ends failed under the configuration
// before. It is called before the first request; both may serve then.
func (h *Handler) Inherit(from *Handler) { h.failures.buckets = from.failures.buckets }
