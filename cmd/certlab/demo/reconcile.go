package demo

import (
	"context"
	"crypto/sha1" // Intune names certificates by their SHA-1 thumbprint
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// everything is more than a demonstration makes.
const everything = 100_000

func (w *world) stops(_ context.Context, e *evidence) error {
	c, began := w.connector, time.Now()
	if err := w.stopConnector(); err != nil {
		return err
	}
	e.saw("process %d ended in %.2fs: %v", c.pid(), time.Since(began).Seconds(), c.cmd.ProcessState)
	return nil
}

// reportsMatch compares what devices hold with what the cloud took: each
// certificate has exactly one report, each report a certificate.
func (w *world) reportsMatch(ctx context.Context, e *evidence) error {
	list, err := w.cloud.Notifications(ctx)
	if err != nil {
		return err
	}
	reported, failures := map[string]int{}, 0 // by thumbprint
	for _, n := range list {
		if n.Success {
			reported[strings.ToUpper(n.Thumbprint)]++
		} else {
			failures++
		}
	}
	var errs []error
	total := len(list) - failures
	told := 0
	for _, d := range w.delivered {
		if d.untold {
			continue
		}
		told++
		sum := sha1.Sum(d.holding.Certificate.Raw)
		thumbprint := strings.ToUpper(hex.EncodeToString(sum[:]))
		if n := reported[thumbprint]; n != 1 {
			errs = append(errs, fmt.Errorf("the certificate %s of %s has %d success notifications, want one",
				device.Serial(d.holding.Certificate.SerialNumber), d.platform, n))
		}
		delete(reported, thumbprint)
	}
	for thumbprint, n := range reported {
		errs = append(errs, fmt.Errorf("%d success notifications are for thumbprint %s, which no device holds", n, thumbprint))
	}
	e.saw("%d certificates are with devices, the cloud took %d success and %d failure notifications", told, total, failures)
	return errors.Join(errs...)
}

// records are the journal's entries and the CA's register.
type records struct {
	entries      []journal.Entry
	certificates []ca.RegisteredCertificate // issued for requests
	own          int                        // the connector's own
	debts        []journal.Debt
	sources      []journal.Source // of jobs
	jobs         []journal.Job
}

// records reads a copy of the stopped connector's journal, so that looking
// changes nothing.
func (w *world) records(ctx context.Context) (r records, err error) {
	if w.connector != nil {
		return r, errors.New("the connector still runs: its journal cannot be read")
	}
	dir, err := os.MkdirTemp(w.Dir, "journal-")
	if err != nil {
		return r, fmt.Errorf("copying the journal: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, firstrun.JournalFile)
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(path+suffix, filepath.Join(w.path(connectorFolder), firstrun.JournalFile+suffix)); err != nil && !(suffix != "" && errors.Is(err, os.ErrNotExist)) {
			return r, fmt.Errorf("copying the journal: %w", err)
		}
	}
	j, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if r.entries, err = j.List(ctx, journal.Query{Limit: everything}); err != nil {
		return r, err
	}
	all, err := j.Certificates(ctx, firstrun.CAName, everything)
	if err != nil {
		return r, err
	}
	for _, c := range all {
		if c.CSRDigest == [32]byte{} {
			r.own++
			continue
		}
		r.certificates = append(r.certificates, c)
	}
	if r.debts, err = j.OwedDebts(ctx, 0, everything); err != nil {
		return r, err
	}
	if r.sources, err = j.Sources(ctx); err != nil {
		return r, err
	}
	r.jobs, err = j.ListJobs(ctx, journal.JobQuery{Limit: everything})
	return r, err
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// registerMatches compares the journal with the register of the embedded CA
// and with the database of the Microsoft CA.
func (w *world) registerMatches(ctx context.Context, e *evidence) error {
	r, err := w.records(ctx)
	if err != nil {
		return err
	}
	rows, own, err := w.corpRows(ctx)
	if err != nil {
		return err
	}
	issued := map[string][]string{} // by CA: serial numbers
	for _, c := range r.certificates {
		issued[firstrun.CAName] = append(issued[firstrun.CAName], device.Serial(c.Serial))
	}
	for _, row := range rows {
		issued[corpCA] = append(issued[corpCA], row.Serial)
	}
	var errs []error
	for _, ca := range []string{firstrun.CAName, corpCA} {
		errs = append(errs, r.match(ca, issued[ca]))
	}
	e.saw("the embedded CA issued %d certificates for requests (and %d for the connector itself), the Microsoft CA %d (and %d); the journal has %d requests",
		len(r.certificates), r.own, len(rows), own, len(r.entries))
	return errors.Join(errs...)
}

// match wants each certificate of a CA in one entry, and no others.
func (r records) match(ca string, issued []string) error {
	known := map[string]int{}
	for _, entry := range r.entries {
		if entry.Serial != "" && entry.CA == ca {
			known[entry.Serial]++
		}
	}
	var errs []error
	for _, serial := range issued {
		if known[serial] != 1 {
			errs = append(errs, fmt.Errorf("the certificate %s is in %d entries of the journal, want one", serial, known[serial]))
		}
		delete(known, serial)
	}
	for serial := range known {
		errs = append(errs, fmt.Errorf("the journal names the certificate %s, which the CA does not know", serial))
	}
	return errors.Join(errs...)
}

func (w *world) nothingOwed(ctx context.Context, e *evidence) error {
	r, err := w.records(ctx)
	if err != nil {
		return err
	}
	states := map[journal.State]int{}
	var errs []error
	for _, entry := range r.entries {
		states[entry.State]++
		if !entry.State.Final() {
			errs = append(errs, fmt.Errorf("request %d is still %v", entry.ID, entry.State))
		}
	}
	for _, d := range r.debts {
		errs = append(errs, fmt.Errorf("a %v is owed for request %d", d.Kind, d.Entry.ID))
	}
	for _, s := range r.sources {
		if s.Open > 0 || s.Owed > 0 || !s.PausedAt.IsZero() {
			errs = append(errs, fmt.Errorf("the source %s has %d open jobs and is owed %d results (paused: %q)", s.Name, s.Open, s.Owed, s.PausedWhy))
		}
	}
	e.saw("%d released, %d abandoned, %d failed; %d owed", states[journal.Released], states[journal.Abandoned], states[journal.Failed], len(r.debts))
	e.saw("%d jobs of %d sources are over, none is open, no result is owed", len(r.jobs), len(r.sources))
	return errors.Join(append(errs, w.oneFate(ctx, e))...)
}

// oneFate wants the cloud and the queue to have heard one thing of each
// revocation and job, and to wait for none.
func (w *world) oneFate(ctx context.Context, e *evidence) error {
	var errs []error
	two, err := w.cloud.Contradictions(ctx)
	if err != nil {
		return err
	}
	for _, c := range two {
		errs = append(errs, fmt.Errorf("the cloud was told two fates of serial %s: %s", c.SerialNumber, c.Words))
	}
	list, err := w.cloud.Revocations(ctx)
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.State != intunetest.Revoked {
			errs = append(errs, fmt.Errorf("the cloud has the revocation of serial %s as %s", r.SerialNumber, r.State))
		}
	}
	if w.queue == nil {
		return errors.Join(errs...)
	}
	other, err := w.queue.Contradictions(ctx)
	if err != nil {
		return err
	}
	for _, c := range other {
		errs = append(errs, fmt.Errorf("the queue was told two results of job %s", c.Context))
	}
	waiting, err := w.queue.Waiting(ctx)
	if err != nil {
		return err
	}
	for _, handle := range waiting {
		errs = append(errs, fmt.Errorf("the queue waits for the result of job %s", handle))
	}
	e.saw("the cloud heard of %d revocations, %d of them contradict; the queue waits for %d jobs, %d results contradict", len(list), len(two), len(waiting), len(other))
	return errors.Join(errs...)
}

// restRevoked wants each certificate with whom it was made for, or revoked;
// both only where the cloud wanted it.
func (w *world) restRevoked(ctx context.Context, e *evidence) error {
	r, err := w.records(ctx)
	if err != nil {
		return err
	}
	rows, _, err := w.corpRows(ctx)
	if err != nil {
		return err
	}
	left := map[string]*delivery{}
	wanted := 0
	for _, d := range w.delivered {
		left[device.Serial(d.holding.Certificate.SerialNumber)] = d
		if d.revoked {
			wanted++
		}
	}
	var errs []error
	revoked := 0
	check := func(serial string, gone bool, reason any, at time.Time) {
		d := left[serial]
		switch {
		case d != nil && gone != d.revoked:
			errs = append(errs, fmt.Errorf("the certificate %s is with a device; revoked: %t, wanted by the cloud: %t", serial, gone, d.revoked))
		case d == nil && !gone:
			errs = append(errs, fmt.Errorf("the certificate %s is with nobody and not revoked", serial))
		case gone:
			revoked++
			e.saw("serial %s: %v, at %s", serial, reason, at.Local().Format(time.TimeOnly))
		}
	}
	for _, c := range r.certificates {
		check(device.Serial(c.Serial), c.Revoked, c.Reason, c.RevokedAt)
	}
	for _, row := range rows {
		check(row.Serial, row.Revoked, ca.Reason(row.Reason), row.RevokedAt)
	}
	e.saw("%d certificates are with devices and recipients, %d revoked, %d of them because the cloud wanted it; none is anything else", len(left), revoked, wanted)
	return errors.Join(errs...)
}
