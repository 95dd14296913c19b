package steps_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/installer/steps"
)

// ground is what steps change.
type ground struct{ things []string }

func (g *ground) step(name string) steps.Step {
	return steps.Step{
		Does:  "make " + name,
		Holds: func(context.Context) (bool, error) { return slices.Contains(g.things, name), nil },
		Do: func(context.Context) error {
			g.things = append(g.things, name)
			return nil
		},
		Undo: func() error {
			if i := len(g.things) - 1; i >= 0 && g.things[i] == name {
				g.things = g.things[:i]
				return nil
			}
			return errors.New("something else was undone before")
		},
	}
}

func TestRunLeavesOutWhatHolds(t *testing.T) {
	g := &ground{things: []string{"b"}}
	list := []steps.Step{g.step("a"), g.step("b"), {Does: "say so", Do: func(context.Context) error { return nil }}}
	planned, err := steps.Plan(t.Context(), list)
	if err != nil || len(g.things) != 1 {
		t.Fatalf("a plan changed something: %v, %v", g.things, err)
	}
	var reported []steps.Planned
	if err := steps.Run(t.Context(), list, func(p steps.Planned) { reported = append(reported, p) }); err != nil {
		t.Fatal(err)
	}
	if want := []steps.State{steps.ToDo, steps.Already, steps.ToDo}; !slices.Equal(states(planned), want) {
		t.Errorf("planned %v", planned)
	}
	if want := []steps.State{steps.Done, steps.Already, steps.Done}; !slices.Equal(states(reported), want) {
		t.Errorf("reported %v", reported)
	}
	if !slices.Equal(g.things, []string{"b", "a"}) {
		t.Errorf("made %v", g.things)
	}
}

func states(list []steps.Planned) []steps.State {
	var out []steps.State
	for _, p := range list {
		out = append(out, p.State)
	}
	return out
}

func TestRunUndoesInReverseWhatItDid(t *testing.T) {
	broken := errors.New("no space left")
	fails := steps.Step{Does: "make c", Do: func(context.Context) error { return broken }}
	g := &ground{things: []string{"there before"}}
	err := steps.Run(t.Context(), []steps.Step{g.step("a"), g.step("there before"), g.step("b"), fails}, nil)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "cannot make c") {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(g.things, []string{"there before"}) {
		t.Errorf("left behind %v", g.things)
	}
	stuck := g.step("d")
	stuck.Undo = func() error { return errors.New("still in use") }
	err = steps.Run(t.Context(), []steps.Step{stuck, fails}, nil)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), `undoing "make d": still in use`) {
		t.Errorf("what could not be undone is not told: %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := &ground{}
	last := g.step("b")
	first := g.step("a")
	do := first.Do
	first.Do = func(ctx context.Context) error { cancel(); return do(ctx) }
	if err := steps.Run(ctx, []steps.Step{first, last}, nil); !errors.Is(err, context.Canceled) || len(g.things) != 0 {
		t.Errorf("an interrupt left %v: %v", g.things, err)
	}
}
