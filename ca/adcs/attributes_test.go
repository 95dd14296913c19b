package adcs

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
)

func TestAttributes(t *testing.T) {
	const day = 24 * time.Hour
	csr := catest.NewCSR(t, catest.CSROptions{})
	tagLine := "ConnectorTag:" + tag(csr.Digest()) + "\n"
	for _, c := range []struct {
		name     string
		req      ca.Request
		validity bool
		want     string
	}{
		{"template alone", ca.Request{Template: "Device"}, true, "CertificateTemplate:Device\n"},
		{"no template", ca.Request{}, true, ""},
		{"validity only where configured", ca.Request{Template: "Device", Validity: 20 * day}, false, "CertificateTemplate:Device\n"},
		{"wish in days", ca.Request{Validity: 20 * day}, true, "ValidityPeriod:Days\nValidityPeriodUnits:20\n"},
		{"cap below the wish", ca.Request{Validity: 20 * day, MaxValidity: 36 * time.Hour}, true, "ValidityPeriod:Hours\nValidityPeriodUnits:36\n"},
		{"cap without a wish", ca.Request{MaxValidity: 3 * day}, true, "ValidityPeriod:Days\nValidityPeriodUnits:3\n"},
		{"never longer than wished", ca.Request{Validity: 90 * time.Minute}, true, "ValidityPeriod:Hours\nValidityPeriodUnits:1\n"},
	} {
		c.req.CSR = csr
		got, err := attributes(c.req, c.validity)
		if err != nil || got != c.want+tagLine {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want+tagLine)
		}
	}
}

func TestAttributesCannotBeInjected(t *testing.T) {
	csr := catest.NewCSR(t, catest.CSROptions{})
	for _, template := range []string{"Device\nSAN:upn=admin@corp.test", "Device\rSAN:x", "Device\x00", "Device\u0085SAN:x"} {
		if got, err := attributes(ca.Request{CSR: csr, Template: template}, true); err == nil {
			t.Errorf("template %q became %q", template, got)
		}
	}
	if _, err := attributes(ca.Request{CSR: csr, Template: strings.Repeat("x", 2000)}, true); err == nil {
		t.Error("attributes longer than the interface takes were accepted")
	}
}

func TestNoAttributeForNames(t *testing.T) {
	csr := catest.NewCSR(t, catest.CSROptions{RawSAN: catest.OddSAN(t)})
	got, err := attributes(ca.Request{CSR: csr, Template: "Device", Validity: time.Hour}, true)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(got, "\n") {
		if name, _, _ := strings.Cut(line, ":"); strings.EqualFold(name, "SAN") {
			t.Error("a SAN attribute is sent, which only an unsafe CA heeds")
		}
	}
}

func TestSerialText(t *testing.T) {
	for _, c := range []struct {
		name, hex, want string
		ok              bool
	}{
		{"even", "ab12", "ab12", true},
		{"odd gets one zero", "b12", "0b12", true},
		{"upper case becomes lower", "AB12", "ab12", true},
		{"sign octet is no digit", "00f0", "f0", true},
		{"zero is none", "0", "", false},
		{"negative is none", "-5", "", false},
		{"longer than a serial number may be", strings.Repeat("ff", 21), "", false},
	} {
		n, _ := new(big.Int).SetString(c.hex, 16)
		if got, ok := serialText(n); got != c.want || ok != c.ok {
			t.Errorf("%s: %q, %t; want %q, %t", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestRevocationReasons(t *testing.T) {
	for _, c := range []struct {
		name   string
		reason ca.Reason
		want   uint32
		ok     bool
	}{
		{"key compromise", ca.KeyCompromise, 1, true},
		{"hold", ca.CertificateHold, 6, true},
		{"the CA knows no withdrawn privilege", ca.PrivilegeWithdrawn, 5, true},
		{"7 is unused", 7, 0, false},
		{"removing from the list is no revocation", 8, 0, false},
	} {
		if got, err := revocationReason(c.reason); got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: %d, %v; want %d", c.name, got, err, c.want)
		}
	}
}
