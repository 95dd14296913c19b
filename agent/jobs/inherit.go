package jobs

// Inherit takes over what the pollers of the configuration before know and no
// journal does: how long a source wants to be left alone, which questions did
// not reach it, and a batch that could not be recorded. A question that did not
// get there is asked again at once: the new configuration may have mended what
// was wrong. It is called before Run, once that of the other one has returned.
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
		if !before.retryAt.IsZero() {
			p.retryAt = j.now()
		}
	}
}
