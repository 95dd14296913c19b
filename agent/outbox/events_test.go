package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/outbox"
	"github.com/certconnector/certconnector/policymodule"
)

// fullDisk is a journal that cannot record how a delivery ended.
type fullDisk struct{ journal.Debts }

func (fullDisk) SettleDebt(context.Context, journal.Debt, journal.Settlement) (journal.Entry, error) {
	return journal.Entry{}, errors.New("no space left on device")
}

// TestLinesHaveIntuneEvents: the lines about notifications have the numbers
// that Microsoft's connector has for them, and those about revocations none.
func TestLinesHaveIntuneEvents(t *testing.T) {
	refuse := func(policymodule.Outcome) error { return policymodule.ErrNotifyRefused }
	for name, tc := range map[string]struct {
		owe  journal.DebtKind
		fail func(policymodule.Outcome) error
		full bool
		want []string
	}{
		"success taken":      {journal.OweSuccess, nil, false, []string{"notification taken 4008", "owed and settled 4000"}},
		"failure taken":      {journal.OweFailure, nil, false, []string{"notification taken 4008", "owed and settled 4001"}},
		"success refused":    {journal.OweSuccess, refuse, false, []string{"owed and settled 4002", "owed and settled <nil>"}},
		"failure refused":    {journal.OweFailure, refuse, false, []string{"owed and settled 4002"}},
		"success not taken":  {journal.OweSuccess, func(policymodule.Outcome) error { return errors.New("500") }, false, []string{"a delivery failed and is tried again 4009"}},
		"disk full":          {journal.OweSuccess, nil, true, []string{"a delivery could not be recorded; it is repeated when its lease ends 4010"}},
		"revocation is none": {journal.OweRevocation, nil, false, []string{"owed and settled <nil>"}},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zapcore.InfoLevel)
			watch := func(c *outbox.Config) {
				c.Log, c.Audit = zap.New(core), zap.New(core)
				if tc.full {
					c.Journal = fullDisk{c.Journal}
				}
			}
			inWorld(t, watch, func(t *testing.T, w *world) {
				w.n.fail = tc.fail
				w.owe("corp", tc.owe)
				w.later(5 * time.Second)
			})
			var got []string
			for _, line := range logs.All() {
				if text := fmt.Sprint(line.Message, " ", line.ContextMap()["intune_event"]); !slices.Contains(got, text) &&
					line.Message != "the cloud refused a success notification for good; the certificate is revoked" && line.Message != "a failure notification was refused" {
					got = append(got, text)
				}
			}
			if slices.Sort(got); !slices.Equal(got, tc.want) {
				t.Errorf("lines %q, want %q", got, tc.want)
			}
		})
	}
}
