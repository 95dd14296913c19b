package reconcile

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/retry"
)

// patience is how often in a row a CA may fail to answer before it is left alone.
const patience = 3

// neighbor is how a CA answers.
type neighbor struct {
	checker ca.Checker // nil: it cannot be asked
	fails   int        // in a row
}

// check is one question to a CA and its answer.
type check struct {
	entry  journal.Entry
	serial *big.Int
	status ca.Status
	err    error
	done   bool
}

// plan asks the CA about a certificate that could still be used.
func (s *scan) plan(e *journal.Entry, cert *x509.Certificate) {
	if s.now.After(cert.NotAfter) || s.now.Sub(e.UpdatedAt) < s.r.Settling {
		return
	}
	if _, owed := s.debts[e.ID]; owed {
		return // known, and named if it takes long
	}
	if e.State == journal.Released {
		if _, ours := s.revoked[digest(e.CA, e.Serial)]; ours {
			return
		}
	}
	if before := s.options.CheckBefore; before > 0 && e.ID >= before {
		return // an earlier run asked
	}
	if s.neighbor(e.CA).checker == nil {
		s.report.Unchecked++
		return
	}
	if s.options.Checks < 0 || s.asked >= s.options.Checks {
		s.report.Unchecked++
		s.cut = true
		return
	}
	s.asked++
	slim := *e
	slim.Certificate, slim.SealedCSR = nil, nil
	s.checks = append(s.checks, check{entry: slim, serial: cert.SerialNumber})
}

func (s *scan) neighbor(name string) *neighbor {
	if n, ok := s.cas[name]; ok {
		return n
	}
	n := &neighbor{}
	authority, configured := s.r.CAs[name]
	if configured {
		n.checker, _ = ca.Ability[ca.Checker](authority)
	}
	switch {
	case !configured:
		s.note(fmt.Sprintf("CA %q is not configured any more: nothing it issued was compared with it", name))
	case n.checker == nil:
		s.note(fmt.Sprintf("CA %q cannot tell the status of a certificate from here: nothing it issued was compared with it", name))
	}
	s.cas[name] = n
	return n
}

// ask puts the page's questions, a few at a time and not too fast, and looks
// at the answers in the order of entries.
func (s *scan) ask(ctx context.Context) error {
	defer func() { s.checks = s.checks[:0] }()
	width := s.r.Concurrency
	for i := 0; i < len(s.checks); i += width {
		batch := s.checks[i:min(i+width, len(s.checks))]
		var calls sync.WaitGroup
		for k := range batch {
			c := &batch[k]
			if n := s.neighbor(c.entry.CA); n.fails >= patience {
				continue
			}
			calls.Go(func() { s.question(ctx, c) })
			if err := retry.Wait(ctx, s.r.CheckEvery); err != nil {
				calls.Wait()
				return err
			}
		}
		calls.Wait()
		for k := range batch {
			s.answer(ctx, &batch[k])
			s.report.NextCheck = batch[k].entry.ID
		}
	}
	return ctx.Err()
}

func (s *scan) question(ctx context.Context, c *check) {
	call, cancel := context.WithTimeout(ctx, s.r.CheckWithin)
	defer cancel()
	c.status, c.err = s.neighbor(c.entry.CA).checker.Check(call, c.serial)
	c.done = true
}

// answer looks at what a CA said of a certificate.
func (s *scan) answer(ctx context.Context, c *check) {
	n, e := s.neighbor(c.entry.CA), &c.entry
	switch {
	case !c.done:
		s.report.Unchecked++
		return
	case errors.Is(c.err, ca.ErrNotFound):
		n.fails = 0
		s.report.Checked++
		s.unknown(e)
		return
	case c.err != nil:
		s.report.Unchecked++
		if n.fails++; n.fails == patience {
			s.incomplete(fmt.Sprintf("CA %q did not answer %d times in a row and was left alone: %v", e.CA, patience, c.err))
		} else {
			s.incomplete(fmt.Sprintf("some questions to CA %q were not answered; it may be asked again", e.CA))
		}
		return
	}
	n.fails = 0
	s.report.Checked++
	switch released := e.State == journal.Released; {
	case released && c.status.Revoked && c.status.RevokedAt.Before(s.now):
		s.revokedElsewhere(e, c.status)
	case !released && !c.status.Revoked:
		s.notRevoked(ctx, e, c.serial)
	}
}

func (s *scan) unknown(e *journal.Entry) {
	f := of(UnknownAtCA, Error, e)
	f.Since = e.UpdatedAt
	f.Cause = fmt.Sprintf("CA %q does not know the serial number of a certificate that it issued here", e.CA)
	f.Fix = "see whether the CA was restored from a backup or replaced; it cannot revoke what it does not know, so enter the serial number in its revocation list by hand"
	s.found(f, nil)
}

func (s *scan) revokedElsewhere(e *journal.Entry, status ca.Status) {
	f := of(RevokedAtCA, Warning, e)
	f.Since = status.RevokedAt
	f.Cause = fmt.Sprintf("CA %q has revoked the certificate (%s), and no job of this journal asked for that", e.CA, status.Reason)
	f.Fix = "nothing, when a person revoked it at the CA or with this program's own command; otherwise find out who did. The device needs a new certificate"
	s.found(f, nil)
}

func (s *scan) notRevoked(ctx context.Context, e *journal.Entry, serial *big.Int) {
	f := of(NotRevokedAtCA, Error, e)
	f.Since = e.UpdatedAt
	f.Cause = fmt.Sprintf("the enrolment is %s and its certificate was never given out, but CA %q still calls it good and no revocation is owed", e.State, e.CA)
	f.Fix = "run reconcile with --fix to have it revoked, or revoke this serial number by hand"
	var fix func() error
	if s.r.Revoke != nil {
		fix = func() error { return s.r.Revoke(context.WithoutCancel(ctx), e.CA, serial) }
	}
	s.found(f, fix)
}
