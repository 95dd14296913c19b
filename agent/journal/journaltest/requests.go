package journaltest

import (
	"reflect"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// testRequests is which requests are the same, which are new, and which use a
// challenge that is spent: each row is a part of Intent's comment.
func testRequests(t *testing.T, open func(*testing.T) *fixture) {
	const (
		isSame = iota
		isNew
		isSpent
	)
	other := digest("other")
	static := func(in *journal.Intent) { in.ChallengeID = "" }
	rows := []struct {
		name   string
		first  func(*journal.Intent) // nil: with a challenge
		second func(*journal.Intent)
		later  time.Duration
		want   int
	}{
		{"an identical request is the same", nil, func(*journal.Intent) {}, 0, isSame},
		{"an identical request without a challenge is the same", static, static, 0, isSame},
		{"a fresh CSR with equal key, names and challenge is the same", nil, func(in *journal.Intent) { in.CSRDigest = other }, 0, isSame},
		{"a fresh CSR under another transaction ID is the same by its challenge", nil, func(in *journal.Intent) { in.CSRDigest, in.TransactionID = other, "tx-other" }, 0, isSame},
		{"a fresh CSR without a challenge is the same in one transaction", static, func(in *journal.Intent) { static(in); in.CSRDigest = other }, 0, isSame},
		{"without a challenge another transaction ID is another request", static, func(in *journal.Intent) { static(in); in.CSRDigest, in.TransactionID = other, "tx-other" }, 0, isNew},
		{"without a challenge another CSR key is another request", static, func(in *journal.Intent) { static(in); in.CSRDigest, in.CSRKey = other, other }, 0, isNew},
		{"without a challenge other names are another request", static, func(in *journal.Intent) { static(in); in.CSRDigest, in.Names = other, other }, 0, isNew},
		{"without a challenge another signer key is another request", static, func(in *journal.Intent) { static(in); in.CSRDigest, in.SignerKey, in.SignerID = other, other, other }, 0, isNew},
		{"at another endpoint it is another request", static, func(in *journal.Intent) { static(in); in.Endpoint = "branch" }, 0, isNew},
		{"endpoint and transaction ID do not run together", func(in *journal.Intent) { static(in); in.Endpoint, in.TransactionID = "ab", "c" },
			func(in *journal.Intent) { static(in); in.Endpoint, in.TransactionID = "a", "bc" }, 0, isNew},
		{"a challenge does not serve another key", nil, func(in *journal.Intent) {
			in.CSRDigest, in.CSRKey, in.SignerKey, in.SignerID = other, other, other, other
		}, 0, isSpent},
		{"a challenge does not serve other names", nil, func(in *journal.Intent) { in.CSRDigest, in.Names = other, other }, 0, isSpent},
		{"a challenge does not serve another endpoint", nil, func(in *journal.Intent) { in.Endpoint = "branch" }, 0, isSpent},
		{"another challenge is another request", nil, func(in *journal.Intent) { in.CSRDigest, in.ChallengeID = other, "challenge-other" }, 0, isNew},
		{"an entry as old as Since counts", static, static, 24 * time.Hour, isSame},
		{"an entry older than Since does not count", static, static, 24*time.Hour + time.Nanosecond, isNew},
		{"a challenge stays spent when its entry no longer counts", nil, func(*journal.Intent) {}, 24*time.Hour + time.Nanosecond, isSpent},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := open(t)
			in := f.intent("a")
			if row.first != nil {
				row.first(&in)
			}
			first, _ := f.begin(in)
			f.pass(row.later)
			again := f.intent("a")
			row.second(&again)
			same, errSame := f.Journal.Same(t.Context(), again)
			e, owned, err := f.Journal.Begin(t.Context(), again)
			switch row.want {
			case isSame:
				if err != nil || owned != nil || e.ID != first.ID {
					t.Errorf("begin: entry %d, owned %v, error %v; want entry %d, not owned", e.ID, owned, err, first.ID)
				}
				if errSame != nil || same.ID != first.ID {
					t.Errorf("same: entry %d, error %v; want entry %d", same.ID, errSame, first.ID)
				}
			case isNew:
				wantError(t, "same", errSame, journal.ErrNotFound)
				if err != nil || owned == nil || e.ID <= first.ID {
					t.Errorf("begin: entry %d, owned %v, error %v; want a new entry", e.ID, owned, err)
				}
			case isSpent:
				wantError(t, "same", errSame, journal.ErrNotFound)
				wantError(t, "begin", err, journal.ErrChallengeSpent)
			}
		})
	}
	t.Run("what is recorded is read back", func(t *testing.T) { testReadBack(t, open(t)) })
	t.Run("an intent may be recorded as submitted", func(t *testing.T) { testSubmittedAtOnce(t, open(t)) })
	t.Run("newest is the newest of endpoint, transaction ID and key", func(t *testing.T) { testNewest(t, open(t)) })
	t.Run("a refusal is final at once and owes its notification", func(t *testing.T) { testRefused(t, open(t)) })
}

func testSubmittedAtOnce(t *testing.T, f *fixture) {
	in := f.intent("a")
	in.Submit = true
	begun, owned := f.begin(in)
	want := journal.Entry{ID: begun.ID, Intent: in, State: journal.Submitted, SubmittedAt: in.Now, NextAt: in.Now.Add(lease), UpdatedAt: in.Now}
	want.Since, want.Lease, want.Refused, want.Lazy, want.Submit = time.Time{}, 0, nil, false, false
	compare(t, "begin", begun, want)
	compare(t, "entry", f.entry(begun.ID), want)
	if e := f.advance(owned, journal.Step{To: journal.Verified, Now: f.clock()}); e.State != journal.Verified {
		t.Errorf("after a CA that was down: %v", e.State)
	}
}

func testReadBack(t *testing.T, f *fixture) {
	in := f.intent("a")
	begun, owned := f.begin(in)
	want := journal.Entry{ID: begun.ID, Intent: in, State: journal.Verified, NextAt: in.Now.Add(lease), UpdatedAt: in.Now}
	want.Since, want.Lease, want.Refused, want.Lazy = time.Time{}, 0, nil, false
	compare(t, "begin", begun, want)
	compare(t, "entry", f.entry(begun.ID), want)

	f.pass(time.Second)
	now := f.clock()
	failure := &journal.Failure{Rule: "ca_denied", FailInfo: 2, HResult: -2147467259, Text: "the CA said no"}
	s := journal.Step{
		To: journal.Submitted, Now: now, NextAt: now.Add(time.Hour), GiveUp: now.Add(2 * time.Hour), Attempts: 3, SubmittedAt: now,
		Resubmitted: true, CARequestID: "4711", Certificate: certificate("a"), Serial: "0A1B", Failure: failure,
	}
	want.State, want.UpdatedAt, want.NextAt, want.GiveUp, want.Attempts = s.To, now, s.NextAt, s.GiveUp, 3
	want.SubmittedAt, want.Resubmitted, want.CARequestID = now, true, "4711"
	want.Certificate, want.Serial, want.Failure = s.Certificate, s.Serial, failure
	compare(t, "advance", f.advance(owned, s), want)
	compare(t, "entry after a step", f.entry(begun.ID), want)

	want.State, want.UpdatedAt = journal.Parked, now.Add(time.Minute)
	compare(t, "a step of zero fields", f.advance(owned, journal.Step{To: journal.Parked, Now: want.UpdatedAt}), want)
	compare(t, "entry after a step of zero fields", f.entry(begun.ID), want)
}

// compare compares entries; times may differ in their representation only.
func compare(t *testing.T, what string, got, want journal.Entry) {
	t.Helper()
	for _, e := range []*journal.Entry{&got, &want} {
		for _, at := range []*time.Time{&e.NextAt, &e.SubmittedAt, &e.UpdatedAt, &e.Now, &e.GiveUp} {
			if !at.IsZero() {
				*at = time.Unix(0, at.UnixNano()).UTC()
			}
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func testNewest(t *testing.T, f *fixture) {
	in := f.intent("a")
	in.ChallengeID = ""
	f.begin(in)
	f.pass(25 * time.Hour)
	again := f.intent("a")
	again.ChallengeID = ""
	second, _ := f.begin(again)
	f.begin(f.intent("b"))
	e, err := f.Journal.Newest(t.Context(), in.Endpoint, in.TransactionID, in.SignerKey)
	if err != nil || e.ID != second.ID {
		t.Errorf("newest is entry %d, error %v; want entry %d", e.ID, err, second.ID)
	}
	_, err = f.Journal.Newest(t.Context(), "branch", in.TransactionID, in.SignerKey)
	wantError(t, "another endpoint", err, journal.ErrNotFound)
	_, err = f.Journal.Newest(t.Context(), in.Endpoint, "tx-other", in.SignerKey)
	wantError(t, "another transaction ID", err, journal.ErrNotFound)
	_, err = f.Journal.Newest(t.Context(), in.Endpoint, in.TransactionID, digest("other"))
	wantError(t, "another key", err, journal.ErrNotFound)
	_, err = f.Journal.Entry(t.Context(), second.ID+1000)
	wantError(t, "entry that is not there", err, journal.ErrNotFound)
}

func testRefused(t *testing.T, f *fixture) {
	for _, notify := range []bool{true, false} {
		in := f.intent("notify")
		if !notify {
			in = f.intent("silent")
		}
		in.Notify = notify
		in.Refused = &journal.Failure{Rule: "key_usage", FailInfo: 2, HResult: -1, Text: "not allowed"}
		e, owned := f.begin(in)
		if e.State != journal.Failed || !e.NextAt.IsZero() || !reflect.DeepEqual(e.Failure, in.Refused) {
			t.Errorf("entry is %v, due %v, failure %+v", e.State, e.NextAt, e.Failure)
		}
		if wiped := e.SealedCSR == nil; wiped == notify {
			t.Errorf("CSR wiped: %v, notification owed: %v", wiped, notify)
		}
		compare(t, "entry", f.entry(e.ID), e)
		_, err := f.Journal.Advance(t.Context(), owned, journal.Step{To: journal.Submitted, Now: f.clock()})
		wantError(t, "step from a refusal", err, journal.ErrLost)
		debts := f.claimDebts(10)
		if (len(debts) == 1) != notify {
			t.Fatalf("%d debts; notification owed: %v", len(debts), notify)
		}
		if notify && (debts[0].Kind != journal.OweFailure || debts[0].Entry.ID != e.ID) {
			t.Errorf("debt is %v of entry %d", debts[0].Kind, debts[0].Entry.ID)
		}
	}
}
