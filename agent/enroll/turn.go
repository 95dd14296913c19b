package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/admission"
)

// marked says in the context who a step's calls to the CA are for: for a device
// that waits, until its request is given up; or for nobody, and then they go
// after all devices.
func (w *work) marked(ctx context.Context) context.Context {
	if !w.awaited() {
		return admission.Background(ctx)
	}
	until := w.entry.GiveUp
	// The device may have been sent away for a while before it got this far.
	if t := w.came.Deadline; w.fresh && t.Before(until) && w.now().Before(t) {
		until = t
	}
	return admission.Until(ctx, until)
}

// awaited tells whether a device waits for this entry, or may come back for it
// while its challenge lives. A parked request has been seen by the device as
// PENDING and waits for a person: only who asks for it right now waits.
func (w *work) awaited() bool {
	switch {
	case w.p.Jobs, w.came.Class == admission.Job, w.tooLate():
		return false
	case w.entry.State == journal.Parked:
		return w.hub.watched(w.entry.ID)
	}
	return true
}

// errNoTurn says that the CA was not asked.
var errNoTurn = errors.New("no turn at the CA")

// backgroundPatience is how long a call that nobody waits for may wait for its
// turn: the settle worker takes up no other work before.
const backgroundPatience = 3 * time.Second

// inTurn makes one call to the CA that is not Issue, which takes a turn itself.
func (w *work) inTurn(ctx context.Context, call func(context.Context) (*ca.Issued, error)) (*ca.Issued, error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.SubmitWithin)
	defer cancel()
	waiting := ctx
	if admission.IsBackground(ctx) {
		var stop context.CancelFunc
		waiting, stop = context.WithTimeout(ctx, backgroundPatience)
		defer stop()
	}
	leave, err := ca.Turn(waiting, w.p.CA)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTurn, err)
	}
	defer leave()
	return call(ctx)
}
