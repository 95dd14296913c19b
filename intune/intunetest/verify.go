package intunetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/intune"
)

// judge decides about a request, in the order that was deduced from Intune's
// codes: the request, its challenge, whom it is for, and what it asks for.
// The caller holds c.mu.
func (c *Cloud) judge(t *tenant, q *csr) (intune.Code, string) {
	if q.challenge == "" {
		return intune.ChallengePasswordMissing, "The request has no challenge password."
	}
	cl, code := c.makers.open(q.challenge, c.clock())
	switch code {
	case intune.Success:
	case intune.ChallengeExpired:
		format := func(s int64) string { return time.Unix(s, 0).UTC().Format("01/02/2006 15:04:05") }
		return code, fmt.Sprintf("challengeExpInterval=%d, challengeExpiration=%s, challengeCreation=%s",
			(cl.Expires-cl.Created)/60, format(cl.Expires), format(cl.Created))
	default:
		return code, "The challenge is not acceptable."
	}
	device, code := t.addressee(cl)
	if code != intune.Success {
		return code, "The challenge is for someone else."
	}
	for _, check := range []func(claims, Device, *csr) intune.Code{
		checkSubject, checkNames, checkUsage, checkKey,
	} {
		if code := check(cl, device, q); code != intune.Success {
			return code, "The request differs from the profile."
		}
	}
	return intune.Success, ""
}

// addressee finds the device of a challenge and whether its profile is still
// targeted to it.
func (t *tenant) addressee(cl claims) (Device, intune.Code) {
	if len(cl.RequestID) != 36 || cl.Tenant != t.ID {
		return Device{}, intune.BadCertificateRequestIDInChallenge
	}
	i := slices.IndexFunc(t.Devices, func(d Device) bool { return d.ID == cl.DeviceID })
	if i < 0 {
		return Device{}, intune.BadDeviceIDInChallenge
	}
	d := t.Devices[i]
	if d.UserID != cl.UserID {
		return d, intune.BadUserIDInChallenge
	}
	exists := slices.ContainsFunc(t.Profiles, func(p Profile) bool { return p.Name == cl.Profile })
	if !exists || t.released[target{cl.Profile, cl.DeviceID}] || t.released[target{cl.Profile, ""}] {
		return d, intune.ScepProfileNoLongerTargetedToTheClient
	}
	return d, intune.Success
}

func checkSubject(cl claims, _ Device, q *csr) intune.Code {
	flat := func(attributes []attribute) []string {
		var out []string
		for _, a := range attributes {
			out = append(out, a.Type+"="+a.Value)
		}
		return out
	}
	switch {
	case len(cl.Subject) > 0 && len(q.subject) == 0:
		return intune.SubjectNameMissing
	case !sameSet(flat(cl.Subject), flat(q.subject)):
		return intune.SubjectNameMismatch
	}
	return intune.Success
}

func checkNames(cl claims, _ Device, q *csr) intune.Code {
	count := func(n Names) int { return len(n.DNS) + len(n.Email) + len(n.URI) + len(n.UPN) }
	switch {
	case count(cl.SAN) > 0 && count(q.names) == 0:
		return intune.SubjectAltNameMissing
	case !sameSet(cl.SAN.DNS, q.names.DNS) || !sameSet(cl.SAN.Email, q.names.Email) ||
		!sameSet(cl.SAN.URI, q.names.URI) || !sameSet(cl.SAN.UPN, q.names.UPN):
		return intune.SubjectAltNameMismatch
	}
	return intune.Success
}

func checkUsage(cl claims, _ Device, q *csr) intune.Code {
	switch {
	case cl.KeyUsage != 0 && cl.KeyUsage != q.keyUsage:
		return intune.KeyUsageMismatch
	case cl.KeySize != 0 && cl.KeySize != q.keySize:
		return intune.KeyLengthMismatch
	case len(cl.EKU) > 0 && len(q.eku) == 0:
		return intune.EnhancedKeyUsageMissing
	case len(cl.EKU) > 0 && !sameSet(cl.EKU, q.eku):
		return intune.EnhancedKeyUsageMismatch
	}
	return intune.Success
}

func checkKey(cl claims, d Device, q *csr) intune.Code {
	switch {
	case !cl.RegisteredKey:
		return intune.Success
	case len(d.Keys) == 0:
		return intune.AadKeyIdentifierListMissing
	case !slices.ContainsFunc(d.Keys, func(k string) bool { return strings.EqualFold(k, q.keyHash) }):
		return intune.RegisteredKeyMismatch
	}
	return intune.Success
}
