package adcs

import (
	"context"
	"crypto/x509"
	"math/big"

	"github.com/certconnector/certconnector/ca"
)

// Check implements ca.Checker.
func (r revoker) Check(ctx context.Context, serial *big.Int) (ca.Status, error) {
	c := r.c
	ctx, cancel := c.within(ctx)
	defer cancel()
	var status ca.Status
	var text string
	err := c.administer(ctx, "status", func(ctx context.Context, a *admin) error {
		t, v, err := c.validityOf(ctx, a, serial)
		if err != nil {
			return err
		}
		text, status = t, ca.Status{Revoked: v.state == validityRevoked}
		if status.Revoked {
			status.Reason = v.reason
		}
		return nil
	})
	if err != nil {
		return ca.Status{}, err
	}
	select { // before an object is taken, as Find does
	case c.search <- struct{}{}:
		defer func() { <-c.search }()
	case <-ctx.Done():
		return ca.Status{}, c.unreachable("status", ctx.Err(), 0)
	}
	err = c.administer(ctx, "status", func(ctx context.Context, a *admin) error { return c.fillStatus(ctx, a, text, &status) })
	return status, err
}

// fillStatus adds time and certificate from the database to a status, where
// the account may read it.
func (c *CA) fillStatus(ctx context.Context, a *admin, serial string, status *ca.Status) error {
	if c.mayRead(ctx, a) != nil {
		return nil
	}
	schema, err := c.schema(ctx, a)
	if err != nil {
		return nil
	}
	id := func(name string) uint32 { return schema[name].id }
	where := []restriction{{id(colSerial), equal, stringValue(serial)}}
	cols := []uint32{id(colRequestID), id(colSerial), id(colCertificate), id(colEffective)}
	err = c.readView(ctx, a, where, cols, func(r row) bool {
		cert, err := x509.ParseCertificate(r.cells[id(colCertificate)])
		if err != nil || !sameSerial(cert.SerialNumber, serial) {
			return false
		}
		status.Certificate = cert
		if status.Revoked {
			status.RevokedAt = r.date(id(colEffective))
		}
		return true
	})
	if _, ok := answered(err); ok {
		return nil // the question by serial number is refused: what is known is enough
	}
	return err
}

func sameSerial(n *big.Int, text string) bool {
	want, ok := new(big.Int).SetString(text, 16)
	return ok && n.Cmp(want) == 0
}
