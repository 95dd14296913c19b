// Package steps carries out what an installation consists of: a list of steps
// that can be shown before they are done, that are left out where there is
// nothing to do, and that are undone when a later one fails.
package steps

import (
	"context"
	"errors"
	"fmt"
)

// Step is one thing that is made or removed, and how that is taken back.
type Step struct {
	// Does says it as "make the local key", for a list before and a report after.
	Does string
	// Holds reports whether everything is already as the step would leave it:
	// then it is neither done nor undone. nil: it is always done.
	Holds func(ctx context.Context) (bool, error)
	// Do does it. A step that fails leaves nothing of its own behind.
	Do func(ctx context.Context) error
	// Undo takes back what Do did. nil: there is nothing to take back.
	Undo func() error
}

// State is what became of a step, or what would.
type State string

// What becomes of steps.
const (
	ToDo    State = "to do"
	Done    State = "done"
	Already State = "already so"
)

// Planned is a step as a list shows it.
type Planned struct {
	Does  string `json:"does"`
	State State  `json:"state"`
}

// Plan tells what Run would do now. It changes nothing.
func Plan(ctx context.Context, list []Step) ([]Planned, error) {
	out := make([]Planned, len(list))
	for i, s := range list {
		holds, err := s.holds(ctx)
		if err != nil {
			return nil, err
		}
		out[i] = Planned{s.Does, ToDo}
		if holds {
			out[i].State = Already
		}
	}
	return out, nil
}

// Run does steps in order and calls report, which may be nil, after each. When
// one fails, those that were done before are undone in reverse, so that the
// next try finds the ground as the first one did.
func Run(ctx context.Context, list []Step, report func(Planned)) error {
	var done []Step
	for _, s := range list {
		state, err := s.run(ctx)
		if err != nil {
			return errors.Join(fmt.Errorf("cannot %s: %w", s.Does, err), undo(done))
		}
		if state == Done {
			done = append(done, s)
		}
		if report != nil {
			report(Planned{s.Does, state})
		}
	}
	return nil
}

func (s Step) run(ctx context.Context) (State, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if holds, err := s.holds(ctx); err != nil || holds {
		return Already, err
	}
	return Done, s.Do(ctx)
}

func (s Step) holds(ctx context.Context) (bool, error) {
	if s.Holds == nil {
		return false, nil
	}
	return s.Holds(ctx)
}

func undo(done []Step) error {
	var errs []error
	for i := len(done) - 1; i >= 0; i-- {
		if done[i].Undo == nil {
			continue
		}
		if err := done[i].Undo(); err != nil {
			errs = append(errs, fmt.Errorf("undoing %q: %w", done[i].Does, err))
		}
	}
	return errors.Join(errs...)
}
