package admission_test

import (
	"context"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/admission"
)

func TestMarks(t *testing.T) {
	ctx := t.Context()
	if admission.IsBackground(ctx) || admission.TicketOf(ctx) != (admission.Ticket{}) {
		t.Error("a plain context is marked")
	}
	at := time.Now().Add(time.Hour)
	ctx = admission.Until(admission.Background(ctx), at)
	got, ok := admission.Deadline(context.WithoutCancel(ctx))
	if !admission.IsBackground(ctx) || !ok || !got.Equal(at) {
		t.Errorf("%v %v", got, ok)
	}
	if ticket := admission.TicketOf(ctx); ticket.Class != admission.Job || !ticket.Deadline.Equal(at) {
		t.Errorf("%+v", ticket)
	}
}

func TestCounts(t *testing.T) {
	var c admission.Counts[string]
	for i, want := range []bool{true, true, false} {
		if c.Enter("a", 2) != want {
			t.Errorf("entry %d of two: %v", i+1, !want)
		}
	}
	if !c.Enter("b", 1) || c.Enter("none", 0) {
		t.Error("counted wrong")
	}
	if c.Leave("a"); !c.Enter("a", 2) {
		t.Error("one left, and there is no room")
	}
}
