package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// BenchmarkDebts makes what the outbox asks of a journal with few and with many
// debts: a look and a claim of ten with their ends, and what status asks.
func BenchmarkDebts(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		path := filepath.Join(b.TempDir(), "journal.db")
		if err := Create(path); err != nil {
			b.Fatal(err)
		}
		err := Seed(path, SeedOptions{Owed: SeedOwed{
			N: n, SealedCSR: make([]byte, 1200), GiveUp: time.Now().Add(time.Hour), Certificate: func(serial []byte) []byte { return serial },
		}})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		j, err := Open(path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%d debts: opened in %v", n, time.Since(start))
		now := time.Now()
		lanes, err := j.DebtLanes(b.Context(), now)
		for range n / promoteAtMost { // until all are ready
			if err == nil {
				lanes, err = j.DebtLanes(b.Context(), now)
			}
		}
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("debts=%d/stats", n), func(b *testing.B) {
			for range b.N {
				if _, err := j.DebtStats(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("debts=%d/claim", n), func(b *testing.B) {
			for range b.N {
				if _, err := j.DebtLanes(b.Context(), now); err != nil {
					b.Fatal(err)
				}
				list, err := j.ClaimDebts(b.Context(), journal.DebtClaim{Lane: lanes[0], Now: now, Lease: time.Minute, Limit: 10})
				if err != nil {
					b.Fatal(err)
				}
				for _, d := range list { // comes back at once, as the newest
					if _, err := j.PostponeDebt(b.Context(), d, now, ""); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
