package outbox

// Inherit remembers which neighbours asked the outbox of the configuration
// before to be left alone. Pauses of our own making are forgotten: the new
// configuration may have mended what was wrong. It is called before Run.
func (o *Outbox) Inherit(from *Outbox) {
	now := o.now()
	from.mu.Lock()
	defer from.mu.Unlock()
	for lane, n := range from.neighbours {
		if until, quiet := n.quiet(now); quiet {
			mine := o.neighbour(lane)
			mine.mu.Lock()
			mine.asked, mine.until, mine.pauses = until, until, 1
			mine.mu.Unlock()
		}
	}
}
