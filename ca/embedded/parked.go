package embedded

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/pkcs10"
)

// sealLabel is the kind of record that a parked CSR is sealed as.
const sealLabel = "embedded CA parked request"

// park stores a request for a person and returns *ca.Pending, or why it could
// not. The CSR carries the challenge, so it is sealed.
func (c *CA) park(ctx context.Context, req ca.Request) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %v before the request was parked", ca.ErrUnavailable, err)
	}
	id, err := c.register.ParkRequest(ctx, c.name, ca.ParkedRequest{
		CSR:         c.sealer.Seal(sealLabel, req.CSR.Raw),
		CSRDigest:   req.CSR.Digest(),
		Template:    req.Template,
		Validity:    req.Validity,
		MaxValidity: req.MaxValidity,
		State:       ca.Waiting,
		At:          c.clock(),
	})
	if err != nil {
		// Parked twice is parked once, so asking again is free.
		return fmt.Errorf("%w: parking the request: %v", ca.ErrUnavailable, err)
	}
	return &ca.Pending{RequestID: id}
}

// Collect fetches the outcome of a parked request. An approved one is issued
// by the first Collect; all others get that certificate, in this process and
// after a restart.
func (c *CA) Collect(ctx context.Context, requestID string) (*ca.Issued, error) {
	parked, err := c.parked(ctx, requestID)
	if err != nil {
		return nil, err
	}
	switch parked.State {
	case ca.Waiting:
		return nil, &ca.Pending{RequestID: requestID}
	case ca.Rejected:
		return nil, &ca.Denied{HResult: ca.HResultAdminDenied, Text: rejection(parked.Why)}
	case ca.Complete:
		return c.completed(ctx, parked)
	case ca.Approved:
		return c.complete(ctx, parked)
	}
	return nil, fmt.Errorf("%w: request %s is in the unknown state %q", ca.ErrUnavailable, requestID, parked.State)
}

func rejection(why string) string {
	if why == "" {
		return "denied by an administrator"
	}
	return "denied by an administrator: " + why
}

// parked reads a parked request; nothing was submitted if that fails.
func (c *CA) parked(ctx context.Context, id string) (ca.ParkedRequest, error) {
	parked, err := c.register.Request(ctx, c.name, id)
	if err != nil && !errors.Is(err, ca.ErrNotFound) {
		return parked, fmt.Errorf("%w: reading request %s: %v", ca.ErrUnavailable, id, err)
	}
	return parked, err
}

// complete issues an approved request. Another call, or another machine, may do
// so at the same time: the register takes one certificate, and the other was
// never anywhere.
func (c *CA) complete(ctx context.Context, parked ca.ParkedRequest) (*ca.Issued, error) {
	d, err := c.draftParked(parked)
	if err != nil {
		return nil, err
	}
	row, cert, err := c.sign(ctx, d)
	if err != nil {
		return nil, err
	}
	err = c.register.CompleteRequest(ctx, c.name, parked.ID, row)
	if err == nil {
		return &ca.Issued{Certificate: cert, RequestID: parked.ID}, nil
	}
	if now, readErr := c.parked(ctx, parked.ID); readErr == nil && now.State == ca.Complete {
		return c.completed(ctx, now)
	}
	return nil, unrecorded(err)
}

// draftParked opens the sealed CSR and reads it as Issue would.
func (c *CA) draftParked(parked ca.ParkedRequest) (draft, error) {
	if c.sealer == nil {
		return draft{}, fmt.Errorf("%w: request %s is sealed and this CA has no sealer", ca.ErrUnavailable, parked.ID)
	}
	der, err := c.sealer.Open(sealLabel, parked.CSR)
	if err != nil {
		return draft{}, fmt.Errorf("%w: request %s cannot be opened, bring back the local key: %v", ca.ErrUnavailable, parked.ID, err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		return draft{}, denied("parked request %s no longer reads: %v", parked.ID, err)
	}
	p, err := c.profile(parked.Template)
	if err != nil {
		return draft{}, err
	}
	return c.draftFor(p, ca.Request{
		CSR: csr, Template: parked.Template, Validity: parked.Validity, MaxValidity: parked.MaxValidity,
	})
}

// completed returns the certificate of a request that was issued before.
func (c *CA) completed(ctx context.Context, parked ca.ParkedRequest) (*ca.Issued, error) {
	if parked.Serial == nil {
		return nil, fmt.Errorf("%w: request %s is issued, but its serial number is not recorded", ca.ErrOutcomeUnknown, parked.ID)
	}
	row, err := c.register.Certificate(ctx, c.name, parked.Serial)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the certificate of request %s: %v", ca.ErrOutcomeUnknown, parked.ID, err)
	}
	return issued(row, parked.ID)
}

// issued reads a row of the register back into a certificate.
func issued(row ca.RegisteredCertificate, requestID string) (*ca.Issued, error) {
	cert, err := x509.ParseCertificate(row.DER)
	if err != nil {
		return nil, fmt.Errorf("%w: a certificate in the register does not read: %v", ca.ErrOutcomeUnknown, err)
	}
	return &ca.Issued{Certificate: cert, RequestID: requestID}, nil
}

// Approve lets the next Collect issue a parked request. Approving twice is a
// success; ErrForbidden after a denial.
func (c *CA) Approve(ctx context.Context, requestID string) error {
	if err := c.register.DecideRequest(ctx, c.name, requestID, ca.Approved, ""); err != nil {
		return fmt.Errorf("approving request %s: %w", requestID, err)
	}
	return nil
}

// Deny refuses a parked request for good; why is told to whoever collects it.
// ErrForbidden after an approval: revoke the certificate instead.
func (c *CA) Deny(ctx context.Context, requestID, why string) error {
	if err := c.register.DecideRequest(ctx, c.name, requestID, ca.Rejected, why); err != nil {
		return fmt.Errorf("denying request %s: %w", requestID, err)
	}
	return nil
}
