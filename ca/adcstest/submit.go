package adcstest

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// Outcome is what the CA says of a request. A Disposition of 0 means that the
// call itself failed with HResult.
type Outcome struct {
	RequestID   uint32
	Disposition uint32
	HResult     int32  // why it was refused
	Certificate []byte // DER, once issued
	Chain       []byte // PKCS #7 with the certificate and those above it
	Message     string
}

// Submit takes a PKCS #10 request, DER or PEM, with the attributes of
// [MS-WCCE], section 2.2.2.7: lines of name:value. The row is made before the
// policy module decides, as at a real CA.
func (c *CA) Submit(ctx context.Context, account, attributes string, csr []byte) Outcome {
	if c.Roles(account)&RoleEnroll == 0 {
		return Outcome{HResult: EnrollDenied, Message: message(EnrollDenied)}
	}
	if c.takeFault(Suspended) {
		return Outcome{HResult: ServerSuspended, Message: message(ServerSuspended)}
	}
	if ctx.Err() != nil {
		return Outcome{HResult: Unexpected, Message: message(Unexpected)}
	}
	parsed, parseCode := parseCSR(csr)
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.newRow(account, attributes, csr)
	r.csr = parsed
	if parseCode != 0 {
		return c.refuse(r, DispositionFailed, parseCode, "Error Parsing Request  "+message(parseCode))
	}
	t, code := c.chooseTemplate(r)
	if t != nil {
		r.template, r.templateOID = t.Name, t.OID
	}
	if code == 0 {
		code = c.check(account, t, r.csr)
	}
	if code != 0 {
		return c.refuse(r, DispositionDenied, code, "Denied by Policy Module  "+message(code))
	}
	if t.Action == Pend {
		r.disposition, r.message = DispositionUnderSubmission, "Taken Under Submission"
		return c.outcome(r)
	}
	c.issue(r, t, r.submitted)
	return c.outcome(r)
}

func parseCSR(raw []byte) (*pkcs10.Request, int32) {
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	csr, err := pkcs10.Parse(raw)
	if err != nil {
		return nil, BadASN1
	}
	if csr.CheckSignature() != nil {
		return csr, BadSignature
	}
	return csr, 0
}

func (c *CA) refuse(r *row, disposition uint32, code int32, text string) Outcome {
	r.disposition, r.status, r.message, r.resolved = disposition, code, text, c.clock()
	return c.outcome(r)
}

// chooseTemplate reads the template from the attribute and from the request's
// extensions; all must name the same one.
func (c *CA) chooseTemplate(r *row) (*Template, int32) {
	var names []string
	if name := r.values["certificatetemplate"]; name != "" {
		names = append(names, name)
	}
	names = append(names, requestedTemplates(r.csr)...)
	if len(names) == 0 {
		return nil, NoTemplate
	}
	var chosen *Template
	for _, name := range names {
		t := c.template(name)
		if t == nil {
			return nil, UnknownTemplate
		}
		if chosen != nil && chosen != t {
			return nil, TemplateConflict
		}
		chosen = t
	}
	return chosen, 0
}

var (
	oidTemplateName = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}
	oidTemplateInfo = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 7}
	oidSID          = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}
	oidSAN          = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// templateInfo is szOID_CERTIFICATE_TEMPLATE ([MS-WCCE], section 2.2.2.7.7.2).
type templateInfo struct {
	ID    asn1.ObjectIdentifier
	Major int
	Minor int `asn1:"optional"`
}

// requestedTemplates are the templates that the request's extensions name.
func requestedTemplates(csr *pkcs10.Request) []string {
	var names []string
	for _, e := range csr.Extensions {
		switch {
		case e.Id.Equal(oidTemplateName):
			var text asn1.RawValue
			if _, err := asn1.Unmarshal(e.Value, &text); err == nil && text.Tag == asn1.TagBMPString {
				names = append(names, decodeUTF16(text.Bytes, true))
			}
		case e.Id.Equal(oidTemplateInfo):
			var info templateInfo
			if _, err := asn1.Unmarshal(e.Value, &info); err == nil {
				names = append(names, info.ID.String())
			}
		}
	}
	return names
}

// check is what the policy module refuses.
func (c *CA) check(account string, t *Template, csr *pkcs10.Request) int32 {
	may := false
	for _, name := range c.account(account).Enroll {
		may = may || strings.EqualFold(name, t.Name)
	}
	if !may {
		return TemplateDenied
	}
	if key, ok := csr.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < t.MinRSABits {
		return KeyLength
	}
	if t.SubjectFromRequest && len(csr.Subject) == 0 && len(csr.RawSAN) == 0 {
		return BadSubject
	}
	if t.Action == Deny {
		return t.HResult
	}
	return 0
}

// outcome tells how a request stands. The caller holds mu.
func (c *CA) outcome(r *row) Outcome {
	o := Outcome{RequestID: r.id, Disposition: r.disposition, HResult: r.status, Message: r.message}
	if r.cert == nil {
		return o
	}
	o.Certificate = r.cert
	if c.takeLocked(WrongCertificate) {
		o.Certificate = c.otherCertificate(r)
	}
	o.Chain = certsOnly(o.Certificate, c.cert.Raw, c.root.Raw)
	return o
}

// otherCertificate is a sound certificate of another request, made for the
// purpose if there is none.
func (c *CA) otherCertificate(r *row) []byte {
	for _, other := range c.rows {
		if other != r && other.cert != nil && other.csr.KeyDigest() != r.csr.KeyDigest() {
			return other.cert
		}
	}
	cert, err := certify(&x509.Certificate{
		SerialNumber: newSerial(), Subject: c.root.Subject, NotBefore: r.submitted, NotAfter: r.submitted.Add(time.Hour),
	}, c.cert, c.key.Public(), c.key)
	if err != nil {
		return r.cert
	}
	return cert.Raw
}

// Retrieve asks for the outcome of a request by its ID, or by the serial
// number of its certificate where the ID is 0.
func (c *CA) Retrieve(account string, requestID uint32, serial string) Outcome {
	if c.Roles(account)&RoleEnroll == 0 {
		return Outcome{RequestID: requestID, HResult: EnrollDenied, Message: message(EnrollDenied)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.row(requestID)
	if requestID == 0 && serial != "" {
		r = c.serials[strings.ToLower(serial)]
	}
	if r == nil {
		return Outcome{RequestID: requestID, HResult: PropertyEmpty, Message: message(PropertyEmpty)}
	}
	return c.outcome(r)
}

// parseAttributes reads lines of name:value. Names lose case, spaces and
// hyphens, as the CA's policy wants it.
func parseAttributes(text string) map[string]string {
	values := map[string]string{}
	for _, a := range attributeLines(text) {
		name := strings.NewReplacer(" ", "", "-", "").Replace(strings.ToLower(a.name))
		values[name] = cmp.Or(values[name], a.value)
	}
	return values
}

type attribute struct{ name, value string }

func attributeLines(text string) []attribute {
	var list []attribute
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' || r == 0 }) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) != "" {
			list = append(list, attribute{strings.TrimSpace(name), strings.TrimSpace(value)})
		}
	}
	return list
}

// decodeUTF16 reads UTF-16 up to the first NUL.
func decodeUTF16(b []byte, bigEndian bool) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		if bigEndian {
			units[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
		} else {
			units[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
		}
	}
	s, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
	return s
}

// encodeUTF16 writes UTF-16LE without a NUL.
func encodeUTF16(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}
