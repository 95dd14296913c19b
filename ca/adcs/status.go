package adcs

import (
	"context"
	"crypto/x509"
	"math/big"

	"github.com/certconnector/certconnector/ca"
)

// fillStatus adds time and certificate from the database to a status, where
// the account may read it.
func (c *CA) fillStatus(ctx context.Context, a *admin, serial string, status *ca.Status) error {
	select {
	case c.search <- struct{}{}:
		defer func() { <-c.search }()
	case <-ctx.Done():
		return ctx.Err()
	}
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
