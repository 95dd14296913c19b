package demo

import (
	"context"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// after is a world after a bad night: a cloud that was told nothing, and a
// journal and register as fill leaves them.
func after(t *testing.T, fill func(*sqlite.Journal) error) *world {
	t.Helper()
	w := &world{Options: &Options{Dir: t.TempDir()}}
	c, err := intunetest.New(intunetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.cloud, err = cloud.Dial(c.ControlURL()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.path(connectorFolder), firstrun.JournalFile)
	if err := os.Mkdir(w.path(connectorFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Create(path); err != nil {
		t.Fatal(err)
	}
	j, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(j); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// register adds a certificate that was issued for a request.
func register(serial int64) func(*sqlite.Journal) error {
	return func(j *sqlite.Journal) error {
		now := time.Now()
		return j.AddCertificate(context.Background(), firstrun.CAName, ca.RegisteredCertificate{
			Serial: big.NewInt(serial), DER: []byte{1}, CSRDigest: [32]byte{1}, IssuedAt: now, NotAfter: now.Add(time.Hour),
		})
	}
}

// begin leaves a request that nobody goes on with.
func begin(j *sqlite.Journal) error {
	now := time.Now()
	_, _, err := j.Begin(context.Background(), journal.Intent{
		Endpoint: "devices", TransactionID: "t", CA: firstrun.CAName, SealedCSR: []byte{1}, Notify: true,
		Now: now, Since: now.Add(-time.Hour), Lease: time.Minute, GiveUp: now.Add(time.Hour),
	})
	return err
}

// wanted leaves a job of the cloud, done or not, whose result nobody was told.
func wanted(done bool) func(*sqlite.Journal) error {
	return func(j *sqlite.Journal) error {
		ctx, now := context.Background(), time.Now()
		lead, err := j.Lead(ctx, "revocations/intune", "lab", now, time.Minute)
		if err != nil {
			return err
		}
		if _, err := j.AcceptJobs(ctx, lead, []journal.NewJob{{Kind: journal.RevokeJob, Context: "c", Content: []byte("{}")}}, now); err != nil || !done {
			return err
		}
		claimed, err := j.ClaimJobs(ctx, journal.RevokeJob, now, time.Minute, 1)
		if err != nil {
			return err
		}
		return j.FinishJob(ctx, claimed[0], journal.JobResult{Succeeded: true}, now)
	}
}

// revoked adds a certificate that was issued for a request and revoked.
func revoked(serial int64) func(*sqlite.Journal) error {
	return func(j *sqlite.Journal) error {
		if err := register(serial)(j); err != nil {
			return err
		}
		return j.RevokeCertificate(context.Background(), firstrun.CAName, big.NewInt(serial), ca.CessationOfOperation, time.Now())
	}
}

func nothing(*sqlite.Journal) error { return nil }

// TestComparisonFindsWhatIsWrong: each comparison fails where it should, and
// holds where nothing happened.
func TestComparisonFindsWhatIsWrong(t *testing.T) {
	holding := &device.Holding{Certificate: &x509.Certificate{Raw: []byte{1}, SerialNumber: big.NewInt(7)}}
	left, untold := &delivery{platform: "ios", holding: holding}, &delivery{platform: "job a", holding: holding, untold: true}
	unwanted := &delivery{platform: "ios", holding: holding, revoked: true}
	type comparison = func(*world, context.Context, *evidence) error
	for _, row := range []struct {
		name, want string
		fill       func(*sqlite.Journal) error
		delivered  []*delivery
		compare    comparison
	}{
		{"a certificate left without a report", "07 of ios has 0 success notifications", nothing, []*delivery{left}, (*world).reportsMatch},
		{"a job's certificate is reported to nobody", "", nothing, []*delivery{untold}, (*world).reportsMatch},
		{"nothing left, nothing was reported", "", nothing, nil, (*world).reportsMatch},
		{"the CA issued behind the journal's back", "09 is in 0 entries", register(9), nil, (*world).registerMatches},
		{"an empty register and an empty journal", "", nothing, nil, (*world).registerMatches},
		{"a request is open", "still verified", begin, nil, (*world).nothingOwed},
		{"a job is open", "revocations/intune has 1 open", wanted(false), nil, (*world).nothingOwed},
		{"a job's result is owed", "owed 1 results", wanted(true), nil, (*world).nothingOwed},
		{"a certificate is with nobody", "09 is with nobody and not revoked", register(9), nil, (*world).restRevoked},
		{"a certificate is with its device", "", register(7), []*delivery{left}, (*world).restRevoked},
		{"a certificate that nobody wanted revoked is", "07 is with a device; revoked: true", revoked(7), []*delivery{left}, (*world).restRevoked},
		{"a certificate that the cloud wanted revoked is not", "07 is with a device; revoked: false", register(7), []*delivery{unwanted}, (*world).restRevoked},
		{"a certificate that the cloud wanted revoked is", "", revoked(7), []*delivery{unwanted}, (*world).restRevoked},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := after(t, row.fill)
			w.delivered = row.delivered
			err := row.compare(w, t.Context(), &evidence{})
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
}
