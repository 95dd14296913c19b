package certsrv

import (
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/certconnector/certconnector/ca"
)

// form is what the page for advanced requests posts to certfnsh.asp.
func (c *CA) form(req ca.Request) (url.Values, error) {
	attributes, err := attributesOf(req, c.SendValidity)
	if err != nil {
		return nil, err
	}
	return url.Values{
		"Mode":             {"newreq"},
		"CertRequest":      {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req.CSR.Raw}))},
		"CertAttrib":       {attributes},
		"FriendlyType":     {"Saved-Request Certificate"},
		"TargetStoreFlags": {"0"},
		"SaveCert":         {"yes"},
		"ThumbPrint":       {""},
	}, nil
}

// attributesOf are the request attributes ([MS-WCCE], section 2.2.2.7). There
// is never one for names: a CA believes it only with
// EDITF_ATTRIBUTESUBJECTALTNAME2, with which anyone may be anybody. A line
// break in a value would be another attribute.
func attributesOf(req ca.Request, validity bool) (string, error) {
	if strings.IndexFunc(req.Template, unicode.IsControl) >= 0 {
		return "", fmt.Errorf("the template's name has a line break or another control character")
	}
	var b strings.Builder
	if req.Template != "" {
		fmt.Fprintf(&b, "CertificateTemplate:%s\r\n", req.Template)
	}
	if wish := wished(req); validity && wish > 0 {
		unit, count := "Hours", max(int64(wish/time.Hour), 1)
		if wish%(24*time.Hour) == 0 {
			unit, count = "Days", int64(wish/(24*time.Hour))
		}
		fmt.Fprintf(&b, "ValidityPeriod:%s\r\nValidityPeriodUnits:%d\r\n", unit, count)
	}
	return b.String(), nil
}

// wished is the shorter of wish and cap, 0 for neither.
func wished(req ca.Request) time.Duration {
	if req.Validity > 0 && req.MaxValidity > 0 {
		return min(req.Validity, req.MaxValidity)
	}
	return max(req.Validity, req.MaxValidity)
}
