package sqlite

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
)

// callers is how many devices enrol at once in BenchmarkEnrolment.
const callers = 8

// BenchmarkEnrolment makes what one enrolment at an embedded CA asks of the
// journal: Same and Begin (lazy), AddCertificate (lazy), Advance to released
// (durable), by eight callers at once, in journals of different size. It
// reports the CPU time of the whole process for one enrolment and how many
// commits, each with one sync, that took.
func BenchmarkEnrolment(b *testing.B) {
	for _, rows := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			if rows > 100_000 && testing.Short() {
				b.Skip("a million rows take a while to make")
			}
			path := filepath.Join(b.TempDir(), "journal.db")
			if err := Create(path); err != nil {
				b.Fatal(err)
			}
			if err := Seed(path, SeedOptions{Rows: rows}); err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			j, err := Open(path, Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			opened := time.Since(start)
			benchmarkEnrolments(b, j)
			b.ReportMetric(float64(opened.Microseconds()), "µs-open")
		})
	}
}

func benchmarkEnrolments(b *testing.B, j *Journal) {
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	commits, before := j.commits.Load(), cpu()
	for range callers {
		wg.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if err := enrol(j, uint64(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "µs-cpu/op")
	b.ReportMetric(float64(j.commits.Load()-commits)/float64(b.N), "syncs/op")
}

func enrol(j *Journal, i uint64) error {
	ctx := context.Background()
	digest := func(what string) [32]byte {
		return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(what), i))
	}
	now := time.Now()
	key, csr := digest("key"), digest("csr")
	in := journal.Intent{
		Endpoint: "corp", TransactionID: fmt.Sprintf("%X", key[:20]), SignerKey: key, SignerID: key, CSRDigest: csr, CSRKey: key,
		Names: digest("names"), ChallengeID: fmt.Sprintf("%x", digest("challenge")), Since: now.Add(-time.Hour),
		CA: "lab", Template: "device", Subject: fmt.Sprintf("CN=device-%d", i), SealedCSR: make([]byte, 1200),
		Now: now, Lease: time.Minute, GiveUp: now.Add(time.Hour), Lazy: true,
	}
	_, owned, err := j.Begin(ctx, in)
	if err != nil {
		return err
	}
	der := make([]byte, 1100)
	serial := new(big.Int).SetBytes(key[4:20])
	if err := j.AddCertificate(ctx, "lab", ca.RegisteredCertificate{Serial: serial, DER: der, CSRDigest: csr, IssuedAt: now, NotAfter: now.AddDate(1, 0, 0)}); err != nil {
		return err
	}
	_, err = j.Advance(ctx, owned, journal.Step{To: journal.Submitted, Now: now, NextAt: now.Add(time.Minute), Lazy: true})
	if err != nil {
		return err
	}
	_, err = j.Advance(ctx, owned, journal.Step{To: journal.Released, Now: now, Certificate: der, Serial: fmt.Sprintf("%X", serial)})
	return err
}

// cpu is the CPU time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
