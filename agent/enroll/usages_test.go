package enroll_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

var (
	clientAuth   = oid(1, 3, 6, 1, 5, 5, 7, 3, 2)
	serverAuth   = oid(1, 3, 6, 1, 5, 5, 7, 3, 1)
	smartCard    = oid(1, 3, 6, 1, 4, 1, 311, 20, 2, 2)
	requestAgent = oid(1, 3, 6, 1, 4, 1, 311, 20, 2, 1)
	anyPurpose   = oid(2, 5, 29, 37, 0)
)

func usages(t *testing.T, ids ...asn1.ObjectIdentifier) pkix.Extension {
	return pkix.Extension{Id: oid(2, 5, 29, 37), Value: mustDER(t, ids)}
}

// policies builds the application policies extension.
func policies(t *testing.T, ids ...asn1.ObjectIdentifier) pkix.Extension {
	type policy struct{ ID asn1.ObjectIdentifier }
	list := make([]policy, 0, len(ids))
	for _, id := range ids {
		list = append(list, policy{id})
	}
	return pkix.Extension{Id: oid(1, 3, 6, 1, 4, 1, 311, 21, 10), Value: mustDER(t, list)}
}

// TestRequestedUsages holds extended key usages and application policies,
// which Windows reads as the same, to the same rules (M6).
func TestRequestedUsages(t *testing.T) {
	list := []asn1.ObjectIdentifier{clientAuth, serverAuth}
	for name, tc := range map[string]struct {
		list  []asn1.ObjectIdentifier // of the endpoint
		extra func(t *testing.T) []pkix.Extension
		rule  policymodule.Reason
	}{
		"usage in the list":               {list, func(t *testing.T) []pkix.Extension { return []pkix.Extension{usages(t, clientAuth)} }, ""},
		"usage outside the list":          {list, func(t *testing.T) []pkix.Extension { return []pkix.Extension{usages(t, clientAuth, smartCard)} }, enroll.RuleExtKeyUsage},
		"any purpose":                     {nil, func(t *testing.T) []pkix.Extension { return []pkix.Extension{usages(t, anyPurpose)} }, enroll.RuleExtKeyUsage},
		"any purpose, though in the list": {[]asn1.ObjectIdentifier{anyPurpose}, func(t *testing.T) []pkix.Extension { return []pkix.Extension{usages(t, anyPurpose)} }, enroll.RuleExtKeyUsage},
		"request agent":                   {nil, func(t *testing.T) []pkix.Extension { return []pkix.Extension{usages(t, requestAgent)} }, enroll.RuleExtKeyUsage},
		"policy in the list": {list, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{usages(t, clientAuth), policies(t, clientAuth)}
		}, ""},
		"policy outside the list":   {list, func(t *testing.T) []pkix.Extension { return []pkix.Extension{policies(t, smartCard)} }, enroll.RuleExtKeyUsage},
		"policy of any purpose":     {nil, func(t *testing.T) []pkix.Extension { return []pkix.Extension{policies(t, anyPurpose)} }, enroll.RuleExtKeyUsage},
		"policy of a request agent": {nil, func(t *testing.T) []pkix.Extension { return []pkix.Extension{policies(t, clientAuth, requestAgent)} }, enroll.RuleExtKeyUsage},
		"policy beyond the usages asked for": {nil, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{usages(t, clientAuth), policies(t, smartCard)}
		}, enroll.RuleExtKeyUsage},
		"policies that cannot be read": {nil, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{{Id: oid(1, 3, 6, 1, 4, 1, 311, 21, 10), Value: []byte{5, 0}}}
		}, enroll.RuleExtKeyUsage},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.Rules.ExtKeyUsages = tc.list
				w.start()
				d := newDevice(0, "good")
				d.extra = tc.extra(t)
				w.wantRule(d.request(t, scep.PKCSReq), tc.rule, scep.BadRequest)
			})
		})
	}
}

// TestRequestedExtensions is the allow-list: what is not on it is refused.
func TestRequestedExtensions(t *testing.T) {
	null := []byte{5, 0}
	for name, tc := range map[string]struct {
		ext  pkix.Extension
		rule policymodule.Reason
	}{
		"subjectAltName":                 {pkix.Extension{Id: oid(2, 5, 29, 17), Value: []byte{0x30, 3, 0x82, 1, 'a'}}, ""},
		"subjectAltName, critical":       {pkix.Extension{Id: oid(2, 5, 29, 17), Critical: true, Value: []byte{0x30, 3, 0x82, 1, 'a'}}, ""},
		"keyUsage":                       {pkix.Extension{Id: oid(2, 5, 29, 15), Value: []byte{3, 2, 5, 0xa0}}, ""},
		"basicConstraints, CA:FALSE":     {pkix.Extension{Id: oid(2, 5, 29, 19), Value: []byte{0x30, 0}}, ""},
		"basicConstraints, CA:TRUE":      {pkix.Extension{Id: oid(2, 5, 29, 19), Value: []byte{0x30, 3, 1, 1, 0xff}}, enroll.RuleCA},
		"basicConstraints, TRUE as 01":   {pkix.Extension{Id: oid(2, 5, 29, 19), Value: []byte{0x30, 3, 1, 1, 1}}, enroll.RuleCA},
		"basicConstraints, unreadable":   {pkix.Extension{Id: oid(2, 5, 29, 19), Value: null}, enroll.RuleCA},
		"subjectKeyIdentifier":           {pkix.Extension{Id: oid(2, 5, 29, 14), Value: []byte{4, 1, 1}}, ""},
		"S/MIME capabilities":            {pkix.Extension{Id: oid(1, 2, 840, 113549, 1, 9, 15), Value: []byte{0x30, 0}}, ""},
		"template by name":               {pkix.Extension{Id: oid(1, 3, 6, 1, 4, 1, 311, 20, 2), Value: null}, enroll.RuleTemplate},
		"template by identifier":         {pkix.Extension{Id: oid(1, 3, 6, 1, 4, 1, 311, 21, 7), Value: null}, enroll.RuleTemplate},
		"keyCertSign":                    {pkix.Extension{Id: oid(2, 5, 29, 15), Value: []byte{3, 2, 2, 0x04}}, enroll.RuleKeyUsage},
		"cRLSign":                        {pkix.Extension{Id: oid(2, 5, 29, 15), Value: []byte{3, 2, 1, 0x02}}, enroll.RuleKeyUsage},
		"name constraints":               {pkix.Extension{Id: oid(2, 5, 29, 30), Value: null}, enroll.RuleExtension},
		"certificate policies":           {pkix.Extension{Id: oid(2, 5, 29, 32), Value: null}, enroll.RuleExtension},
		"CRL distribution points":        {pkix.Extension{Id: oid(2, 5, 29, 31), Value: null}, enroll.RuleExtension},
		"authority information access":   {pkix.Extension{Id: oid(1, 3, 6, 1, 5, 5, 7, 1, 1), Value: null}, enroll.RuleExtension},
		"precertificate poison":          {pkix.Extension{Id: oid(1, 3, 6, 1, 4, 1, 11129, 2, 4, 3), Critical: true, Value: null}, enroll.RuleExtension},
		"an extension that nobody knows": {pkix.Extension{Id: oid(1, 2, 3, 4), Value: null}, enroll.RuleExtension},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				d := newDevice(0, "good")
				d.extra = []pkix.Extension{tc.ext}
				w.wantRule(d.request(t, scep.PKCSReq), tc.rule, scep.BadRequest)
			})
		})
	}
}

// TestIssuedCertificateIsChecked for what the CA added by itself (M6, T13).
func TestIssuedCertificateIsChecked(t *testing.T) {
	usage := func(ids ...asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, ids }
	}
	add := func(ext func(t *testing.T) pkix.Extension) func(*testing.T) func(*x509.Certificate) {
		return func(t *testing.T) func(*x509.Certificate) {
			return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, ext(t)) }
		}
	}
	plain := func(tamper func(*x509.Certificate)) func(*testing.T) func(*x509.Certificate) {
		return func(*testing.T) func(*x509.Certificate) { return tamper }
	}
	client := []asn1.ObjectIdentifier{clientAuth}
	for name, tc := range map[string]struct {
		list   []asn1.ObjectIdentifier // of the endpoint
		asked  []asn1.ObjectIdentifier
		tamper func(*testing.T) func(*x509.Certificate)
		set    func(*testing.T, *enroll.Rules, *device)
		ok     bool
	}{
		"the usages asked for":                  {nil, client, plain(usage(clientAuth)), nil, true},
		"a usage more":                          {nil, client, plain(usage(clientAuth, smartCard)), nil, false},
		"no usage, so any":                      {nil, client, plain(usage()), nil, false},
		"none asked for, template within list":  {client, nil, plain(usage(clientAuth)), nil, true},
		"none asked for, template beyond list":  {client, nil, plain(usage(smartCard)), nil, false},
		"none asked for, no list":               {nil, nil, plain(usage(smartCard)), nil, true},
		"none asked for, no usage, a list":      {client, nil, plain(usage()), nil, false},
		"none asked for, no usage, no list":     {nil, nil, plain(usage()), nil, true},
		"any purpose":                           {nil, nil, plain(usage(anyPurpose)), nil, false},
		"request agent":                         {nil, nil, plain(usage(requestAgent)), nil, false},
		"application policy beyond those asked": {nil, client, add(func(t *testing.T) pkix.Extension { return policies(t, smartCard) }), nil, false},
		"application policies as asked":         {nil, client, add(func(t *testing.T) pkix.Extension { return policies(t, clientAuth) }), nil, true},
		"application policy of a request agent": {nil, nil, add(func(t *testing.T) pkix.Extension { return policies(t, requestAgent) }), nil, false},
		"application policies, unreadable": {nil, nil, add(func(t *testing.T) pkix.Extension {
			return pkix.Extension{Id: oid(1, 3, 6, 1, 4, 1, 311, 21, 10), Value: []byte{5, 0}}
		}), nil, false},
		"SID extension from the directory": {nil, nil, add(func(t *testing.T) pkix.Extension { return sidExtension(t, director) }), nil, false},
		"SID extension copied from the request": {nil, nil, add(func(t *testing.T) pkix.Extension { return sidExtension(t, anna) }), func(t *testing.T, r *enroll.Rules, d *device) {
			r.StripSID, d.extra = true, append(d.extra, sidExtension(t, anna))
		}, false},
		"SID extension that the endpoint adds":   {nil, nil, add(func(t *testing.T) pkix.Extension { return sidExtension(t, anna) }), withSIDFromURI, true},
		"SID extension of another than its URI":  {nil, nil, add(func(t *testing.T) pkix.Extension { return sidExtension(t, director) }), withSIDFromURI, false},
		"SID extension wanted, but without URI":  {nil, nil, add(func(t *testing.T) pkix.Extension { return sidExtension(t, anna) }), func(_ *testing.T, r *enroll.Rules, _ *device) { r.SIDFromURI = true }, false},
		"subjectAltName made critical":           {nil, nil, plain(func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true }), nil, true},
		"keyCertSign":                            {nil, nil, plain(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), nil, false},
		"CA:TRUE":                                {nil, nil, plain(func(c *x509.Certificate) { c.IsCA = true }), nil, false},
		"subjectAltName with another name added": {nil, nil, plain(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{0x30, 3, 0x82, 1, 'a'} }), nil, false},
		"subjectAltName left out":                {nil, nil, plain(func(c *x509.Certificate) { c.ExtraExtensions = nil }), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.Rules.ExtKeyUsages, w.cloud.vouches = tc.list, true
				d := newDevice(0, "good")
				if tc.asked != nil {
					d.extra = append(d.extra, usages(t, tc.asked...))
				}
				if tc.set != nil {
					tc.set(t, &w.config.Rules, &d)
				}
				w.start()
				w.core.tamper = tc.tamper(t)
				res := w.ask(d)
				if tc.ok {
					w.want(res, scep.Success)
					return
				}
				w.wantFailure(res, scep.BadRequest)
				w.later(5 * time.Second)
				w.wantRevoked()
				if e := w.entries(1)[0]; e.State != journal.Failed || e.Failure.Rule != "issued_certificate" {
					t.Errorf("entry is %v, %+v", e.State, e.Failure)
				}
			})
		})
	}
}

// withSIDFromURI is an endpoint whose CA adds the SID extension for a SID that
// somebody vouched for in a SAN URI.
func withSIDFromURI(t *testing.T, r *enroll.Rules, d *device) {
	t.Helper()
	r.SIDFromURI = true
	d.extra = append(d.extra, generalNames(t, uri(sidTag+anna)))
}
