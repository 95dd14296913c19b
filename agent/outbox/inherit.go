package outbox

import "github.com/certconnector/certconnector/agent/journal"

// Inherit remembers which neighbours asked the outbox of the configuration
// before to be left alone. Pauses of our own making are forgotten: the new
// configuration may have mended what was wrong; so are those of neighbours that
// are not the same any more. It is called before the first delivery.
func (o *Outbox) Inherit(from *Outbox, same func(journal.Lane) bool) {
	now := o.now()
	from.mu.Lock()
	defer from.mu.Unlock()
	for lane, n := range from.neighbours {
		if until, quiet := n.quiet(now); quiet && same(lane) {
			mine := o.neighbour(lane)
			mine.mu.Lock()
			mine.asked, mine.until, mine.pauses = until, until, 1
			mine.mu.Unlock()
		}
	}
}
