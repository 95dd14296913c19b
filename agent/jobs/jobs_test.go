package jobs_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/intune"
)

// TestRevocationsFromTheCloudEndAtTheCA: each request that is ours is carried
// out once and answered once, by the first upload.
func TestRevocationsFromTheCloudEndAtTheCA(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		want := map[string]string{}
		for i := range 30 {
			serial := w.issue(w.issuing, "issuing", tenant, int64(0x4711+i))
			handle := fmt.Sprint("request ", i)
			w.cloud.ask(request(handle, serial, "issuing"), request(handle, serial, "issuing")) // at least once
			want[handle] = "None"
		}
		w.run(time.Minute)
		w.answers(want)
		if n := len(w.cloud.uploads); n == 0 || n > 4 {
			t.Errorf("%d uploads for 30 results", n)
		}
		for serial, n := range w.issuing.revoked {
			if n != 1 {
				t.Errorf("serial %s was revoked %d times", serial, n)
			}
		}
		if len(w.issuing.revoked) != 30 {
			t.Errorf("%d certificates revoked", len(w.issuing.revoked))
		}
		if s := w.source(); s.Open != 0 || s.Owed != 0 || s.Owner != "" {
			t.Errorf("left behind: %+v", s)
		}
		if n := logged(w.audit, "revoked"); n != 30 {
			t.Errorf("%d audit lines", n)
		}
		for _, line := range w.audit.All() {
			f := line.ContextMap()
			if f["tenant"] != tenant || f["serial"] == "" || f["ca"] != "issuing" || f["outcome"] != "revoked" || f["context_sha256"] == nil || f["attempt"] == nil {
				t.Fatalf("audit line %v", f)
			}
		}
	})
}

// TestSerialForms: however a certificate's serial number is written, it is
// the one that is revoked, and nothing else is.
func TestSerialForms(t *testing.T) {
	rows := map[string]struct {
		serial int64
		text   string
	}{
		"as we told it":                 {0x1D0012AB, "1D0012AB"},
		"lower case":                    {0x1D0012AC, "1d0012ac"},
		"with colons":                   {0x1D0012AD, "1D:00:12:AD"},
		"with blanks":                   {0x1D0012AE, " 1d 00 12 ae "},
		"marked as hexadecimal":         {0x1D0012AF, "0x1D0012AF"},
		"leading zeros":                 {0x1D0012B0, "00001D0012B0"},
		"without its leading zero":      {0x0D0012B1, "D0012B1"},
		"digits that are hexadecimal":   {0x12345678, "12345678"},
		"digits that are decimal":       {123456789, "123456789"},
		"digits marked as hexadecimal":  {0x55667788, "0X55667788"},
		"a longer run of zeros in hex":  {0x10000000, "0000000000000000000000000000000010000000"},
		"lines broken as certutil does": {0x1D0012B2, "1d 00\r\n12 b2"},
	}
	inWorld(t, func(t *testing.T, w *world) {
		want := map[string]string{}
		for name, row := range rows {
			w.issue(w.issuing, "issuing", tenant, row.serial)
			w.cloud.ask(request(name, row.text, "issuing"))
			want[name] = "None"
		}
		for name, text := range map[string]string{
			"no number": "serial", "zero": "0000", "negative": "-12", "too long": strings.Repeat("A", 65), "separators only": "0x :: ",
			"far too long": strings.Repeat("1", 256),
		} {
			w.cloud.ask(request(name, text, "issuing"))
			want[name] = "ParameterDataInvalidError"
		}
		w.run(time.Minute)
		w.answers(want)
		if len(w.issuing.revoked) != len(rows) {
			t.Errorf("%d certificates revoked, want %d", len(w.issuing.revoked), len(rows))
		}
	})
}

// TestWhatIsNotOursIsNotRevoked: who may have what revoked, and what is said
// of the rest.
func TestWhatIsNotOursIsNotRevoked(t *testing.T) {
	type given struct {
		tenant func(*jobs.RevocationTenant)
		change func(*jobs.RevokerConfig)
	}
	anySerial := func(t *jobs.RevocationTenant) { t.AnySerial = true }
	owner := func(t *jobs.RevocationTenant) { t.OwnsTenant = true }
	for name, row := range map[string]struct {
		given
		serial, issuer string
		want           string // the answer; "": none
		revoked        bool
		alarm          string
	}{
		"ours":                                       {serial: "0A01", issuer: "issuing", want: "None", revoked: true},
		"ours, no issuer named":                      {serial: "0A01", want: "None", revoked: true},
		"imported for this tenant":                   {serial: "0A03", issuer: "issuing", want: "None", revoked: true},
		"unknown serial":                             {serial: "0A99", issuer: "issuing", want: "CertificateNotFoundError"},
		"unknown serial, at the CA too":              {serial: "0AFF", issuer: "issuing", want: "CertificateNotFoundError"},
		"unknown serial, no issuer":                  {serial: "0A99", want: ""},
		"unknown serial, no issuer, owned":           {given: given{tenant: owner}, serial: "0A99", want: "CertificateNotFoundError"},
		"another's issuer":                           {serial: "0A01", issuer: "Fabrikam CA", want: ""},
		"another's issuer, owned":                    {given: given{tenant: owner}, serial: "0A01", issuer: "Fabrikam CA", want: "CertificateNotFoundError"},
		"nonsense of another's issuer":               {serial: "?", issuer: "Fabrikam CA", want: ""},
		"nonsense without an issuer":                 {serial: "?", want: ""},
		"another tenant's":                           {serial: "0A02", issuer: "issuing", want: "CertificateNotFoundError", alarm: "SECURITY"},
		"another tenant's, no issuer":                {serial: "0A02", want: "CertificateNotFoundError", alarm: "SECURITY"},
		"another tenant's, any serial":               {given: given{tenant: anySerial}, serial: "0A02", issuer: "issuing", want: "CertificateNotFoundError", alarm: "SECURITY"},
		"imported for another tenant":                {serial: "0A04", issuer: "issuing", want: "CertificateNotFoundError", alarm: "SECURITY"},
		"issued for nobody's tenant":                 {serial: "0A05", issuer: "issuing", want: "CertificateNotFoundError", alarm: "SECURITY"},
		"of our other CA":                            {serial: "0A01", issuer: "branch", want: "CertificateNotFoundError"},
		"any serial":                                 {given: given{tenant: anySerial}, serial: "0AFF", issuer: "issuing", want: "None", revoked: true, alarm: "UNSAFE"},
		"any serial, but not at the CA":              {given: given{tenant: anySerial}, serial: "0A99", issuer: "issuing", want: "CertificateNotFoundError", alarm: "UNSAFE"},
		"any serial, which CA is not said":           {given: given{tenant: anySerial}, serial: "0AFF", want: "", alarm: "UNSAFE"},
		"a restored journal may have forgotten":      {given: given{change: restored(time.Hour)}, serial: "0AFF", issuer: "issuing", want: "", alarm: "a tenant wants a certificate revoked that the journal does not know; the journal was restored"},
		"a restored journal, after its certificates": {given: given{change: restored(3 * 365 * 24 * time.Hour)}, serial: "0AFF", issuer: "issuing", want: "CertificateNotFoundError"},
		"a restored journal knows this one":          {given: given{change: restored(time.Hour)}, serial: "0A01", issuer: "issuing", want: "None", revoked: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if row.tenant != nil {
					row.tenant(&w.tenant)
				}
				w.revoker = row.change
				w.issue(w.issuing, "issuing", tenant, 0x0A01)
				w.issue(w.issuing, "issuing", "fabrikam", 0x0A02)
				w.issue(w.issuing, "issuing", "", 0x0A05)
				w.issuing.set(func() {
					w.issuing.issued["0A03"], w.issuing.issued["0A04"], w.issuing.issued["0AFF"] = true, true, true
				})
				w.imports("0A03", tenant)
				w.imports("0A04", "fabrikam")
				w.cloud.ask(request("r", row.serial, row.issuer))
				w.run(time.Minute)
				w.answers(map[string]string{"r": row.want})
				if got := len(w.issuing.revoked) > 0; got != row.revoked {
					t.Errorf("revoked %v", w.issuing.revoked)
				}
				if len(w.branch.revoked) > 0 {
					t.Errorf("revoked at the wrong CA: %v", w.branch.revoked)
				}
				if row.alarm != "" && logged(w.logs, row.alarm) == 0 {
					t.Errorf("no line %q", row.alarm)
				}
				if row.alarm == "" && logged(w.logs, "SECURITY")+logged(w.logs, "UNSAFE") > 0 {
					t.Error("an alarm about nothing")
				}
				if w.audit.Len() == 0 {
					t.Error("no audit line")
				}
				if s := w.source(); s.Open != 0 || s.Owed != 0 {
					t.Errorf("left behind: %+v", s)
				}
			})
		})
	}
}

// TestIssuerForms: however our CA is named it is recognised, and no other is.
func TestIssuerForms(t *testing.T) {
	for name, row := range map[string]struct {
		issuer string
		ours   bool
	}{
		"name in our configuration": {"issuing", true},
		"in another case":           {" Issuing ", true},
		"common name":               {"contoso issuing  ca", true},
		"of the root above":         {"Contoso Issuing CA Root", true},
		"configuration string":      {`ca01.corp.example\Contoso Issuing CA`, true},
		"RFC 4514":                  {`CN=Contoso Issuing CA,O=Contoso\, Ltd.,DC=corp,DC=example`, true},
		"from the root down":        {`DC=example, DC=corp, O="Contoso, Ltd.", CN=Contoso Issuing CA`, true},
		"OpenSSL":                   {`/DC=example/DC=corp/O=Contoso, Ltd./CN=Contoso Issuing CA`, true},
		"escaped octets":            {`cn=Contoso Issuing CA; o=Contoso\2C Ltd.; dc=corp; dc=example`, true},
		"OIDs":                      {`2.5.4.3=Contoso Issuing CA,OID.2.5.4.10=Contoso\, Ltd.,0.9.2342.19200300.100.1.25=corp,DC=example`, true},
		"another":                   {"Contoso Issuing", false},
		"a part of its name":        {`CN=Contoso Issuing CA`, false},
		"another domain":            {`CN=Contoso Issuing CA,O=Contoso\, Ltd.,DC=fabrikam,DC=example`, false},
		"parts out of order":        {`O=Contoso\, Ltd.,CN=Contoso Issuing CA,DC=corp,DC=example`, false},
		"an open quote":             {`CN="Contoso Issuing CA`, false},
		"a separator too many":      {`CN=Contoso Issuing CA,O=Contoso\, Ltd.,DC=corp,DC=example,`, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				serial := w.issue(w.issuing, "issuing", tenant, 0x77)
				w.cloud.ask(request("both", serial, row.issuer), intune.RevocationRequest{Context: "configuration", Serial: serial, CAConfiguration: row.issuer})
				w.run(time.Minute)
				want := ""
				if row.ours {
					want = "None"
				}
				w.answers(map[string]string{"both": want, "configuration": want})
			})
		})
	}
}
