package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// AddCertificate implements ca.Register. A certificate that is there already,
// byte for byte, is a success; another one with its serial number is an error.
func (j *Journal) AddCertificate(ctx context.Context, name string, rc ca.RegisteredCertificate) error {
	return j.do(ctx, own, func(c *conn) (bool, error) { return addCertificate(c, name, &rc) })
}

func addCertificate(c *conn, name string, rc *ca.RegisteredCertificate) (bool, error) {
	serial := rc.Serial.Bytes()
	old, err := findSerial(c, name, serial)
	switch {
	case err == nil && bytes.Equal(old.DER, rc.DER):
		return false, nil
	case err == nil:
		return false, fmt.Errorf("CA %q: serial number %X is registered for another certificate: %w", name, serial, ca.ErrForbidden)
	case err != ca.ErrNotFound:
		return false, err
	}
	return true, insertRegistered(c, name, serial, rc)
}

func insertRegistered(c *conn, name string, serial []byte, rc *ca.RegisteredCertificate) error {
	s, err := c.use(insertCertificate)
	if err != nil {
		return err
	}
	s.int(serialKey(name, serial)).int(digestKey(&rc.CSRDigest)).text(name).blob(serialBlob(serial)).blob(rc.CSRDigest[:])
	s.time(rc.IssuedAt).time(rc.NotAfter)
	if rc.Revoked {
		s.time(rc.RevokedAt)
	} else {
		s.null()
	}
	return s.int(int64(rc.Reason)).blob(rc.DER).exec()
}

// serialBlob is a serial number as stored: never NULL, even for zero.
func serialBlob(serial []byte) []byte {
	if len(serial) == 0 {
		return []byte{0}
	}
	return serial
}

// Certificate implements ca.Register.
func (j *Journal) Certificate(ctx context.Context, name string, serial *big.Int) (ca.RegisteredCertificate, error) {
	b := serial.Bytes()
	return j.certificate(ctx, func(c *conn) (ca.RegisteredCertificate, error) { return findSerial(c, name, b) })
}

// FindCertificate implements ca.Register. It reads back through the order of
// issue to from, so that issuing keeps no third index of random keys.
func (j *Journal) FindCertificate(ctx context.Context, name string, csrDigest [32]byte, from time.Time) (ca.RegisteredCertificate, error) {
	return j.certificate(ctx, func(c *conn) (ca.RegisteredCertificate, error) {
		s, err := c.use(certificateByCSR)
		if err != nil {
			return ca.RegisteredCertificate{}, err
		}
		return oneCertificate(s.time(from).int(digestKey(&csrDigest)).text(name).blob(csrDigest[:]))
	})
}

func (j *Journal) certificate(ctx context.Context, find func(*conn) (ca.RegisteredCertificate, error)) (ca.RegisteredCertificate, error) {
	var rc ca.RegisteredCertificate
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var err error
		rc, err = find(c)
		return false, err
	})
	if err != nil {
		return ca.RegisteredCertificate{}, err
	}
	return rc, nil
}

func findSerial(c *conn, name string, serial []byte) (ca.RegisteredCertificate, error) {
	s, err := c.use(certificateBySerial)
	if err != nil {
		return ca.RegisteredCertificate{}, err
	}
	return oneCertificate(s.int(serialKey(name, serial)).text(name).blob(serialBlob(serial)))
}

func oneCertificate(s *stmt) (ca.RegisteredCertificate, error) {
	found, err := s.step()
	if err != nil {
		return ca.RegisteredCertificate{}, err
	}
	if !found {
		return ca.RegisteredCertificate{}, ca.ErrNotFound
	}
	rc := scanCertificate(s)
	s.reset()
	return rc, nil
}

// scanCertificate reads certificateColumns.
func scanCertificate(s *stmt) ca.RegisteredCertificate {
	rc := ca.RegisteredCertificate{Serial: new(big.Int).SetBytes(s.raw()), DER: s.colBlob(), CSRDigest: s.colDigest(), IssuedAt: s.colTime(), NotAfter: s.colTime()}
	rc.Revoked = !s.colNull()
	rc.RevokedAt = s.colTime()
	rc.Reason = ca.Reason(s.colInt())
	return rc
}

// RevokeCertificate implements ca.Register.
func (j *Journal) RevokeCertificate(ctx context.Context, name string, serial *big.Int, reason ca.Reason, at time.Time) error {
	b := serial.Bytes()
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		old, err := findSerial(c, name, b)
		if err != nil || old.Revoked {
			return false, err
		}
		s, err := c.use(revokeCertificate)
		if err != nil {
			return false, err
		}
		return true, s.time(at).int(int64(reason)).int(serialKey(name, b)).text(name).blob(serialBlob(b)).exec()
	})
}

// Revoked implements ca.Register.
func (j *Journal) Revoked(ctx context.Context, name string, notExpiredAt time.Time) ([]ca.RegisteredCertificate, error) {
	var list []ca.RegisteredCertificate
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		s, err := c.use(revokedCertificates)
		if err != nil {
			return false, err
		}
		s.text(name).time(notExpiredAt)
		for {
			found, err := s.step()
			if err != nil || !found {
				return false, err
			}
			list = append(list, scanCertificate(s))
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// NextCRLNumber implements ca.Register.
func (j *Journal) NextCRLNumber(ctx context.Context, name string) (int64, error) {
	var number int64
	err := j.do(ctx, durable, func(c *conn) (bool, error) {
		s, err := c.use(nextCRLNumber)
		if err != nil {
			return false, err
		}
		number, err = returned(s.text(name))
		return true, err
	})
	if err != nil {
		return 0, err
	}
	return number, nil
}

// returned runs an insertion to its end and gives the number it returns.
func returned(s *stmt) (int64, error) {
	if _, err := s.step(); err != nil {
		return 0, err
	}
	n := s.colInt()
	return n, s.exec()
}
