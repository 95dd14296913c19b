package journaltest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/policymodule"
)

// Verdicts runs the contract of policymodule.Verdicts over a store's Verdicts.
// newHarness is called once a test.
func Verdicts(t *testing.T, newHarness func(t *testing.T, clock func() time.Time) Harness) {
	open := func(t *testing.T) *fixture { return newFixture(t, newHarness) }
	t.Run("grants", func(t *testing.T) { testGrants(t, open) })
	t.Run("outcomes", func(t *testing.T) { testOutcomes(t, open) })
	t.Run("issued", func(t *testing.T) { testIssuedChallenge(t, open) })
	t.Run("endpoints of the same journal", func(t *testing.T) { testGrantsAndEntries(t, open) })
	t.Run("kept", func(t *testing.T) { testVerdictsKept(t, open) })
	t.Run("one challenge at once", func(t *testing.T) { testGrantRace(t, open) })
	t.Run("two certificates at once", func(t *testing.T) { testOutcomeRace(t, open) })
	t.Run("restart", func(t *testing.T) { verdictsSurvive(t, open(t), (*fixture).reopen) })
	t.Run("power failure", func(t *testing.T) {
		f := open(t)
		if f.h.PowerFail == nil {
			t.Skip("this store cannot be made to suffer a power failure")
		}
		verdictsSurvive(t, f, (*fixture).powerFail)
	})
}

// verdict is a grant for the device name, made now.
func (f *fixture) verdict(name string) policymodule.Verdict {
	return policymodule.Verdict{
		VerdictKey:  policymodule.VerdictKey{Caller: "ndes1", Tenant: "contoso", TransactionID: "tx-" + name, CSRDigest: digest("csr " + name)},
		ChallengeID: "challenge-" + name, CSRKey: digest("key " + name), NameDigest: digest("names " + name), At: f.clock(),
	}
}

// grant records a verdict that must be given.
func (f *fixture) grant(v policymodule.Verdict) policymodule.Verdict {
	f.t.Helper()
	got, err := f.Verdicts.GrantVerdict(f.t.Context(), v)
	if err != nil {
		f.t.Fatalf("grant of %s: %v", v.TransactionID, err)
	}
	return got
}

// settle records an outcome that must be taken.
func (f *fixture) settle(v policymodule.Verdict, outcome string, thumbprint [32]byte) {
	f.t.Helper()
	if err := f.Verdicts.SettleVerdict(f.t.Context(), v.VerdictKey, outcome, thumbprint, f.clock()); err != nil {
		f.t.Fatalf("settling %s: %v", v.TransactionID, err)
	}
}

func (f *fixture) wantVerdict(want policymodule.Verdict) {
	f.t.Helper()
	got, err := f.Verdicts.FindVerdict(f.t.Context(), want.VerdictKey)
	if err != nil {
		f.t.Errorf("verdict of %s: %v", want.TransactionID, err)
		return
	}
	compareVerdicts(f.t, got, want)
}

func compareVerdicts(t *testing.T, got, want policymodule.Verdict) {
	t.Helper()
	if !got.At.Equal(want.At) || !got.OutcomeAt.Equal(want.OutcomeAt) {
		t.Errorf("verdict of %s: given at %v, settled at %v; want %v and %v", want.TransactionID, got.At, got.OutcomeAt, want.At, want.OutcomeAt)
	}
	got.At, got.OutcomeAt = want.At, want.OutcomeAt
	if got != want {
		t.Errorf("verdict of %s:\ngot  %+v\nwant %+v", want.TransactionID, got, want)
	}
}

func testGrants(t *testing.T, open func(*testing.T) *fixture) {
	other := digest("other")
	none := func(v *policymodule.Verdict) { v.ChallengeID = "" }
	rows := []struct {
		name          string
		first, second func(*policymodule.Verdict)
		spent         bool
	}{
		{"the same grant again", nil, nil, false},
		{"another transaction with equal key and names", nil, func(v *policymodule.Verdict) { v.TransactionID = "tx-other" }, false},
		{"another CSR with equal key and names", nil, func(v *policymodule.Verdict) { v.CSRDigest = other }, false},
		{"another caller", nil, func(v *policymodule.Verdict) { v.Caller = "ndes2" }, true},
		{"another tenant", nil, func(v *policymodule.Verdict) { v.Tenant = "fabrikam" }, true},
		{"another CSR key", nil, func(v *policymodule.Verdict) { v.CSRDigest, v.CSRKey = other, other }, true},
		{"other names", nil, func(v *policymodule.Verdict) { v.CSRDigest, v.NameDigest = other, other }, true},
		{"another CSR key under the same verdict key", nil, func(v *policymodule.Verdict) { v.CSRKey = other }, true},
		{"another challenge under the same verdict key", nil, func(v *policymodule.Verdict) { v.ChallengeID = "challenge-other" }, true},
		{"another challenge", nil, func(v *policymodule.Verdict) {
			v.CSRDigest, v.CSRKey, v.NameDigest, v.ChallengeID = other, other, other, "challenge-other"
		}, false},
		{"caller and tenant do not run together", func(v *policymodule.Verdict) { none(v); v.Caller, v.Tenant = "ab", "c" },
			func(v *policymodule.Verdict) { none(v); v.Caller, v.Tenant, v.CSRKey = "a", "bc", other }, false},
		{"no challenge, again", none, none, false},
		{"no challenge binds no key", none, func(v *policymodule.Verdict) { none(v); v.CSRDigest, v.CSRKey = other, other }, false},
		{"no challenge binds no caller", none, func(v *policymodule.Verdict) { none(v); v.Caller, v.CSRKey = "ndes2", other }, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := open(t)
			first := f.verdict("a")
			if row.first != nil {
				row.first(&first)
			}
			compareVerdicts(t, f.grant(first), first)
			f.pass(time.Minute)
			second := f.verdict("a")
			if row.second != nil {
				row.second(&second)
			}
			got, err := f.Verdicts.GrantVerdict(t.Context(), second)
			f.wantVerdict(first)
			if row.spent {
				wantError(t, "second grant", err, policymodule.ErrVerdictSpent)
				if second.VerdictKey != first.VerdictKey {
					_, err = f.Verdicts.FindVerdict(t.Context(), second.VerdictKey)
					wantError(t, "the grant that was refused", err, policymodule.ErrNoVerdict)
				}
				return
			}
			if second.VerdictKey == first.VerdictKey {
				second.At = first.At
			}
			if err != nil {
				t.Fatalf("second grant: %v", err)
			}
			compareVerdicts(t, got, second)
			f.wantVerdict(second)
		})
	}
}

func testOutcomes(t *testing.T, open func(*testing.T) *fixture) {
	const (
		issued = policymodule.OutcomeIssued
		failed = policymodule.OutcomeFailed
	)
	type outcome struct {
		transaction string // "" is that of the first grant
		what        string
		certificate string
		refused     bool
	}
	rows := []struct {
		name     string
		outcomes []outcome
	}{
		{"issued twice", []outcome{{"", issued, "c", false}, {"", issued, "c", false}}},
		{"failed twice", []outcome{{"", failed, "", false}, {"", failed, "", false}}},
		{"a second certificate", []outcome{{"", issued, "c", false}, {"", issued, "d", true}}},
		{"failed after issued", []outcome{{"", issued, "c", false}, {"", failed, "", true}}},
		{"issued after failed", []outcome{{"", failed, "", false}, {"", issued, "c", true}}},
		{"issued in another transaction after failed", []outcome{{"", failed, "", false}, {"other", issued, "c", false}}},
		{"the same certificate in two transactions", []outcome{{"", issued, "c", false}, {"other", issued, "c", false}}},
		{"a second certificate in another transaction", []outcome{{"", issued, "c", false}, {"other", issued, "d", true}, {"other", issued, "c", false}}},
		{"failed in another transaction after issued", []outcome{{"", issued, "c", false}, {"other", failed, "", true}}},
		{"failed, issued, and the first reported again", []outcome{{"", failed, "", false}, {"other", issued, "c", false}, {"", failed, "", false}}},
		{"failed in two transactions", []outcome{{"", failed, "", false}, {"other", failed, "", false}}},
		{"an outcome that there is not", []outcome{{"", "", "", true}, {"", "lost", "", true}, {"", issued, "c", false}}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := open(t)
			first := f.grant(f.verdict("a"))
			second := f.verdict("a")
			second.TransactionID = "tx-other"
			f.grant(second)
			for i, o := range row.outcomes {
				f.pass(time.Minute)
				v := &first
				if o.transaction != "" {
					v = &second
				}
				var thumbprint [32]byte
				if o.certificate != "" {
					thumbprint = digest(o.certificate)
				}
				err := f.Verdicts.SettleVerdict(t.Context(), v.VerdictKey, o.what, thumbprint, f.clock())
				if (err != nil) != o.refused {
					t.Fatalf("outcome %d: error %v", i, err)
				}
				if o.refused && (o.what == issued || o.what == failed) {
					wantError(t, "outcome", err, policymodule.ErrOutcomeDiffers)
				}
				if err == nil && v.Outcome == "" {
					v.Outcome, v.Thumbprint, v.OutcomeAt = o.what, thumbprint, f.clock()
				}
				f.wantVerdict(first)
				f.wantVerdict(second)
			}
			compareVerdicts(t, f.grant(f.verdict("a")), first)
		})
	}
	t.Run("a verdict that was not given", func(t *testing.T) {
		f := open(t)
		f.grant(f.verdict("a"))
		for name, change := range map[string]func(*policymodule.VerdictKey){
			"caller":      func(k *policymodule.VerdictKey) { k.Caller = "ndes2" },
			"tenant":      func(k *policymodule.VerdictKey) { k.Tenant = "fabrikam" },
			"transaction": func(k *policymodule.VerdictKey) { k.TransactionID = "tx-other" },
			"CSR":         func(k *policymodule.VerdictKey) { k.CSRDigest = digest("other") },
		} {
			k := f.verdict("a").VerdictKey
			change(&k)
			err := f.Verdicts.SettleVerdict(t.Context(), k, issued, digest("c"), f.clock())
			wantError(t, "outcome of another "+name, err, policymodule.ErrNoVerdict)
		}
		f.wantVerdict(f.verdict("a"))
	})
	t.Run("without a challenge each verdict has its own outcome", func(t *testing.T) {
		f := open(t)
		a, b := f.verdict("a"), f.verdict("b")
		a.ChallengeID, b.ChallengeID = "", ""
		f.grant(a)
		f.grant(b)
		f.settle(a, issued, digest("c"))
		f.settle(b, failed, [32]byte{})
	})
}

// testIssuedChallenge: a challenge that led to a certificate is granted for no
// other transaction, and told to nobody a second time.
func testIssuedChallenge(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	first := f.grant(f.verdict("a"))
	f.settle(first, policymodule.OutcomeIssued, digest("c"))
	again := f.grant(f.verdict("a")) // a lost answer
	if again.Outcome != policymodule.OutcomeIssued {
		t.Errorf("outcome %q", again.Outcome)
	}
	other := f.verdict("a")
	other.TransactionID = "tx-other"
	_, err := f.Verdicts.GrantVerdict(t.Context(), other)
	wantError(t, "another transaction", err, policymodule.ErrVerdictSpent)
}

// testGrantsAndEntries: a challenge serves one front end or one endpoint of
// our own.
func testGrantsAndEntries(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	v := f.grant(f.verdict("a"))
	in := f.intent("a")
	in.ChallengeID = v.ChallengeID
	_, _, err := f.Journal.Begin(t.Context(), in)
	wantError(t, "an endpoint after a front end", err, journal.ErrChallengeSpent)

	mine := f.intent("b")
	mine.ChallengeID = "challenge of an endpoint"
	if _, _, err := f.Journal.Begin(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	theirs := f.verdict("b")
	theirs.ChallengeID = mine.ChallengeID
	_, err = f.Verdicts.GrantVerdict(t.Context(), theirs)
	wantError(t, "a front end after an endpoint", err, policymodule.ErrVerdictSpent)
}

// testVerdictsKept: a front end may report late, by weeks.
func testVerdictsKept(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	open1, late := f.verdict("open"), f.verdict("late")
	f.grant(open1)
	f.grant(late)
	f.pass(30 * 24 * time.Hour)
	f.grant(f.verdict("b"))
	f.wantVerdict(open1)
	f.settle(late, policymodule.OutcomeIssued, digest("c"))
	late.Outcome, late.Thumbprint, late.OutcomeAt = policymodule.OutcomeIssued, digest("c"), f.clock()

	f.pass(time.Hour)
	f.grant(f.verdict("c"))
	_, err := f.Verdicts.FindVerdict(t.Context(), open1.VerdictKey)
	wantError(t, "a verdict that nobody touched for a month", err, policymodule.ErrNoVerdict)
	f.wantVerdict(late)
	thief := f.verdict("thief")
	thief.ChallengeID = late.ChallengeID
	_, err = f.Verdicts.GrantVerdict(t.Context(), thief)
	wantError(t, "a challenge whose verdict was settled since", err, policymodule.ErrVerdictSpent)
}

func testGrantRace(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	var (
		wg           sync.WaitGroup
		mu           sync.Mutex
		given, spent int
		gate         = make(chan struct{})
	)
	for i := range rivals {
		v := f.verdict(fmt.Sprint("rival-", i))
		v.ChallengeID = "shared"
		wg.Go(func() {
			<-gate
			_, err := f.Verdicts.GrantVerdict(t.Context(), v)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				given++
			case errors.Is(err, policymodule.ErrVerdictSpent):
				spent++
			default:
				t.Errorf("grant: %v", err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if given != 1 || spent != rivals-1 {
		t.Errorf("%d were given, %d refused; want 1 and %d", given, spent, rivals-1)
	}
}

// testOutcomeRace: each of a challenge's transactions reports a certificate of
// its own.
func testOutcomeRace(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	var (
		wg             sync.WaitGroup
		mu             sync.Mutex
		taken, differs int
		gate           = make(chan struct{})
	)
	for i := range rivals {
		v := f.verdict("a")
		v.TransactionID = fmt.Sprint("tx-", i)
		f.grant(v)
		wg.Go(func() {
			<-gate
			err := f.Verdicts.SettleVerdict(t.Context(), v.VerdictKey, policymodule.OutcomeIssued, digest(v.TransactionID), f.clock())
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				taken++
			case errors.Is(err, policymodule.ErrOutcomeDiffers):
				differs++
			default:
				t.Errorf("outcome: %v", err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if taken != 1 || differs != rivals-1 {
		t.Errorf("%d certificates were taken, %d refused; want 1 and %d", taken, differs, rivals-1)
	}
}

// verdictsSurvive gives and settles verdicts, ends the store and looks at what
// is left.
func verdictsSurvive(t *testing.T, f *fixture, end func(*fixture)) {
	settled, waiting := f.verdict("settled"), f.verdict("waiting")
	f.grant(settled)
	f.grant(waiting)
	f.pass(time.Minute)
	f.settle(settled, policymodule.OutcomeIssued, digest("c"))
	settled.Outcome, settled.Thumbprint, settled.OutcomeAt = policymodule.OutcomeIssued, digest("c"), f.clock()
	end(f)
	f.wantVerdict(settled)
	f.wantVerdict(waiting)
	for _, v := range []policymodule.Verdict{settled, waiting} {
		thief := f.verdict("thief")
		thief.ChallengeID = v.ChallengeID
		_, err := f.Verdicts.GrantVerdict(t.Context(), thief)
		wantError(t, "a challenge that was granted before", err, policymodule.ErrVerdictSpent)
	}
	err := f.Verdicts.SettleVerdict(t.Context(), settled.VerdictKey, policymodule.OutcomeFailed, [32]byte{}, f.clock())
	wantError(t, "another outcome", err, policymodule.ErrOutcomeDiffers)
	f.settle(waiting, policymodule.OutcomeFailed, [32]byte{})
}
