package jobs

import "time"

// Inherit takes over what the pollers of the configuration before know and no
// journal does: how long a source wants to be left alone, which questions did
// not reach it, a batch that could not be recorded, and what an operator should
// look at. A question that did not get there is asked again at once, unless the
// source wants to be left alone: the new configuration may have mended what was
// wrong. It is called before Run, once that of the other one has returned.
func (j *Jobs) Inherit(from *Jobs) {
	known := map[string]*poller{}
	for _, p := range from.pollers {
		known[p.name] = p
	}
	for _, p := range j.pollers {
		before := known[p.name]
		if before == nil || before.Kind != p.Kind {
			continue
		}
		p.rest, p.asked, p.missed, p.batch = before.rest, before.asked, before.missed, before.batch
		if p.alone = before.alone; !before.retryAt.IsZero() {
			p.retryAt = later(j.now(), before.alone)
		}
		p.setHealth(func(h *health) {
			before.setHealth(func(b *health) {
				h.good, h.gone, h.stuck, h.stale, h.full, h.lastErr = b.good, b.gone, b.stuck, b.stale, b.full, b.lastErr
			})
		})
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
