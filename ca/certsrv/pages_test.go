package certsrv

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
)

func page(body string) string {
	return "<HTML><Title>Microsoft 2022</Title><P ID=locPageTitle><B>x</B></P>" + body + "</HTML>"
}

func TestReadVerdict(t *testing.T) {
	for _, c := range []struct {
		name, page string
		want       verdict
	}{
		{"link in an attribute", page(`<A Href="certnew.cer?ReqID=12&amp;Enc=bin">`), verdict{issued, 12, 0, true}},
		{"link in a script alone", page(`<Script>location="certnew.cer?ReqID=7&"+enc;</Script>`), verdict{issued, 7, 0, true}},
		{"link goes before a code", page(`0x80094012 certnew.cer?ReqID=7&`), verdict{issued, 7, 0, true}},
		{"request ID too large for the database", page(`certnew.cer?ReqID=4294967296&`), verdict{}},
		{"code of a refusal", page(`5 verweigert: &quot;0x80094012 (-2146877422)&quot;`), verdict{refused, 0, ca.HResultTemplateDenied, true}},
		{"success code is no refusal", page(`LastStatus: 0x0 (WIN32: 0)`), verdict{}},
		{"pending in English", page(`Your Request Id is 31. Return in 10 days.`), verdict{parked, 31, 0, true}},
		{"pending in another language", page(`<Script>var n=55;</Script>La demande porte le numéro 31.`), verdict{parked, 31, 0, false}},
		{"two numbers are one too many", page(`31 von 55`), verdict{}},
		{"another server's page", "<html>Your Request Id is 31</html>", verdict{}},
		{"cut off", "<HTML><P ID=locPageTitle>x</P>Your Request Id is 3", verdict{}},
		{"nothing", "", verdict{}},
	} {
		if got := readVerdict([]byte(c.page)); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestAttributes(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name     string
		req      ca.Request
		validity bool
		want     string
	}{
		{"template", ca.Request{Template: "IntuneDevice", Validity: day}, false, "CertificateTemplate:IntuneDevice\r\n"},
		{"days", ca.Request{Validity: 30 * day}, true, "ValidityPeriod:Days\r\nValidityPeriodUnits:30\r\n"},
		{"the cap wins, rounded down", ca.Request{Validity: 30 * day, MaxValidity: 25*time.Hour + time.Minute}, true, "ValidityPeriod:Hours\r\nValidityPeriodUnits:25\r\n"},
		{"no wish", ca.Request{}, true, ""},
	} {
		if got, err := attributesOf(c.req, c.validity); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	for _, bad := range []string{"a\nb", "a\rb", "a\x00b"} {
		if _, err := attributesOf(ca.Request{Template: bad}, false); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

// FuzzPages: no bytes of a web server take the parsers down, and a certificate
// is never both there and refused.
func FuzzPages(f *testing.F) {
	f.Add([]byte(page(`<A Href="certnew.cer?ReqID=12&amp;Enc=bin">`)))
	f.Add([]byte(page(`Your Request Id is 31.`)))
	f.Add([]byte(page(`Result: 0x800706ba (WIN32: 1722)`)))
	f.Add([]byte("var nRenewals=2;"))
	f.Add([]byte("-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n"))
	f.Add([]byte("0\x80\x06\x09*\x86H\x86\xf7\x0d\x01\x07\x02\xa0\x80"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := readVerdict(b)
		if v.outcome == issued && v.requestID == 0 || v.outcome == refused && v.code >= 0 || v.outcome == parked && v.requestID == 0 {
			t.Errorf("impossible verdict %+v", v)
		}
		if s := readStatus(b); s.outcome == issued {
			t.Error("a page is no certificate")
		}
		if n, ok := readRenewals(b); ok && n < 0 {
			t.Error("negative renewals")
		}
		if chain, err := parseChain(b, nil); err == nil && len(chain) == 0 {
			t.Error("empty chain")
		}
		if cert, err := parseCertificate(b); err == nil && cert == nil {
			t.Error("no certificate and no error")
		}
		excerpt(b)
	})
}
