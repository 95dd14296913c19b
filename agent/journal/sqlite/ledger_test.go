package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/policymodule"
)

// fillLedger records n challenges of a closed journal, made second by second
// until the given time, each good for lifetime.
func fillLedger(t testing.TB, path string, n int, until time.Time, lifetime time.Duration) {
	t.Helper()
	c, err := openConn(path, "")
	if err != nil {
		t.Fatal(err)
	}
	err = c.exec(`PRAGMA synchronous = OFF`, `BEGIN`)
	for i := range n {
		made := until.Add(time.Duration(i-n) * lifetime / time.Duration(n))
		ch := policymodule.Challenge{
			ID: fmt.Sprintf("old-%d", i), Endpoint: "corp", Principal: fmt.Sprint("principal-", i%2), Made: made, Expires: made.Add(lifetime),
		}
		err = errors.Join(err, addChallenge(c, &ch))
	}
	if err = errors.Join(err, c.exec(`COMMIT`), c.close()); err != nil {
		t.Fatal(err)
	}
}

// rows counts the rows of a closed journal's table.
func rows(t *testing.T, path, table string) int {
	t.Helper()
	c, err := openConn(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	n, err := c.number(`SELECT count(*) FROM ` + table)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// TestSweepsAreBounded: after a quiet month each call drops a part of what is
// old, so that none keeps enrolments waiting, and in the end all is gone.
func TestSweepsAreBounded(t *testing.T) {
	path := newJournalFile(t)
	now := time.Now()
	const n = 3 * sweepAtMost
	fillLedger(t, path, n, now.AddDate(0, -1, 0), time.Hour)
	for call := 1; call <= 4; call++ {
		j, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		ch := policymodule.Challenge{ID: fmt.Sprint("new-", call), Endpoint: "corp", Principal: "mdm", Made: now, Expires: now.Add(time.Hour)}
		if err := j.AddChallenge(t.Context(), ch, policymodule.Quota{Endpoint: 4, Principal: 4}); err != nil {
			t.Fatal(err)
		}
		v := policymodule.Verdict{VerdictKey: policymodule.VerdictKey{Caller: "ndes1", TransactionID: ch.ID}, ChallengeID: ch.ID, At: now.AddDate(0, 2*call, 0)}
		if _, err := j.GrantVerdict(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := rows(t, path, "challenges"), max(0, n-call*sweepAtMost)+call; got != want {
			t.Errorf("after call %d: %d challenges, want %d", call, got, want)
		}
		if v, g := rows(t, path, "verdicts"), rows(t, path, "grants"); v != 1 || g != 1 {
			t.Errorf("after call %d, two months later: %d verdicts and %d grants, want the newest", call, v, g)
		}
	}
	if got := rows(t, path, "outstanding"); got != 2 {
		t.Errorf("%d counts are kept, want those of one endpoint and one principal", got)
	}
}

// TestCountsAgree: the counts that quotas go by are exact at any time, within a
// slot and across slots, after a third of 600 challenges was spent.
func TestCountsAgree(t *testing.T) {
	path := newJournalFile(t)
	now := time.Now()
	const n = 600
	fillLedger(t, path, n, now, time.Hour)
	j, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i := 0; i < n; i += 3 {
		in := request(fmt.Sprintf("old-%d", i), i%2 == 0)
		if _, _, err := j.Begin(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	for at := now.Add(-time.Minute); at.Before(now.Add(70 * time.Minute)); at = at.Add(17 * time.Second) {
		want := 0
		for i := 1; i < n; i += 2 {
			if expires := now.Add(time.Duration(i-n)*time.Hour/n + time.Hour); i%3 != 0 && expires.After(at) {
				want++
			}
		}
		var got int
		err := j.do(t.Context(), lazy, func(c *conn) (bool, error) {
			var err error
			got, err = outstandingOfPrincipal(c, "corp", "principal-1", at)
			return false, err
		})
		if err != nil || got != want {
			t.Fatalf("%v from now: %d outstanding, error %v; want %d", at.Sub(now), got, err, want)
		}
	}
}

// TestUpgrade: a journal of the first schema works on, its entries and what
// they owe included.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustConn(t, path)
	first := append([]string{fmt.Sprintf(`PRAGMA application_id = %d`, applicationID)}, settings...)
	first = append(append(first, migrations[0]...), `PRAGMA user_version = 1`)
	in := request("a", false)
	in.CA = "issuing"
	err := c.exec(first...)
	if err == nil {
		_, err = insert(c, &in)
	}
	for _, kind := range []journal.DebtKind{journal.OweSuccess, journal.OweRevocation} {
		err = errors.Join(err, c.exec(fmt.Sprintf(`INSERT INTO debts (entry, kind, urgency, ready, held, next_at, token, attempts, since, why)
			VALUES (1, %d, 0, 0, 0, 1, 1, 0, 1, '')`, kind)))
	}
	if err = errors.Join(err, c.close()); err != nil {
		t.Fatal(err)
	}
	j, err := Open(path, Options{Witness: path + "-witness"})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if !j.RestoredAt().IsZero() {
		t.Error("an upgrade was taken for a restore")
	}
	now := time.Now()
	lanes, err := j.DebtLanes(t.Context(), now)
	if want := []journal.Lane{{Kind: journal.OweSuccess, Neighbour: in.Endpoint}, {Kind: journal.OweRevocation, Neighbour: in.CA}}; err != nil || !slices.Equal(lanes, want) {
		t.Errorf("owed in lanes %v, error %v; want %v", lanes, err, want)
	}
	for id, left := range map[string]int{"a": 0, "b": 1} {
		ch := policymodule.Challenge{ID: id, Endpoint: "endpoint-" + id, Made: now, Expires: now.Add(time.Hour)}
		if err := j.AddChallenge(t.Context(), ch, policymodule.Quota{}); err != nil {
			t.Fatal(err)
		}
		if n, err := j.Outstanding(t.Context(), ch.Endpoint, now); err != nil || n != left {
			t.Errorf("challenge %s: %d outstanding, error %v; want %d", id, n, err, left)
		}
	}
}

// BenchmarkAddChallenge makes challenges, one after the other and so one sync
// each, while others are outstanding.
func BenchmarkAddChallenge(b *testing.B) {
	for _, n := range []int{0, 1_000, 100_000} {
		b.Run(fmt.Sprintf("outstanding=%d", n), func(b *testing.B) {
			path := b.TempDir() + "/journal.db"
			if err := Create(path); err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			fillLedger(b, path, n, now, time.Hour)
			j, err := Open(path, Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			b.ResetTimer()
			for i := range b.N {
				ch := policymodule.Challenge{ID: fmt.Sprintf("new-%d", i), Endpoint: "corp", Principal: "principal-0", Made: now, Expires: now.Add(time.Hour)}
				if err := j.AddChallenge(b.Context(), ch, policymodule.Quota{Endpoint: 1e9, Principal: 1e9}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
