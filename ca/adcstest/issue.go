package adcstest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// issue signs a certificate for a row. The caller holds mu.
func (c *CA) issue(r *row, t *Template, asked time.Time) {
	now := c.clock()
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		NotBefore:    now.Add(-10 * time.Minute), // the CA's allowance for clocks
		NotAfter:     c.endOfLife(r, t, now, asked),
		ExtKeyUsage:  nil, UnknownExtKeyUsage: t.EKU,
		KeyUsage: t.KeyUsage,
	}
	if wish := x509.KeyUsage(r.csr.KeyUsage); wish != 0 && wish&t.KeyUsage != 0 {
		template.KeyUsage = wish & t.KeyUsage
	}
	if t.SubjectFromRequest {
		template.RawSubject = r.csr.RawSubject
		template.ExtraExtensions = suppliedExtensions(r.csr)
	} else {
		template.Subject = pkix.Name{CommonName: c.account(r.caller).Name}
	}
	if e, err := templateExtension(t.OID); err == nil {
		template.ExtraExtensions = append(template.ExtraExtensions, e)
	}
	cert, err := certify(template, c.cert, r.csr.PublicKey, c.key)
	if err != nil {
		c.refuse(r, DispositionFailed, BadASN1, "Error Constructing or Publishing Certificate  "+message(BadASN1))
		return
	}
	r.cert, r.parsed, r.serial = cert.Raw, cert, serialText(cert.SerialNumber)
	r.disposition, r.status, r.message, r.resolved = DispositionIssued, 0, "Issued", now
	c.serials[r.serial] = r
}

// suppliedExtensions are what a template with "Supply in the request" takes
// over: the names, and the SID extension, which a real CA copies from whoever
// puts it there.
func suppliedExtensions(csr *pkcs10.Request) []pkix.Extension {
	var list []pkix.Extension
	for _, e := range csr.Extensions {
		if e.Id.Equal(oidSID) {
			list = append(list, pkix.Extension{Id: e.Id, Value: e.Value})
		}
		if e.Id.Equal(oidSAN) {
			list = append(list, pkix.Extension{Id: e.Id, Value: e.Value, Critical: len(csr.Subject) == 0})
		}
	}
	return list
}

func templateExtension(oid string) (pkix.Extension, error) {
	var id asn1.ObjectIdentifier
	for part := range strings.SplitSeq(oid, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return pkix.Extension{}, err
		}
		id = append(id, n)
	}
	der, err := asn1.Marshal(templateInfo{id, 100, 2})
	return pkix.Extension{Id: oidTemplateInfo, Value: der}, err
}

// endOfLife is the least of what template, CA certificate and, with
// EDITF_ATTRIBUTEENDDATE, the request's attributes allow.
func (c *CA) endOfLife(r *row, t *Template, now, asked time.Time) time.Time {
	end := now.Add(t.Validity)
	if c.cert.NotAfter.Before(end) {
		end = c.cert.NotAfter
	}
	if !c.endDateFlag {
		return end
	}
	if wish, ok := askedPeriod(r.values, asked); ok && wish.Before(end) {
		end = wish
	}
	if wish, err := time.Parse(time.RFC1123, r.values["expirationdate"]); err == nil && wish.Before(end) && wish.After(now) {
		end = wish
	}
	return end
}

// askedPeriod reads ValidityPeriod and ValidityPeriodUnits.
func askedPeriod(values map[string]string, from time.Time) (time.Time, bool) {
	n, err := strconv.Atoi(values["validityperiodunits"])
	if err != nil || n <= 0 || n > 100000 {
		return time.Time{}, false
	}
	switch strings.ToLower(values["validityperiod"]) {
	case "seconds":
		return from.Add(time.Duration(n) * time.Second), true
	case "minutes":
		return from.Add(time.Duration(n) * time.Minute), true
	case "hours":
		return from.Add(time.Duration(n) * time.Hour), true
	case "days":
		return from.AddDate(0, 0, n), true
	case "weeks":
		return from.AddDate(0, 0, 7*n), true
	case "months":
		return from.AddDate(0, n, 0), true
	case "years":
		return from.AddDate(n, 0, 0), true
	}
	return time.Time{}, false
}

// serialText is a serial number as the database has it: lower-case hexadecimal
// digits, an even number of them.
func serialText(n *big.Int) string {
	s := n.Text(16)
	if len(s)%2 != 0 {
		s = "0" + s
	}
	return s
}

// certsOnly is a PKCS #7 SignedData that holds nothing but certificates
// (RFC 5652, section 5.1).
func certsOnly(certs ...[]byte) []byte { return signedData(certs, nil) }

// signedData holds certificates and revocation lists.
func signedData(certs, lists [][]byte) []byte {
	join := func(tag int, parts [][]byte) asn1.RawValue {
		v := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true}
		for _, p := range parts {
			v.Bytes = append(v.Bytes, p...)
		}
		return v
	}
	emptySet := asn1.RawValue{Tag: asn1.TagSet, IsCompound: true}
	parts := []any{
		1, emptySet, struct{ Type asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}}, join(0, certs),
	}
	if lists != nil {
		parts = append(parts, join(1, lists))
	}
	parts = append(parts, emptySet)
	var body []byte
	for _, p := range parts {
		der, err := asn1.Marshal(p)
		if err != nil {
			panic("encoding a constant structure: " + err.Error())
		}
		body = append(body, der...)
	}
	sequence, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: body})
	if err != nil {
		panic("encoding a constant structure: " + err.Error())
	}
	der, err := asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{
		asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2},
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: sequence},
	})
	if err != nil {
		panic("encoding a constant structure: " + err.Error())
	}
	return der
}
