package adcs

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	admin1 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind/v0"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"

	"github.com/certconnector/certconnector/ca"
)

// What IsValidCertificate answers ([MS-CSRA], section 3.1.4.1.5).
const (
	validityRevoked = 2
	validityValid   = 3
	validityNever   = 4
)

// revoker has the methods of an officer.
type revoker struct{ c *CA }

// Revoke implements ca.Revoker. It asks first: a second revocation would
// overwrite reason and date of the first.
func (r revoker) Revoke(ctx context.Context, serial *big.Int, reason ca.Reason) error {
	code, err := revocationReason(reason)
	if err != nil {
		return fmt.Errorf("CA %s: %w", r.c.name, err)
	}
	ctx, cancel := r.c.within(ctx)
	defer cancel()
	return r.c.administer(ctx, "revocation", func(ctx context.Context, a *admin) error {
		text, v, err := r.c.validityOf(ctx, a, serial)
		if err != nil || v.state == validityRevoked {
			return err
		}
		out, err := a.one.RevokeCertificate(ctx, &admin1.RevokeCertificateRequest{
			This: a.this(), Authority: a.authority, SerialNumber: text, Reason: code, FileTime: effective(r.c.now()),
		})
		if out == nil {
			return err
		}
		if ret := uint32(out.Return); ret == codeInvalid || ret == codePropertyEmpty {
			return r.c.notFound("revocation", ret)
		}
		if err := r.c.codeOf("revocation", out.Return); err != nil {
			return err
		}
		if _, v, err = r.c.validityOf(ctx, a, serial); err != nil {
			return err
		}
		if v.state != validityRevoked {
			return r.c.unknown("revocation", errors.New("the CA accepted it, and still calls the certificate valid"), 0)
		}
		return nil
	})
}

// clockAllowance is what clocks of a domain may differ by (Kerberos' default).
// Effective from a moment that is still to come for the CA, a certificate
// would be called valid until then.
const clockAllowance = 5 * time.Minute

// effective is the date of a revocation. 0 is not described in [MS-CSRA].
func effective(now time.Time) *dtyp.Filetime {
	t := ticks(now.Add(-clockAllowance))
	return &dtyp.Filetime{LowDateTime: uint32(t), HighDateTime: uint32(t >> 32)}
}

// validity is an answer of IsValidCertificate.
type validity struct {
	state  int32
	reason ca.Reason
}

// validityOf asks for a serial number, in the text form that the CA keeps:
// lower case by [MS-CSRA], upper case is tried too, because it compares case.
func (c *CA) validityOf(ctx context.Context, a *admin, serial *big.Int) (string, validity, error) {
	lower, ok := serialText(serial)
	if !ok {
		return "", validity{}, c.notFound("status", 0)
	}
	for _, text := range []string{lower, strings.ToUpper(lower)} {
		out, err := a.one.IsValidCertificate(ctx, &admin1.IsValidCertificateRequest{This: a.this(), Authority: a.authority, SerialNumber: text})
		if out == nil {
			return "", validity{}, err
		}
		switch ret := uint32(out.Return); {
		case ret == codePropertyEmpty:
			continue
		case out.Return < 0:
			return "", validity{}, c.codeOf("status", out.Return)
		}
		switch out.Disposition {
		case validityRevoked, validityValid:
			return text, validity{out.Disposition, ca.Reason(out.RevocationReason)}, nil
		case validityNever:
		default:
			return "", validity{}, c.unknown("status", fmt.Errorf("disposition %d means nothing", out.Disposition), 0)
		}
	}
	return "", validity{}, c.notFound("status", 0)
}

func (c *CA) notFound(step string, code uint32) error {
	return &problem{ca: c.name, step: step, kind: ca.ErrNotFound, code: code}
}

// serialText is the form of the SerialNumber column: lower-case hex of the
// positive integer with an even count of digits ([MS-CSRA], section 3.1.1.1.2).
func serialText(serial *big.Int) (text string, ok bool) {
	if serial == nil || serial.Sign() <= 0 || serial.BitLen() > 20*8 {
		return "", false
	}
	text = serial.Text(16)
	if len(text)%2 == 1 {
		text = "0" + text
	}
	return text, true
}

// revocationReason maps to what the CA takes: 0 to 6. It has no
// privilegeWithdrawn; cessationOfOperation says the same for a device.
func revocationReason(reason ca.Reason) (uint32, error) {
	switch {
	case reason == ca.PrivilegeWithdrawn:
		return uint32(ca.CessationOfOperation), nil
	case reason < ca.Unspecified || reason > ca.CertificateHold:
		return 0, fmt.Errorf("reason %v cannot be given to a Microsoft CA", reason)
	}
	return uint32(reason), nil
}

// approver has the decisions of an officer.
type approver struct{ c *CA }

// Approve implements ca.Approver.
func (p approver) Approve(ctx context.Context, requestID string) error {
	return p.decide(ctx, "approval", requestID, func(ctx context.Context, a *admin, id uint32) (int32, error) {
		out, err := a.one.ResubmitRequest(ctx, &admin1.ResubmitRequestRequest{This: a.this(), Authority: a.authority, RequestID: id})
		if out == nil {
			return 0, err
		}
		if d := int32(out.Disposition); out.Return >= 0 && d < 0 {
			return d, nil // the CA approved and then refused by itself
		}
		return out.Return, nil
	})
}

// Deny implements ca.Approver. The CA keeps no reason; the log does.
func (p approver) Deny(ctx context.Context, requestID, _ string) error {
	return p.decide(ctx, "denial", requestID, func(ctx context.Context, a *admin, id uint32) (int32, error) {
		out, err := a.one.DenyRequest(ctx, &admin1.DenyRequestRequest{This: a.this(), Authority: a.authority, RequestID: id})
		if out == nil {
			return 0, err
		}
		return out.Return, nil
	})
}

func (p approver) decide(ctx context.Context, step, requestID string, call func(context.Context, *admin, uint32) (int32, error)) error {
	id, err := strconv.ParseUint(requestID, 10, 32)
	if err != nil {
		return p.c.notFound(step, 0)
	}
	ctx, cancel := p.c.within(ctx)
	defer cancel()
	return p.c.administer(ctx, step, func(ctx context.Context, a *admin) error {
		ret, err := call(ctx, a, uint32(id))
		if err != nil {
			return err
		}
		switch uint32(ret) {
		case codePropertyEmpty:
			return p.c.notFound(step, uint32(ret))
		case codeBadStatus: // decided otherwise before
			return &problem{ca: p.c.name, step: step, kind: ca.ErrForbidden, code: uint32(ret)}
		}
		return p.c.codeOf(step, ret)
	})
}

const filetimeEpoch = 11644473600 // seconds from 1601 to 1970

// ticks is a time as FILETIME: 100 ns since 1601, UTC.
func ticks(t time.Time) uint64 {
	return uint64(t.Unix()+filetimeEpoch)*1e7 + uint64(t.Nanosecond()/100)
}
