package adcstest

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"
	"time"
)

// Action is what the policy module does with a request.
type Action int

// The actions of a template.
const (
	Issue Action = iota // at once
	Pend                // until an officer decides
	Deny                // with the template's HResult
)

// Template is a certificate template that the CA publishes.
type Template struct {
	Name        string        // common name, the one that requests use
	DisplayName string        // "": the common name
	OID         string        // "": made up
	Validity    time.Duration // 0: one year
	EKU         []asn1.ObjectIdentifier
	KeyUsage    x509.KeyUsage // 0: digitalSignature and keyEncipherment
	MinRSABits  int           // 0: 2048
	Action      Action
	HResult     int32 // of Deny; 0: TemplateDenied
	// SubjectFromRequest is "Supply in the request"; else the CA takes the
	// names from the directory and drops those of the request.
	SubjectFromRequest bool
}

var oidClientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}

// DefaultTemplates issue at once ("IntuneDevice"), park ("IntuneManual"),
// refuse ("IntuneForbidden"), build names from the directory ("User"), or are
// open to nobody of DefaultAccounts ("Machine").
func DefaultTemplates() []Template {
	return []Template{
		{Name: "IntuneDevice", DisplayName: "Intune Device", SubjectFromRequest: true},
		{Name: "IntuneManual", DisplayName: "Intune Device (approved by a person)", SubjectFromRequest: true, Action: Pend},
		{Name: "IntuneForbidden", DisplayName: "Intune Forbidden", SubjectFromRequest: true, Action: Deny},
		{Name: "User"},
		{Name: "Machine", SubjectFromRequest: true},
	}
}

func (t Template) withDefaults(i int) Template {
	if t.DisplayName == "" {
		t.DisplayName = t.Name
	}
	if t.OID == "" {
		t.OID = fmt.Sprintf("1.3.6.1.4.1.311.21.8.1000001.2000002.3000003.4000004.5000005.1.%d", 100+i)
	}
	if t.Validity == 0 {
		t.Validity = 365 * 24 * time.Hour
	}
	if t.EKU == nil {
		t.EKU = []asn1.ObjectIdentifier{oidClientAuth}
	}
	if t.KeyUsage == 0 {
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	}
	if t.MinRSABits == 0 {
		t.MinRSABits = 2048
	}
	if t.HResult == 0 {
		t.HResult = TemplateDenied
	}
	return t
}

// template finds a published template by common name or OID; the display name
// does not do, as at a real CA.
func (c *CA) template(name string) *Template {
	for i, t := range c.templates {
		if strings.EqualFold(t.Name, name) || t.OID == name {
			return &c.templates[i]
		}
	}
	return nil
}
