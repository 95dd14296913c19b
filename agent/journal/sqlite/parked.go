package sqlite

import (
	"context"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/certconnector/certconnector/ca"
)

var _ ca.RequestFinder = (*Journal)(nil)

// ParkRequest implements ca.Register. The ID it returns is a decimal number.
func (j *Journal) ParkRequest(ctx context.Context, name string, r ca.ParkedRequest) (string, error) {
	if r.State == "" {
		r.State = ca.Waiting
	}
	var id int64
	err := j.do(ctx, durable, func(c *conn) (bool, error) {
		old, err := newestParked(c, name, r.CSRDigest, time.Time{})
		switch {
		case err == nil && (old.State == ca.Waiting || old.State == ca.Approved):
			id, err = strconv.ParseInt(old.ID, 10, 64)
			return false, err
		case err != nil && err != ca.ErrNotFound:
			return false, err
		}
		s, err := c.use(insertParked)
		if err != nil {
			return false, err
		}
		s.text(name).blob(r.CSR).blob(r.CSRDigest[:]).text(r.Template).int(int64(r.Validity)).int(int64(r.MaxValidity))
		id, err = returned(s.text(string(r.State)).text(r.Why).time(r.At))
		return true, err
	})
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(id, 10), nil
}

// FindRequest implements ca.RequestFinder.
func (j *Journal) FindRequest(ctx context.Context, name string, csrDigest [32]byte, from time.Time) (ca.ParkedRequest, error) {
	var r ca.ParkedRequest
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var err error
		r, err = newestParked(c, name, csrDigest, from)
		return false, err
	})
	if err != nil {
		return ca.ParkedRequest{}, err
	}
	return r, nil
}

func newestParked(c *conn, name string, csrDigest [32]byte, from time.Time) (ca.ParkedRequest, error) {
	s, err := c.use(parkedByCSR)
	if err != nil {
		return ca.ParkedRequest{}, err
	}
	s.text(name).blob(csrDigest[:])
	if from.IsZero() {
		s.int(0)
	} else {
		s.time(from)
	}
	found, err := s.step()
	switch {
	case err != nil:
		return ca.ParkedRequest{}, err
	case !found:
		return ca.ParkedRequest{}, ca.ErrNotFound
	}
	id := strconv.FormatInt(s.colInt(), 10)
	s.reset()
	return parkedRequest(c, name, id)
}

// Request implements ca.Register.
func (j *Journal) Request(ctx context.Context, name, id string) (ca.ParkedRequest, error) {
	var r ca.ParkedRequest
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var err error
		r, err = parkedRequest(c, name, id)
		return false, err
	})
	if err != nil {
		return ca.ParkedRequest{}, err
	}
	return r, nil
}

func parkedRequest(c *conn, name, id string) (ca.ParkedRequest, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return ca.ParkedRequest{}, ca.ErrNotFound
	}
	s, err := c.use(parkedByID)
	if err != nil {
		return ca.ParkedRequest{}, err
	}
	found, err := s.int(n).text(name).step()
	if err != nil {
		return ca.ParkedRequest{}, err
	}
	if !found {
		return ca.ParkedRequest{}, ca.ErrNotFound
	}
	defer s.reset()
	r := ca.ParkedRequest{
		ID: strconv.FormatInt(s.colInt(), 10), CSR: s.colBlob(), CSRDigest: s.colDigest(), Template: s.colText(),
		Validity: time.Duration(s.colInt()), MaxValidity: time.Duration(s.colInt()),
		State: ca.ParkedState(s.colText()), Why: s.colText(),
	}
	if serial := s.raw(); serial != nil {
		r.Serial = new(big.Int).SetBytes(serial)
	}
	r.At = s.colTime()
	return r, nil
}

// DecideRequest implements ca.Register. To decide the same again is a success.
func (j *Journal) DecideRequest(ctx context.Context, name, id string, decision ca.ParkedState, why string) error {
	if decision != ca.Approved && decision != ca.Rejected {
		return fmt.Errorf("request %q: %q is no decision, say %q or %q", id, decision, ca.Approved, ca.Rejected)
	}
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		r, err := parkedRequest(c, name, id)
		if err != nil {
			return false, err
		}
		switch {
		case r.State == decision, r.State == ca.Complete && decision == ca.Approved:
			return false, nil
		case r.State != ca.Waiting:
			return false, fmt.Errorf("request %s is %s already: %w", r.ID, r.State, ca.ErrForbidden)
		}
		s, err := c.use(decideParked)
		if err != nil {
			return false, err
		}
		n, _ := strconv.ParseInt(r.ID, 10, 64)
		return true, s.text(string(decision)).text(why).int(n).exec()
	})
}

// CompleteRequest implements ca.Register. A request that is not approved, or
// was completed with another certificate, is ca.ErrForbidden.
func (j *Journal) CompleteRequest(ctx context.Context, name, id string, rc ca.RegisteredCertificate) error {
	return j.do(ctx, lazy, func(c *conn) (bool, error) {
		r, err := parkedRequest(c, name, id)
		if err != nil {
			return false, err
		}
		if r.State == ca.Complete && r.Serial != nil && r.Serial.Cmp(rc.Serial) == 0 {
			return false, nil
		}
		if r.State != ca.Approved {
			return false, fmt.Errorf("request %s is %s: %w", r.ID, r.State, ca.ErrForbidden)
		}
		wrote, err := addCertificate(c, name, &rc)
		if err != nil {
			return wrote, err
		}
		s, err := c.use(completeParked)
		if err != nil {
			return wrote, err
		}
		n, _ := strconv.ParseInt(r.ID, 10, 64)
		return true, s.text(string(ca.Complete)).blob(serialBlob(rc.Serial.Bytes())).int(n).exec()
	})
}
