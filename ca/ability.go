package ca

// Roads is an Authority that reaches one CA by several roads: issuing by one,
// revoking by another. It has itself none of the optional interfaces; Ability
// finds the first road that has.
type Roads interface {
	Authority
	// Roads returns the bridges to the same CA, the preferred one first.
	Roads() []Authority
}

// Ability returns an Authority's optional interface T (Revoker, Collector,
// Finder, Checker, Publisher, Approver), its own or that of the first road
// which has it.
func Ability[T any](a Authority) (T, bool) {
	if t, ok := a.(T); ok {
		return t, true
	}
	if r, ok := a.(Roads); ok {
		for _, road := range r.Roads() {
			if t, ok := Ability[T](road); ok {
				return t, true
			}
		}
	}
	var none T
	return none, false
}
