package outbox

import "github.com/certconnector/certconnector/agent/journal"

// Ending is how one delivery ended, as metrics count it.
type Ending string

// The endings.
const (
	EndedTaken   Ending = "taken"
	EndedRefused Ending = "refused"  // for good
	EndedLater   Ending = "later"    // not taken this time: it is tried again
	EndedGivenUp Ending = "given_up" // nobody waits for it any more; maybe without an attempt
)

// Endings are all there are.
var Endings = []Ending{EndedTaken, EndedRefused, EndedLater, EndedGivenUp}

// public is what is told of an ending.
func (e ending) public() Ending {
	switch {
	case e.later != nil:
		return EndedLater
	case e.outcome == journal.Taken:
		return EndedTaken
	case e.outcome == journal.RefusedForGood:
		return EndedRefused
	}
	return EndedGivenUp
}

func (o *Outbox) observe(d journal.Debt, e Ending) {
	if o.Observe != nil {
		o.Observe(d.Lane(), e)
	}
}
