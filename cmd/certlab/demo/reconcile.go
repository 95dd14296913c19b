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
	for _, d := range w.delivered {
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
	e.saw("%d certificates are with devices, the cloud took %d success and %d failure notifications", len(w.delivered), total, failures)
	return errors.Join(errs...)
}

// records are the journal's entries and the CA's register.
type records struct {
	entries      []journal.Entry
	certificates []ca.RegisteredCertificate // issued for requests
	own          int                        // the connector's own
	debts        []journal.Debt
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
	r.debts, err = j.OwedDebts(ctx, 0, everything)
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

func (w *world) registerMatches(ctx context.Context, e *evidence) error {
	r, err := w.records(ctx)
	if err != nil {
		return err
	}
	known := map[string]int{}
	for _, entry := range r.entries {
		if entry.Serial != "" {
			known[entry.Serial]++
		}
	}
	var errs []error
	for _, c := range r.certificates {
		serial := device.Serial(c.Serial)
		if known[serial] != 1 {
			errs = append(errs, fmt.Errorf("the certificate %s is in %d entries of the journal, want one", serial, known[serial]))
		}
		delete(known, serial)
	}
	for serial := range known {
		errs = append(errs, fmt.Errorf("the journal names the certificate %s, which the CA does not know", serial))
	}
	e.saw("the CA issued %d certificates for requests (and %d for the connector itself), the journal has %d requests",
		len(r.certificates), r.own, len(r.entries))
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
	e.saw("%d released, %d abandoned, %d failed; %d owed", states[journal.Released], states[journal.Abandoned], states[journal.Failed], len(r.debts))
	return errors.Join(errs...)
}

func (w *world) restRevoked(ctx context.Context, e *evidence) error {
	r, err := w.records(ctx)
	if err != nil {
		return err
	}
	left := map[string]bool{}
	for _, d := range w.delivered {
		left[device.Serial(d.holding.Certificate.SerialNumber)] = true
	}
	var errs []error
	revoked := 0
	for _, c := range r.certificates {
		serial := device.Serial(c.Serial)
		switch {
		case left[serial] && c.Revoked:
			errs = append(errs, fmt.Errorf("the certificate %s is with a device and revoked", serial))
		case !left[serial] && !c.Revoked:
			errs = append(errs, fmt.Errorf("the certificate %s is with nobody and not revoked", serial))
		case c.Revoked:
			revoked++
			e.saw("serial %s: %s, at %s", serial, c.Reason, c.RevokedAt.Format(time.TimeOnly))
		}
	}
	e.saw("%d certificates are with devices, %d revoked, none is anything else", len(left), revoked)
	return errors.Join(errs...)
}
