package scephttp

// Inherit takes over what the handler of the configuration before knows of
// sources and transactions: who failed too often goes on being turned away, and
// who was sent away keeps the place of the first time. Limits that differ apply
// from now on. It is called before the first request; both may serve then.
func (h *Handler) Inherit(from *Handler) {
	if h.failures != nil && from.failures != nil && h.limits.Sources == from.limits.Sources {
		h.failures.sources, h.failures.opening = from.failures.sources, from.failures.opening
	}
	if h.limits.ChallengeLife == from.limits.ChallengeLife && h.limits.Transactions == from.limits.Transactions {
		h.transactions = from.transactions
	}
}
