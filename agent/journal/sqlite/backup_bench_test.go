package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// BenchmarkBackup copies a journal of 100,000 enrolments while one device after
// the other enrols, and reports how long the copy took and how long the slowest
// of their durable steps.
func BenchmarkBackup(b *testing.B) {
	path := filepath.Join(b.TempDir(), "journal.db")
	if err := Create(path); err != nil {
		b.Fatal(err)
	}
	if err := Seed(path, SeedOptions{Rows: 100_000}); err != nil {
		b.Fatal(err)
	}
	j := openJournal(b, path, Options{})
	var slowest, total time.Duration
	var enrolled int
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; ; enrolled++ {
			select {
			case <-stop:
				return
			default:
			}
			began := time.Now()
			if _, _, err := j.Begin(context.Background(), request(fmt.Sprintf("during %d", enrolled), false)); err != nil {
				b.Error(err)
			}
			took := time.Since(began)
			total += took
			slowest = max(slowest, took)
		}
	})
	var bytes int64
	n := 0
	for b.Loop() {
		info, err := j.Backup(b.Context(), filepath.Join(b.TempDir(), fmt.Sprint(n)))
		if err != nil {
			b.Fatal(err)
		}
		n++
		bytes = info.Bytes
	}
	close(stop)
	wg.Wait()
	b.ReportMetric(float64(bytes)/(1<<20), "MiB")
	b.ReportMetric(float64(slowest.Milliseconds()), "ms-slowest")
	b.ReportMetric(float64(total.Microseconds())/float64(max(enrolled, 1)), "µs-mean")
}
