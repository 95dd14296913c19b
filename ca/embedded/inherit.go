package embedded

import "slices"

// Inherit has a CA go on with the revocation lists of one of the same name that
// it takes the place of, over the same register. What the other one revokes is
// news for this one too, until stop is called. Lists that are still right are
// handed out again, and delta lists complete the full ones that the other made.
// It is called before the first list is asked for; both may be used then.
func (c *CA) Inherit(from *CA) (stop func()) {
	stop = from.watch(c.forgetCRL)
	from.crlMu.Lock()
	published, anchors, looked, stale := from.published.Load(), slices.Clone(from.anchors), from.crlLooked, from.crlStale
	from.crlMu.Unlock()
	c.crlMu.Lock()
	defer c.crlMu.Unlock()
	if c.makesListsAs(from) && published != nil {
		c.published.Store(published)
		c.anchors, c.crlLooked, c.crlStale = anchors, looked, c.crlStale || stale
	}
	return stop
}

// makesListsAs tells whether two CAs make the same lists of the same entries.
func (c *CA) makesListsAs(other *CA) bool {
	return c.name == other.name && c.cert.Equal(other.cert) && c.crlValidity == other.crlValidity && c.deltaValidity == other.deltaValidity &&
		slices.Equal(c.crlURLs, other.crlURLs) && slices.Equal(c.deltaURLs, other.deltaURLs)
}
