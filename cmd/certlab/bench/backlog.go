package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"time"

	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/cmd/certlab/load"
	"github.com/certconnector/certconnector/internal/secret"
)

// Backlog compares enrolments with and without reports that are owed since an
// outage of the cloud, and says how long those took to be delivered.
type Backlog struct {
	Debts  int      `json:"debts"`
	Budget float64  `json:"budget"` // of each median ratio
	Calm   []Window `json:"calm"`   // nothing owed
	Owing  []Window `json:"owing"`

	CPU []float64 `json:"cpu_ratios"` // pair by pair
	P50 []float64 `json:"p50_ratios"`
	P99 []float64 `json:"p99_ratios"`

	PerSecond float64 `json:"drained_per_s"` // while enrolments went on
	Seconds   float64 `json:"drained_s"`     // the program ran until nothing was owed; 0: not waited for
}

// Window is one load run. CPU is all that the program used meanwhile, by
// request: the deliveries of the backlog are part of it.
type Window struct {
	CPU float64 `json:"cpu_ms"`
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

const backlogBudget = 1.10

// backlog alternates two programs of which one has much to deliver. Whichever
// is not measured is stopped by a signal, so that it neither works nor ends.
func (o Options) backlog(ctx context.Context) (b *Backlog, err error) {
	b = &Backlog{Debts: o.Backlog, Budget: backlogBudget}
	calm, err := o.install(ctx, "nothing owed", RSA2048, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, calm.resume(), calm.stop()) }()
	owing, err := o.install(ctx, "backlog", RSA2048, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, owing.resume(), owing.stop()) }()
	if err := seedBacklog(owing, o.Backlog); err != nil {
		return nil, fmt.Errorf("seeding %d debts: %w", o.Backlog, err)
	}
	for _, p := range []*program{calm, owing} {
		if _, err := p.restart(ctx); err != nil {
			return nil, err
		}
		if err := p.pause(); err != nil {
			return nil, err
		}
	}
	var ran time.Duration
	for i := range o.Pairs {
		d, err := o.backlogPair(ctx, b, calm, owing, i%2 == 1)
		if err != nil {
			return nil, err
		}
		ran += d
	}
	return b, o.drain(ctx, b, owing, ran)
}

// backlogPair measures both programs, one right after the other, and says how
// long the one that owes ran.
func (o Options) backlogPair(ctx context.Context, b *Backlog, calm, owing *program, swapped bool) (ran time.Duration, err error) {
	order := []*program{calm, owing}
	if swapped {
		order = []*program{owing, calm}
	}
	got := make(map[*program]Window)
	for _, p := range order {
		if err := p.resume(); err != nil {
			return 0, err
		}
		began := time.Now()
		r, err := o.load(ctx, p, 8, o.N)
		if err != nil {
			return 0, errors.Join(err, p.pause())
		}
		if err := p.pause(); err != nil {
			return 0, err
		}
		if p == owing {
			ran = time.Since(began)
		}
		got[p] = window(r)
	}
	c, w := got[calm], got[owing]
	b.Calm, b.Owing = append(b.Calm, c), append(b.Owing, w)
	b.CPU, b.P50, b.P99 = append(b.CPU, w.CPU/c.CPU), append(b.P50, w.P50/c.P50), append(b.P99, w.P99/c.P99)
	fmt.Fprintf(o.Out, "  backlog, pair %d of %d: CPU %.2f and %.2f ms, p50 %.1f and %.1f ms, p99 %.1f and %.1f ms; ratios %.3f, %.3f, %.3f\n",
		len(b.CPU), o.Pairs, c.CPU, w.CPU, c.P50, w.P50, c.P99, w.P99, w.CPU/c.CPU, w.P50/c.P50, w.P99/c.P99)
	return ran, nil
}

func window(r *load.Report) Window { return Window{CPU: r.ServerCPU, P50: r.P50, P99: r.P99} }

// drain lets the program go on alone until it owes nothing. Only a program that
// has ended lets its journal be read.
func (o Options) drain(ctx context.Context, b *Backlog, p *program, ran time.Duration) error {
	left, err := o.owed(ctx, p)
	if err != nil {
		return err
	}
	b.PerSecond = float64(b.Debts-left) / ran.Seconds()
	if left == 0 {
		return fmt.Errorf("%d debts were delivered before the last pair was measured, so that it says nothing: seed more", b.Debts)
	}
	if !o.Drain {
		return nil
	}
	for left > 0 {
		fmt.Fprintf(o.Out, "  backlog: %d of %d are left after %.0f s\n", left, b.Debts, ran.Seconds())
		began := time.Now()
		if _, err := p.restart(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(time.Duration(float64(left)/b.PerSecond*float64(time.Second)) + time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		before := left
		if left, err = o.owed(ctx, p); err != nil {
			return err
		}
		ran += time.Since(began)
		if left == before {
			return fmt.Errorf("%d of %d debts are not delivered; the log is beside %s", left, b.Debts, p.dir)
		}
	}
	b.Seconds = ran.Seconds()
	return nil
}

// owed ends the program and counts what it owes.
func (o Options) owed(ctx context.Context, p *program) (n int, err error) {
	if err := errors.Join(p.resume(), p.kill()); err != nil {
		return 0, err
	}
	j, err := sqlite.Open(filepath.Join(p.dir, "journal.db"), sqlite.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	stats, err := j.DebtStats(ctx)
	for _, s := range stats {
		n += s.N
	}
	return n, err
}

// seedBacklog gives a program that has not run the journal of one that went
// through an outage.
func seedBacklog(p *program, n int) error {
	sealer, err := secret.LoadSealer(filepath.Join(p.dir, "local.key"))
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "owing"}}, key)
	if err != nil {
		return err
	}
	// Nobody verifies the signature: all have the same but for the serial number.
	serial := bytes.Repeat([]byte{0x41}, 16)
	tmpl := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: "owing"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	return sqlite.Seed(filepath.Join(p.dir, "journal.db"), sqlite.SeedOptions{
		CA: "embedded", Endpoint: "devices",
		Owed: sqlite.SeedOwed{
			N: n, SealedCSR: sealer.Seal("csr", csr), GiveUp: time.Now().Add(24 * time.Hour),
			Certificate: func(s []byte) []byte { return bytes.Replace(der, serial, s, 1) },
		},
	})
}
