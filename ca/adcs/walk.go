package adcs

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// Bounds of a walk over request IDs.
const (
	walkSteps = 500
	walkGap   = 20
	// walkBefore is how much older than the window a certificate's start must
	// be to prove that the window lies behind: CAs date back by minutes.
	walkBefore = 2 * time.Hour
)

// walk asks for the requests around the newest ID seen, one by one, and
// compares keys: that takes the right to enrol alone. It can find a
// certificate, and prove absence if it leads back beyond the window; it cannot
// judge a parked request. why is what forbids the search of the database, and
// the answer where the walk has no beginning or no verdict.
func (c *CA) walk(ctx context.Context, q ca.Query, why error) (*ca.Issued, error) {
	c.mu.Lock()
	from := c.newest
	c.mu.Unlock()
	if from == 0 {
		return nil, why
	}
	w := &walker{c: c, q: q}
	if err := w.up(ctx, from+1); err != nil || w.found != nil {
		return w.found, err
	}
	if err := w.down(ctx, from); err != nil || w.found != nil {
		return w.found, err
	}
	if w.undecided > 0 || !w.reached {
		return nil, fmt.Errorf("%w (nor did a walk over %d request IDs settle it, %d of them parked)", why, w.steps, w.undecided)
	}
	return nil, c.absent(q, "walking over request IDs")
}

type walker struct {
	c         *CA
	q         ca.Query
	found     *ca.Issued
	steps     int
	undecided int
	reached   bool // a certificate from before the window was met, or the first ID
}

// up walks to newer requests until they end.
func (w *walker) up(ctx context.Context, id uint32) error {
	for gap := 0; gap < walkGap && w.steps < walkSteps; id++ {
		known, _, err := w.look(ctx, id)
		if err != nil || w.found != nil {
			return err
		}
		if gap++; known {
			gap = 0
			w.c.seen(id)
		}
	}
	if w.steps >= walkSteps {
		return w.c.unknown("walking over request IDs", errLimit, 0)
	}
	return nil
}

// down walks to older requests until one lies before the window.
func (w *walker) down(ctx context.Context, id uint32) error {
	for ; id > 0 && w.steps < walkSteps; id-- {
		_, start, err := w.look(ctx, id)
		if err != nil || w.found != nil {
			return err
		}
		if !start.IsZero() && start.Add(walkBefore).Before(w.q.From) {
			w.reached = true
			return nil
		}
	}
	w.reached = w.reached || id == 0
	return nil
}

// look asks for one request.
func (w *walker) look(ctx context.Context, id uint32) (known bool, start time.Time, err error) {
	w.steps++
	r, err := w.c.submit(ctx, submission{id: id})
	if err != nil {
		return false, start, err
	}
	if uint32(r.ret) == codePropertyEmpty || r.disposition == codePropertyEmpty {
		return false, start, nil
	}
	switch {
	case r.disposition == dispositionPending && r.ret >= 0:
		w.undecided++
		return true, start, nil
	case r.disposition != dispositionIssued || r.ret < 0:
		return true, start, nil // refused or revoked: no certificate of ours to release
	}
	cert, err := x509.ParseCertificate(r.cert)
	if err != nil {
		return true, start, w.c.unknown("walking over request IDs", errors.Join(fmt.Errorf("request %d", id), err), 0)
	}
	if sha256.Sum256(cert.RawSubjectPublicKeyInfo) == w.q.KeyDigest && !cert.NotBefore.Add(walkBefore).Before(w.q.From) {
		w.found = &ca.Issued{Certificate: cert, RequestID: strconv.FormatUint(uint64(id), 10)}
	}
	return true, cert.NotBefore, nil
}
