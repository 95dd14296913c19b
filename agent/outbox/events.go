package outbox

import (
	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/eventid"
)

// event numbers a line about a notification as Microsoft's connector does; a
// revocation has no number there.
func event(d journal.Debt, id eventid.Intune) zap.Field {
	if d.Kind == journal.OweRevocation {
		return zap.Skip()
	}
	return id.Field()
}

// settledEvent is the event of a request whose notification has ended.
func settledEvent(kind journal.DebtKind, outcome journal.DebtOutcome) eventid.Intune {
	switch {
	case outcome != journal.Taken:
		return eventid.NotNotified
	case kind == journal.OweFailure:
		return eventid.FailureNotified
	}
	return eventid.RequestNotified
}

// notifyState says in audit lines how a notification ended.
func notifyState(kind journal.DebtKind, outcome journal.DebtOutcome) string {
	switch {
	case kind == journal.OweRevocation:
		return "none"
	case outcome == journal.Taken:
		return "taken"
	case outcome == journal.RefusedForGood:
		return "refused"
	}
	return "given up"
}
