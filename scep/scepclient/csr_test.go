package scepclient_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// TestCSR is read by another reader and by crypto/x509.
func TestCSR(t *testing.T) {
	sid, err := url.Parse("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1001")
	if err != nil {
		t.Fatal(err)
	}
	clientAuth := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	csr := scepclient.CSR{
		Subject: pkix.Name{CommonName: "Ünal, O. + Söhne", Organization: []string{"Contoso"}}, DNSNames: []string{"a.example.test"},
		Emails: []string{"a@example.test"}, UPNs: []string{"a@corp.example.test"}, URIs: []*url.URL{sid}, IPs: []net.IP{net.IPv4(192, 0, 2, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageDecipherOnly, ExtKeyUsage: []asn1.ObjectIdentifier{clientAuth},
	}
	der, err := csr.Encode(testkeys.RSA2048(0))
	if err != nil {
		t.Fatal(err)
	}
	got, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	names, err := got.SubjectAltNames()
	if err != nil {
		t.Fatal(err)
	}
	names.Raw, names.Others = nil, nil
	want := pkcs10.AltNames{
		DNS: csr.DNSNames, Email: csr.Emails, UPN: csr.UPNs, URI: []string{sid.String()}, IP: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("names %+v, want %+v", names, want)
	}
	if got.KeyUsage != int(csr.KeyUsage) || len(got.ExtKeyUsage) != 1 || !got.ExtKeyUsage[0].Equal(clientAuth) || got.ChallengePassword != "" {
		t.Errorf("key usage %b, %v", got.KeyUsage, got.ExtKeyUsage)
	}
	standard, err := x509.ParseCertificateRequest(der)
	if err != nil || standard.CheckSignature() != nil || standard.Subject.CommonName != csr.Subject.CommonName {
		t.Errorf("crypto/x509 reads %v, %v", standard, err)
	}
}

// TestChallengeStrings are PrintableString where the text allows, as all
// clients but jscep do it.
func TestChallengeStrings(t *testing.T) {
	for name, row := range map[string]struct {
		challenge string
		utf8      bool
		tag       byte
	}{
		"base64":                  {"AB+/=", false, 0x13},
		"base64, UTF-8 preferred": {"AB+/=", true, 0x0c},
		"not printable":           {"pass_word@1", false, 0x0c},
		"not ASCII":               {"Schlüssel", false, 0x0c},
		"16 KB":                   {strings.Repeat("x", 16<<10), false, 0x13},
	} {
		t.Run(name, func(t *testing.T) {
			csr := scepclient.CSR{Challenge: secret.Text(row.challenge), ChallengeUTF8: row.utf8}
			der, err := csr.Encode(testkeys.RSA2048(0))
			if err != nil {
				t.Fatal(err)
			}
			got, err := pkcs10.Parse(der)
			if err != nil || got.ChallengePassword.Reveal() != row.challenge {
				t.Fatalf("another challenge was read: %v", err)
			}
			at := strings.Index(string(der), row.challenge)
			header := der[at-2]
			if len(row.challenge) > 127 {
				header = der[at-4]
			}
			if header != row.tag {
				t.Errorf("tag %#x, want %#x", header, row.tag)
			}
		})
	}
}

func TestCSRWithImpossibleIdentifier(t *testing.T) {
	csr := scepclient.CSR{ExtKeyUsage: []asn1.ObjectIdentifier{{9}}}
	if _, err := csr.Encode(testkeys.RSA2048(0)); err == nil {
		t.Error("accepted")
	}
}

// TestChoiceOfRecipient follows the rules by which clients find the
// certificate to encrypt to.
func TestChoiceOfRecipient(t *testing.T) {
	s := newResponder(t)
	both := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	capable := issue(t, "CA that signs replies", x509.KeyUsageCertSign|both, true, &s.rootKey.PublicKey, nil, s.rootKey)
	for name, row := range map[string]struct {
		platform string
		served   []*x509.Certificate
		want     *x509.Certificate
	}{
		"Apple, split":                        {"ios", []*x509.Certificate{s.signing, s.encryption, s.root}, s.encryption},
		"Apple, combined":                     {"ios", []*x509.Certificate{s.combined, s.root}, s.combined},
		"Apple, a pair beats a combined one":  {"macos", []*x509.Certificate{s.combined, s.signing, s.encryption, s.root}, s.encryption},
		"Apple, the CA alone":                 {"ios", []*x509.Certificate{capable}, capable},
		"Android, order does not matter":      {"android", []*x509.Certificate{s.root, s.encryption, s.signing}, s.encryption},
		"Android, combined":                   {"android", []*x509.Certificate{s.root, s.combined}, s.combined},
		"certmonger, a CA without RA":         {"linux", []*x509.Certificate{capable}, capable},
		"Windows, encryption before combined": {"windows", []*x509.Certificate{s.encryption, s.combined, s.root}, s.encryption},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResponder(t)
			r.certificates = row.served
			c := &scepclient.Client{URL: r.start(t), Quirks: quirks(t, row.platform)}
			got, err := c.Discover(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !got.Recipient.Equal(row.want) {
				t.Errorf("chose %q, want %q", got.Recipient.Subject, row.want.Subject)
			}
		})
	}
}

// TestNegotiation follows what clients make of a capability list, the bad
// choices of old ones included.
func TestNegotiation(t *testing.T) {
	for name, row := range map[string]struct {
		platform, capabilities string
		want                   string
	}{
		"Windows, AES":                {"windows", "AES\nDES3\nSHA-256\nSHA-512\n", "AES-256-CBC SHA-256"},
		"Windows at a real NDES":      {"windows", "POSTPKIOperation\nRenewal\nSHA-512\nSHA-256\nSHA-1\nDES3\n", "DES-EDE3-CBC SHA-256"},
		"iOS at a real NDES":          {"ios", "POSTPKIOperation\nRenewal\nSHA-512\nSHA-256\nSHA-1\nDES3\n", "DES-EDE3-CBC SHA-512"},
		"SCEPStandard says enough":    {"linux", "SCEPStandard\r\n", "AES-256-CBC SHA-256"},
		"jscep falls to DES and MD5":  {"android", "POSTPKIOperation\n", "DES-CBC MD5"},
		"jscep takes the strongest":   {"android", "AES\nSHA-1\nSHA-256\nSHA-512\n", "AES-128-CBC SHA-512"},
		"unknown words are no matter": {"linux", "X\nDES3\nSHA-1\nUpdate\n", "DES-EDE3-CBC SHA-1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResponder(t)
			r.capabilities = row.capabilities
			c := &scepclient.Client{URL: r.start(t), Quirks: quirks(t, row.platform)}
			got, err := c.Discover(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s := string(got.Cipher) + " " + got.Digest.String(); s != row.want {
				t.Errorf("negotiated %s, want %s", s, row.want)
			}
		})
	}
}
