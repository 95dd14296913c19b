package adcstest

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// row is a request in the database.
type row struct {
	id          uint32
	raw         []byte // as it came
	attributes  string // as they came
	values      map[string]string
	caller      string
	submitted   time.Time
	resolved    time.Time
	csr         *pkcs10.Request
	template    string // common name, once known
	templateOID string

	disposition uint32
	status      int32
	message     string

	cert   []byte
	parsed *x509.Certificate
	serial string // lower case

	reason      uint32
	revoked     time.Time // when it was decided
	effective   time.Time // from when it counts
	released    time.Time // from a hold
	keepExpired bool
}

// newRow makes a row for a request that has arrived. The caller holds mu.
func (c *CA) newRow(account, attributes string, raw []byte) *row {
	r := &row{
		id: uint32(len(c.rows) + 1), raw: raw, attributes: attributes, values: parseAttributes(attributes),
		caller: c.callerName(account), submitted: c.clock(),
	}
	if c.quirks.DropAttributes {
		r.attributes = ""
	}
	c.rows = append(c.rows, r)
	return r
}

// row finds a request by its ID. The caller holds mu.
func (c *CA) row(id uint32) *row {
	if id == 0 || int(id) > len(c.rows) {
		return nil
	}
	return c.rows[id-1]
}

// Row is what a test sees of a request in the database.
type Row struct {
	RequestID   uint32
	Disposition uint32 // as an Outcome has it
	StatusCode  int32
	Request     []byte
	Attributes  string
	Caller      string
	Template    string
	Certificate []byte
	Serial      string
	Reason      uint32
	RevokedAt   time.Time
	Submitted   time.Time
}

// Rows are all requests, in the order of their IDs.
func (c *CA) Rows() []Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Row, len(c.rows))
	for i, r := range c.rows {
		list[i] = Row{
			RequestID: r.id, Disposition: r.disposition, StatusCode: r.status, Request: r.raw, Attributes: r.attributes,
			Caller: r.caller, Template: r.template, Certificate: r.cert, Serial: c.column(r),
			Reason: r.reason, RevokedAt: r.effective, Submitted: r.submitted,
		}
	}
	return list
}

// databaseDispositions are the numbers that real databases use; [MS-CSRA]'s
// note has those of an Outcome.
var databaseDispositions = map[uint32]uint32{
	0: 8, DispositionUnderSubmission: 9, DispositionIssued: 20, DispositionRevoked: 21,
	DispositionFailed: 30, DispositionDenied: 31,
}

// value is a column of a row on the wire; nil is NULL. The caller holds mu.
func (c *CA) value(r *row, name string) []byte {
	if short, ok := strings.CutPrefix(name, "Request."); ok {
		return c.requestValue(r, short)
	}
	if r.parsed == nil {
		return nil
	}
	switch name {
	case "RequestID":
		return le32(r.id)
	case "RawCertificate":
		return r.cert
	case "CertificateHash":
		sum := sha1.Sum(r.cert)
		var octets []string
		for _, b := range sum {
			octets = append(octets, hex.EncodeToString([]byte{b}))
		}
		return wireString(strings.Join(octets, " "))
	case "CertificateTemplate":
		return wireString(r.templateOID)
	case "SerialNumber":
		return wireString(c.column(r))
	case "NotBefore":
		return filetime(r.parsed.NotBefore)
	case "NotAfter":
		return filetime(r.parsed.NotAfter)
	case "RawPublicKey":
		return publicKeyBits(r.parsed.RawSubjectPublicKeyInfo)
	case "CommonName":
		return wireString(r.parsed.Subject.CommonName)
	case "RawName":
		return r.parsed.RawSubject
	}
	return nil
}

func (c *CA) requestValue(r *row, name string) []byte {
	switch name {
	case "RequestID":
		return le32(r.id)
	case "RawRequest":
		return r.raw
	case "RequestAttributes":
		return wireString(r.attributes)
	case "RequestType":
		return le32(0x100)
	case "StatusCode":
		return le32(uint32(r.status))
	case "Disposition":
		if c.quirks.DocumentDispositions {
			return le32(r.disposition)
		}
		return le32(databaseDispositions[r.disposition])
	case "DispositionMessage":
		return wireString(r.message)
	case "SubmittedWhen":
		return filetime(r.submitted)
	case "ResolvedWhen":
		return filetime(r.resolved)
	case "RevokedWhen":
		return filetime(r.revoked)
	case "RevokedEffectiveWhen":
		return filetime(r.effective)
	case "RevokedReason":
		if r.disposition == DispositionRevoked {
			return le32(r.reason)
		}
	case "RequesterName", "CallerName":
		return wireString(r.caller)
	}
	return nil
}

// publicKeyBits is the BIT STRING of a SubjectPublicKeyInfo.
func publicKeyBits(spki []byte) []byte {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil
	}
	return info.Key.Bytes
}
