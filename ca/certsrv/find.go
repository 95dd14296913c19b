package certsrv

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/pkcs10"
)

const (
	// maxWalk is how many request IDs a search looks at.
	maxWalk = 500
	// maxGap is how many unknown IDs in a row are taken for the end: an
	// administrator may have deleted rows.
	maxGap = 20
	// backdating is by how much a CA dates certificates back (ten minutes
	// unless configured otherwise), and what its clock may be off.
	backdating = 15 * time.Minute
	searchFor  = time.Minute
	// onItsWay is how long after the deadline of a submission the CA may still
	// take it up.
	onItsWay = 30 * time.Second
)

// Find implements ca.Finder. The pages know no search, so it walks back from
// the newest request ID and compares public keys, which is all that a
// certificate has of its request for certain: two unexplained certificates for
// one key are ErrOutcomeUnknown, and so is one with other names than the
// request's. It tells ErrNotFound only
// when it has seen every request since the window began and none of them is
// pending, since of those only the ID is to be had; else ErrOutcomeUnknown.
func (c *CA) Find(ctx context.Context, q ca.Query) (*ca.Issued, error) {
	ctx, cancel := context.WithTimeout(ctx, searchFor)
	defer cancel()
	select {
	case c.search <- struct{}{}:
		defer func() { <-c.search }()
	case <-ctx.Done():
		return nil, fmt.Errorf("CA %s, searching: %w: %w", c.Name, ca.ErrOutcomeUnknown, ctx.Err())
	}
	newest, err := c.newestID(ctx)
	if err != nil {
		return nil, err
	}
	var found []uint32
	pending, old, looked, unsure := 0, 0, 0, 0
	for id := newest; id > 0 && old < maxGap; id-- {
		if looked++; looked > maxWalk {
			return nil, fmt.Errorf("CA %s, searching: %w: more than %d requests since %v", c.Name, ca.ErrOutcomeUnknown, maxWalk, q.From)
		}
		csr, known := c.belongsTo(id)
		if known && csr != q.CSRDigest {
			continue // answered, and another's: also one with the same key
		}
		cert, err := c.retrieve(ctx, id)
		_, isPending := errors.AsType[*ca.Pending](err)
		_, isDenied := errors.AsType[*ca.Denied](err)
		switch {
		case isPending && known:
			return nil, err
		case isPending:
			pending++
		case isDenied || errors.Is(err, ca.ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("CA %s, searching at request %d: %w: %v", c.Name, id, ca.ErrOutcomeUnknown, err)
		case cert.NotBefore.Add(backdating).Before(q.From):
			old++ // one alone does not end the window: it may have waited and got its certificate late
		case cert.NotBefore.After(q.To):
		case known:
			return c.fetch(ctx, id, nil)
		case sha256.Sum256(cert.RawSubjectPublicKeyInfo) == q.KeyDigest && !sameNames(cert, q):
			// An earlier request with this key, or ours with names that the CA
			// wrote in other string types: nobody can tell.
			unsure++
		case sha256.Sum256(cert.RawSubjectPublicKeyInfo) == q.KeyDigest:
			found = append(found, id)
		}
	}
	switch {
	case len(found) == 1:
		return c.fetch(ctx, found[0], nil)
	case len(found) > 1:
		return nil, fmt.Errorf("CA %s, searching: %w: requests %v all have a certificate for this key", c.Name, ca.ErrOutcomeUnknown, found)
	case unsure > 0:
		return nil, fmt.Errorf("CA %s, searching: %w: %d certificates for this key have other names", c.Name, ca.ErrOutcomeUnknown, unsure)
	case pending > 0:
		return nil, fmt.Errorf("CA %s, searching: %w: %d requests wait for a decision, and one of them may be ours", c.Name, ca.ErrOutcomeUnknown, pending)
	}
	if wait := q.Sent.Add(c.SubmitTimeout + onItsWay).Sub(c.Now()); !q.Sent.IsZero() && wait > 0 {
		return nil, fmt.Errorf("CA %s, searching: %w: not there yet, and may still come for %v", c.Name, ca.ErrOutcomeUnknown, wait.Round(time.Second))
	}
	return nil, fmt.Errorf("CA %s: %w among the requests since %v", c.Name, ca.ErrNotFound, q.From)
}

// sameNames compares subject and subjectAltName with those of the request.
func sameNames(cert *x509.Certificate, q ca.Query) bool {
	if q.NameDigest == [32]byte{} {
		return true
	}
	names := pkcs10.Request{RawSubject: cert.RawSubject}
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			names.RawSAN = ext.Value
		}
	}
	return names.NameDigest() == q.NameDigest
}

// newestID finds the highest request ID. IDs count up, but the old ones may be
// gone, and any may be missing.
func (c *CA) newestID(ctx context.Context) (uint32, error) {
	low, err := c.someID(ctx)
	if err != nil {
		return 0, err
	}
	// Grow, then halve: low is known, high is not.
	step := uint64(maxGap)
	high := uint64(low) + step
	for high < 1<<31 {
		there, err := c.knows(ctx, uint32(high))
		if err != nil {
			return 0, err
		}
		if !there {
			break
		}
		low, step = uint32(high), step*2
		high = uint64(low) + step
	}
	for uint64(low)+maxGap < high {
		middle := (uint64(low) + high) / 2
		there, err := c.knows(ctx, uint32(middle))
		if err != nil {
			return 0, err
		}
		if there {
			low = uint32(middle)
		} else {
			high = middle
		}
	}
	for gap := uint32(1); gap <= maxGap; gap++ { // what was missing may not be the end
		there, err := c.knows(ctx, low+gap)
		if err != nil {
			return 0, err
		}
		if there {
			low, gap = low+gap, 0
		}
	}
	c.saw(low)
	return low, nil
}

// someID returns an ID that exists: one that we were told, or, after a start,
// one of a series that grows by a quarter each time.
func (c *CA) someID(ctx context.Context) (uint32, error) {
	if last := c.lastID.Load(); last > 0 {
		return last, nil
	}
	for id := uint64(1); id < 1<<31; id += max(id/4, 1) {
		there, err := c.knows(ctx, uint32(id))
		if err != nil {
			return 0, err
		}
		if there {
			return uint32(id), nil
		}
	}
	// Also what an empty CA looks like; but then nobody would ask.
	return 0, fmt.Errorf("CA %s, searching: %w: no request ID is known, and none was met", c.Name, ca.ErrOutcomeUnknown)
}

// knows reports whether the CA has a request of this ID, in any state.
func (c *CA) knows(ctx context.Context, id uint32) (bool, error) {
	_, err := c.retrieve(ctx, id)
	_, isPending := errors.AsType[*ca.Pending](err)
	_, isDenied := errors.AsType[*ca.Denied](err)
	switch {
	case err == nil || isPending || isDenied:
		return true, nil
	case errors.Is(err, ca.ErrNotFound):
		return false, nil
	}
	return false, fmt.Errorf("CA %s, searching: %w: %v", c.Name, ca.ErrOutcomeUnknown, err)
}
