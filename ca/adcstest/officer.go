package adcstest

import (
	"slices"
	"strings"
	"time"
)

// Approve issues a parked request ([MS-CSRA], section 3.1.4.1.3).
func (c *CA) Approve(officer string, id uint32) int32 {
	return c.decide(officer, id, func(r *row) { c.issue(r, c.template(r.template), c.clock()) })
}

// Deny refuses a parked request ([MS-CSRA], section 3.1.4.1.4).
func (c *CA) Deny(officer string, id uint32) int32 {
	return c.decide(officer, id, func(r *row) {
		c.refuse(r, DispositionDenied, AdminDenied, "Denied by "+c.callerName(officer))
	})
}

func (c *CA) decide(officer string, id uint32, decision func(*row)) int32 {
	if hr := c.require(officer, RoleOfficer); hr != 0 {
		return hr
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.row(id)
	switch {
	case r == nil:
		return PropertyEmpty
	case c.restricted(officer, r.template):
		return RestrictedOfficer
	case r.disposition != DispositionUnderSubmission:
		return BadStatus
	}
	decision(r)
	return 0
}

// Reasons that RevokeCertificate knows besides those of RFC 5280
// ([MS-CSRA], section 3.1.4.1.8).
const (
	ReasonHold          uint32 = 6
	ReasonRemoveFromCRL uint32 = 8
	ReasonRelease       uint32 = 0xFFFFFFFF
	ReasonKeepExpired   uint32 = 0xFFFFFFFE // list it after it has expired
	ReasonDropExpired   uint32 = 0xFFFFFFFD
)

// Revoke revokes or releases a certificate. The serial number is compared as
// text, case included; a zero time is now.
func (c *CA) Revoke(officer, serial string, reason uint32, when time.Time) int32 {
	if hr := c.require(officer, RoleOfficer); hr != 0 {
		return hr
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.bySerial(serial)
	switch {
	case r == nil && c.quirks.UnknownSerialEmpty:
		return PropertyEmpty
	case r == nil:
		return InvalidArgument
	case c.restricted(officer, r.template):
		return RestrictedOfficer
	}
	hr := c.revoke(r, reason, when)
	if hr == 0 && c.publishOnRevoke {
		if c.publish(0, PublishBase|PublishDelta) != nil {
			return Unexpected
		}
	}
	return hr
}

func (c *CA) revoke(r *row, reason uint32, when time.Time) int32 {
	now := c.clock()
	if when.IsZero() {
		when = now
	}
	revoked := r.disposition == DispositionRevoked
	held := revoked && r.reason == ReasonHold
	switch {
	case reason == ReasonKeepExpired || reason == ReasonDropExpired:
		r.keepExpired = reason == ReasonKeepExpired
	case reason == ReasonRelease || reason == ReasonRemoveFromCRL:
		if !held {
			return InvalidData
		}
		r.disposition, r.reason, r.released = DispositionIssued, 0, now
		r.revoked, r.effective = time.Time{}, time.Time{}
	case reason > ReasonHold:
		return InvalidArgument
	case reason == ReasonHold && revoked && !held:
		return InvalidData
	default: // a second revocation overwrites the first
		r.disposition, r.reason, r.revoked, r.effective = DispositionRevoked, reason, now, when
	}
	return 0
}

// bySerial compares the text as the SerialNumber column has it.
func (c *CA) bySerial(text string) *row {
	r := c.serials[strings.ToLower(text)]
	if r == nil || c.column(r) != text {
		return nil
	}
	return r
}

// column is the SerialNumber column.
func (c *CA) column(r *row) string {
	if c.quirks.UpperCaseSerials {
		return strings.ToUpper(r.serial)
	}
	return r.serial
}

// Validity of a certificate, as IsValidCertificate tells it ([MS-CSRA],
// section 3.1.4.1.5).
const (
	ValidityRevoked uint32 = 2
	ValidityValid   uint32 = 3
	ValidityUnknown uint32 = 4 // never issued
)

// IsValid tells a certificate's validity and the reason of its revocation. One
// that is revoked from a later date on is still valid. The time of the
// revocation is told by the database only.
func (c *CA) IsValid(serial string) (validity, reason uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.bySerial(serial)
	switch {
	case r == nil:
		return ValidityUnknown, 0
	case r.disposition == DispositionRevoked && !r.effective.After(c.clock()):
		return ValidityRevoked, r.reason
	}
	return ValidityValid, 0
}

// Pending lists the IDs of the requests that wait for an officer.
func (c *CA) Pending() []uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []uint32
	for _, r := range c.rows {
		if r.disposition == DispositionUnderSubmission {
			ids = append(ids, r.id)
		}
	}
	return slices.Clip(ids)
}
