package catest

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// Register is a ca.Register in memory, for tests. It behaves as a database
// does: a certificate is seen at once and is on disk with the next durable
// write, Restart keeps everything, Crash loses what was not on disk, and Break
// makes a write fail in either of the two ways.
type Register struct {
	mu     sync.Mutex
	seen   state // what readers see
	disk   state // what a crash leaves
	broken map[string]brokenWrite
}

// Writes that Break can break.
const (
	AddCertificate  = "AddCertificate"
	Revoke          = "RevokeCertificate"
	ParkRequest     = "ParkRequest"
	CompleteRequest = "CompleteRequest"
	NextCRLNumber   = "NextCRLNumber"
)

type brokenWrite struct {
	err     error
	persist bool
}

type state struct {
	certificates []certificateRow // oldest first
	requests     []requestRow
	crlNumbers   map[string]int64
}

type certificateRow struct {
	ca  string
	row ca.RegisteredCertificate
}

type requestRow struct {
	ca  string
	row ca.ParkedRequest
}

var (
	_ ca.Register      = (*Register)(nil)
	_ ca.RequestFinder = (*Register)(nil)
)

// NewRegister returns an empty register.
func NewRegister() *Register { return &Register{broken: map[string]brokenWrite{}} }

// Restart returns a register over the same state, as after an orderly stop.
func (r *Register) Restart() *Register {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Register{seen: r.seen.clone(), disk: r.seen.clone(), broken: map[string]brokenWrite{}}
}

// Crash returns a register over what was on disk.
func (r *Register) Crash() *Register {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Register{seen: r.disk.clone(), disk: r.disk.clone(), broken: map[string]brokenWrite{}}
}

// Break makes the next write of a kind fail with err; persist says whether it
// is carried out nevertheless.
func (r *Register) Break(write string, err error, persist bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken[write] = brokenWrite{err, persist}
}

// Certificates counts the rows of a CA.
func (r *Register) Certificates(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.seen.certificates {
		if c.ca == name {
			n++
		}
	}
	return n
}

func (s state) clone() state {
	return state{slices.Clone(s.certificates), slices.Clone(s.requests), maps.Clone(s.crlNumbers)}
}

// write carries out a change, or breaks it as Break said. The caller holds mu.
func (r *Register) write(ctx context.Context, kind string, durable bool, change func(*state) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %v", ca.ErrUnavailable, err)
	}
	b, isBroken := r.broken[kind]
	delete(r.broken, kind)
	if isBroken && !b.persist {
		return b.err
	}
	if err := change(&r.seen); err != nil { // checks first, then changes: all or nothing
		return err
	}
	if durable {
		r.disk = r.seen.clone()
	}
	return b.err
}

// AddCertificate implements ca.Register.
func (r *Register) AddCertificate(ctx context.Context, name string, c ca.RegisteredCertificate) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write(ctx, AddCertificate, false, func(s *state) error { return s.add(name, c) })
}

func (s *state) add(name string, c ca.RegisteredCertificate) error {
	if s.certificate(name, c.Serial) >= 0 {
		return fmt.Errorf("%w: serial number is taken", ca.ErrForbidden)
	}
	s.certificates = append(s.certificates, certificateRow{name, c})
	return nil
}

// certificate returns the place of a certificate, or -1.
func (s *state) certificate(name string, serial *big.Int) int {
	return slices.IndexFunc(s.certificates, func(c certificateRow) bool {
		return c.ca == name && c.row.Serial.Cmp(serial) == 0
	})
}

// request returns the place of a parked request, or -1.
func (s *state) request(name, id string) int {
	return slices.IndexFunc(s.requests, func(p requestRow) bool { return p.ca == name && p.row.ID == id })
}

// Certificate implements ca.Register.
func (r *Register) Certificate(_ context.Context, name string, serial *big.Int) (ca.RegisteredCertificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.seen.certificate(name, serial); i >= 0 {
		return r.seen.certificates[i].row, nil
	}
	return ca.RegisteredCertificate{}, ca.ErrNotFound
}

// FindCertificate implements ca.Register.
func (r *Register) FindCertificate(_ context.Context, name string, csrDigest [32]byte, from time.Time) (ca.RegisteredCertificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range slices.Backward(r.seen.certificates) {
		if c.ca == name && c.row.CSRDigest == csrDigest && !c.row.IssuedAt.Before(from) {
			return c.row, nil
		}
	}
	return ca.RegisteredCertificate{}, ca.ErrNotFound
}

// RevokeCertificate implements ca.Register.
func (r *Register) RevokeCertificate(ctx context.Context, name string, serial *big.Int, reason ca.Reason, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write(ctx, Revoke, true, func(s *state) error {
		i := s.certificate(name, serial)
		if i < 0 {
			return ca.ErrNotFound
		}
		if c := &s.certificates[i].row; !c.Revoked {
			c.Revoked, c.Reason, c.RevokedAt = true, reason, at
		}
		return nil
	})
}

// Revoked implements ca.Register.
func (r *Register) Revoked(_ context.Context, name string, notExpiredAt time.Time) ([]ca.RegisteredCertificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var revoked []ca.RegisteredCertificate
	for _, c := range r.seen.certificates {
		if c.ca == name && c.row.Revoked && !c.row.NotAfter.Before(notExpiredAt) {
			revoked = append(revoked, c.row)
		}
	}
	return revoked, nil
}

// NextCRLNumber implements ca.Register.
func (r *Register) NextCRLNumber(ctx context.Context, name string) (n int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.write(ctx, NextCRLNumber, true, func(s *state) error {
		if s.crlNumbers == nil {
			s.crlNumbers = map[string]int64{}
		}
		s.crlNumbers[name]++
		n = s.crlNumbers[name]
		return nil
	})
	return n, err
}

// ParkRequest implements ca.Register.
func (r *Register) ParkRequest(ctx context.Context, name string, p ca.ParkedRequest) (id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.write(ctx, ParkRequest, true, func(s *state) error {
		for _, other := range s.requests {
			open := other.row.State == ca.Waiting || other.row.State == ca.Approved
			if open && other.ca == name && other.row.CSRDigest == p.CSRDigest {
				id = other.row.ID
				return nil
			}
		}
		id = strconv.Itoa(len(s.requests) + 1)
		p.ID = id
		s.requests = append(s.requests, requestRow{name, p})
		return nil
	})
	return id, err
}

// Request implements ca.Register.
func (r *Register) Request(_ context.Context, name, id string) (ca.ParkedRequest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.seen.request(name, id); i >= 0 {
		return r.seen.requests[i].row, nil
	}
	return ca.ParkedRequest{}, ca.ErrNotFound
}

// FindRequest implements ca.RequestFinder.
func (r *Register) FindRequest(_ context.Context, name string, csrDigest [32]byte, from time.Time) (ca.ParkedRequest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range slices.Backward(r.seen.requests) {
		if p.ca == name && p.row.CSRDigest == csrDigest && !p.row.At.Before(from) {
			return p.row, nil
		}
	}
	return ca.ParkedRequest{}, ca.ErrNotFound
}

// DecideRequest implements ca.Register.
func (r *Register) DecideRequest(ctx context.Context, name, id string, decision ca.ParkedState, why string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write(ctx, "DecideRequest", true, func(s *state) error {
		i := s.request(name, id)
		if i < 0 {
			return ca.ErrNotFound
		}
		p := &s.requests[i].row
		same := p.State == decision || p.State == ca.Complete && decision == ca.Approved
		switch {
		case same:
			return nil
		case p.State != ca.Waiting:
			return fmt.Errorf("%w: decided before", ca.ErrForbidden)
		}
		p.State, p.Why = decision, why
		return nil
	})
}

// CompleteRequest implements ca.Register.
func (r *Register) CompleteRequest(ctx context.Context, name, id string, c ca.RegisteredCertificate) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write(ctx, CompleteRequest, false, func(s *state) error {
		i := s.request(name, id)
		if i < 0 {
			return ca.ErrNotFound
		}
		p := &s.requests[i].row
		if p.State != ca.Approved {
			return fmt.Errorf("%w: not approved, or issued before", ca.ErrForbidden)
		}
		if err := s.add(name, c); err != nil {
			return err
		}
		p.State, p.Serial, p.CSR = ca.Complete, c.Serial, nil
		return nil
	})
}
