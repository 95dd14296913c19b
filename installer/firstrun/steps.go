package firstrun

import (
	"context"
	"errors"
	"fmt"
)

// Step is one thing that is made, and how it is unmade.
type Step struct {
	Does string // as "make the local key", for a list before and for a report after
	do   func(ctx context.Context) error
	undo func() error // nil: nothing to unmake
}

// run does steps in order. When one fails, those done before are undone in
// reverse, so that the next try finds the ground as the first one did. A step
// that fails leaves nothing of its own behind.
func run(ctx context.Context, steps []Step, report func(Step)) error {
	for i, s := range steps {
		err := ctx.Err()
		if err == nil {
			err = s.do(ctx)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("cannot %s: %w", s.Does, err), undo(steps[:i]))
		}
		if report != nil {
			report(s)
		}
	}
	return nil
}

func undo(done []Step) error {
	var errs []error
	for i := len(done) - 1; i >= 0; i-- {
		if done[i].undo == nil {
			continue
		}
		if err := done[i].undo(); err != nil {
			errs = append(errs, fmt.Errorf("undoing %q: %w", done[i].Does, err))
		}
	}
	return errors.Join(errs...)
}
