package embedded_test

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
)

// successor is a CA in the place of the one of publishingCA.
func successor(t *testing.T, at *clock, change func(*embedded.Config)) (before, after *embedded.CA) {
	t.Helper()
	var cfg embedded.Config
	before, _ = publishingCA(t, at, func(c *embedded.Config) { cfg = *c })
	if change != nil {
		change(&cfg)
	}
	return before, mustOpen(t, cfg)
}

func TestListsNeverGoBackwardsUnderASuccessor(t *testing.T) {
	for name, change := range map[string]func(*embedded.Config){
		"as before":      nil,
		"with more life": func(c *embedded.Config) { c.CRLValidity = 9 * day },
	} {
		t.Run(name, func(t *testing.T) {
			at := startOf2031()
			before, after := successor(t, at, change)
			wantFull(t, before, 1, 0)
			defer after.Inherit(before)()
			prepared := currentCRL(t, after).Number.Int64()
			// The last revocation by the one before: its list is shown already.
			if err := before.Revoke(t.Context(), issueOne(t, before).SerialNumber, ca.KeyCompromise); err != nil {
				t.Fatal(err)
			}
			wantFull(t, before, prepared+1, 1)
			wantFull(t, after, prepared+2, 1)
		})
	}
}

func TestSuccessorIsNotToldAfterItsEnd(t *testing.T) {
	at := startOf2031()
	before, after := successor(t, at, nil)
	stop := after.Inherit(before)
	wantFull(t, after, 1, 0)
	stop()
	issueRevoked(t, before)
	wantFull(t, after, 1, 0) // until it looks by itself
}

func TestDeltaListCompletesThoseOfTheCABefore(t *testing.T) {
	at := startOf2031()
	before, after := successor(t, at, nil)
	wantFull(t, before, 1, 0)
	issueRevoked(t, before)
	wantFull(t, before, 2, 1)
	defer after.Inherit(before)()
	wantFull(t, after, 2, 1) // the same list
	at.at = at.at.Add(time.Hour)
	issueRevoked(t, after)
	wantDelta(t, after, 3, 1, 2)

	// Lists with other addresses are made anew.
	_, other := successor(t, at, func(c *embedded.Config) { c.DeltaCRLURLs = []string{"http://other.example/delta.crl"} })
	defer other.Inherit(before)()
	if _, base := currentDelta(t, other); base != currentCRL(t, other).Number.Int64() {
		t.Errorf("the delta list is of %d", base)
	}
}
