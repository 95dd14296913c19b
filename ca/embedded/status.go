package embedded

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// Find returns the newest certificate issued for a CSR since q.From, or
// *ca.Pending where the request is parked (if the register can tell).
func (c *CA) Find(ctx context.Context, q ca.Query) (*ca.Issued, error) {
	from := q.From.Truncate(time.Second) // a database may keep fewer digits than the caller's clock has
	row, err := c.register.FindCertificate(ctx, c.name, q.CSRDigest, from)
	if err == nil {
		return issued(row, "")
	}
	if !errors.Is(err, ca.ErrNotFound) {
		return nil, fmt.Errorf("%w: searching the register: %v", ca.ErrUnavailable, err)
	}
	finder, ok := c.register.(ca.RequestFinder)
	if !ok {
		return nil, ca.ErrNotFound
	}
	parked, err := finder.FindRequest(ctx, c.name, q.CSRDigest, from)
	switch {
	case err == nil:
		return nil, &ca.Pending{RequestID: parked.ID} // whatever became of it, Collect tells
	case errors.Is(err, ca.ErrNotFound):
		return nil, ca.ErrNotFound
	}
	return nil, fmt.Errorf("%w: searching the register: %v", ca.ErrUnavailable, err)
}

// Revoke puts a certificate on the next revocation list. One that is revoked
// already keeps its first reason and time.
func (c *CA) Revoke(ctx context.Context, serial *big.Int, reason ca.Reason) error {
	if !usableReason(reason) {
		return fmt.Errorf("%w: %v is not a reason for a revocation list (RFC 5280, section 5.3.1)", ca.ErrForbidden, reason)
	}
	err := c.register.RevokeCertificate(ctx, c.name, serial, reason, c.clock())
	switch {
	case err == nil:
		c.forgetCRL(serial)
		return nil
	case errors.Is(err, ca.ErrNotFound):
		return fmt.Errorf("revoking serial number %X: %w", serial, ca.ErrNotFound)
	}
	c.forgetCRL(serial) // the row may be there
	return fmt.Errorf("%w: recording a revocation: %v", ca.ErrOutcomeUnknown, err)
}

// usableReason leaves out 7, which is unused, 8, which takes back a hold, and
// 10, which is about attribute certificates.
func usableReason(r ca.Reason) bool {
	return r >= ca.Unspecified && r <= ca.CertificateHold || r == ca.PrivilegeWithdrawn
}

// Check tells the status of a certificate of this CA.
func (c *CA) Check(ctx context.Context, serial *big.Int) (ca.Status, error) {
	row, err := c.register.Certificate(ctx, c.name, serial)
	if err != nil {
		if errors.Is(err, ca.ErrNotFound) {
			return ca.Status{}, ca.ErrNotFound
		}
		return ca.Status{}, fmt.Errorf("%w: reading the register: %v", ca.ErrUnavailable, err)
	}
	cert, err := x509.ParseCertificate(row.DER)
	if err != nil {
		return ca.Status{}, fmt.Errorf("%w: a certificate in the register does not read: %v", ca.ErrUnavailable, err)
	}
	status := ca.Status{Revoked: row.Revoked, Certificate: cert}
	if row.Revoked {
		status.Reason, status.RevokedAt = row.Reason, row.RevokedAt
	}
	return status, nil
}
