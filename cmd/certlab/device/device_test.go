package device_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// TestSubject reads names back with crypto/x509's rules.
func TestSubject(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"the order is kept", "CN=ann,OU=b,O=c", "O=c,OU=b,CN=ann"},
		{"a backslash keeps a comma", `O=Contoso\, Ltd,CN=x`, `CN=x,O=Contoso\, Ltd`},
		{"a backslash keeps a backslash", `CN=CONTOSO\\ann`, `CN=CONTOSO\\ann`},
		{"blanks around parts do not count", " CN=ann , O=c ", "O=c,CN=ann"},
		{"types in any case", "cn=ann", "CN=ann"},
		{"no name", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			der, err := device.Subject(row.text)
			if err != nil {
				t.Fatal(err)
			}
			var name pkix.RDNSequence
			if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 {
				t.Fatalf("%x: %v", der, err)
			}
			if name.String() != row.want {
				t.Errorf("%q is %q, want %q", row.text, name, row.want)
			}
		})
	}
	for _, text := range []string{"ann", "CN=", "CN=a,,O=b", "XX=a", "CN=a,"} {
		if der, err := device.Subject(text); err == nil {
			t.Errorf("%q is %x, want an error", text, der)
		}
	}
	der, err := device.Subject("E=ann@contoso.example")
	if err != nil || !strings.Contains(string(der), "\x16\x13ann@contoso.example") {
		t.Errorf("an e-mail address is no IA5String: %x, %v", der, err)
	}
}

// TestProfiled makes a request of what a cloud hands out.
func TestProfiled(t *testing.T) {
	p := device.Profiled(intunetest.Challenge{
		Challenge: "c", Subject: "CN=x", SAN: intunetest.Names{UPN: []string{"u"}, URI: []string{"urn:x:1"}}, KeyUsage: 5,
		EKU: []string{"1.3.6.1.5.5.7.3.2"}, KeySize: 3072, Validity: 365, ValidityUnit: "Days",
	})
	csr, err := p.CSR()
	if err != nil {
		t.Fatal(err)
	}
	if csr.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment || len(csr.ExtKeyUsage) != 1 ||
		csr.Validity != 365*24*time.Hour || csr.Challenge.Reveal() != "c" || len(csr.URIs) != 1 || p.KeySize != 3072 {
		t.Errorf("request %+v", csr)
	}
	u, err := device.KeyUsage([]string{"digitalSignature", "KEYENCIPHERMENT"})
	if err != nil || u != csr.KeyUsage {
		t.Errorf("key usage %v, %v", u, err)
	}
}

// TestFolder keeps what a device holds, and refuses what does not belong
// together.
func TestFolder(t *testing.T) {
	template := &x509.Certificate{SerialNumber: big.NewInt(0xabc), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	key := testkeys.RSA2048(0)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if s := device.Serial(cert.SerialNumber); s != "0ABC" {
		t.Errorf("serial %s", s)
	}
	dir := filepath.Join(t.TempDir(), "d")
	h := device.Holding{Key: key, Certificate: cert, Chain: []*x509.Certificate{cert}}
	for range 2 { // the second time replaces the first
		if err := h.Store(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := device.Load(dir)
	if err != nil || !got.Certificate.Equal(cert) || !got.Key.Equal(key) {
		t.Fatalf("loaded %v, %v", got, err)
	}
	info, err := os.Stat(filepath.Join(dir, device.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may read the key: %v", info.Mode())
	}
	h.Key = testkeys.RSA2048(1)
	if err := h.Store(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := device.Load(dir); err == nil {
		t.Error("a key and a certificate that do not belong together were loaded")
	}
}
