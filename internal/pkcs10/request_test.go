package pkcs10_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

var (
	cn = asn1.ObjectIdentifier{2, 5, 4, 3}
	ou = asn1.ObjectIdentifier{2, 5, 4, 11}
)

func parse(t testing.TB, der []byte) *pkcs10.Request {
	t.Helper()
	r, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatalf("a request that devices send was refused: %v", err)
	}
	return r
}

func TestStandardLibraryRequest(t *testing.T) {
	for _, tt := range []struct {
		name      string
		key       crypto.Signer
		algorithm x509.SignatureAlgorithm
		bits      int
		digest    crypto.Hash
	}{
		{"RSA with SHA-256", testkeys.RSA2048(0), x509.SHA256WithRSA, 2048, crypto.SHA256},
		{"RSA with SHA-384", testkeys.RSA2048(0), x509.SHA384WithRSA, 2048, crypto.SHA384},
		{"RSA with SHA-512", testkeys.RSA2048(0), x509.SHA512WithRSA, 2048, crypto.SHA512},
		{"RSASSA-PSS", testkeys.RSA2048(0), x509.SHA256WithRSAPSS, 2048, crypto.SHA256},
		{"ECDSA", testkeys.P256(0), x509.ECDSAWithSHA256, 256, crypto.SHA256},
	} {
		t.Run(tt.name, func(t *testing.T) {
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
				Subject:            pkix.Name{CommonName: "Anna", Organization: []string{"Contoso, Ltd"}},
				DNSNames:           []string{"a.example"},
				EmailAddresses:     []string{"anna@example.com"},
				IPAddresses:        []net.IP{net.IPv4(192, 0, 2, 1)},
				SignatureAlgorithm: tt.algorithm,
			}, tt.key)
			if err != nil {
				t.Fatal(err)
			}
			r := parse(t, der)
			if err := r.CheckSignature(); err != nil {
				t.Errorf("CheckSignature: %v", err)
			}
			if r.KeyBits() != tt.bits || r.DigestAlgorithm() != tt.digest {
				t.Errorf("key bits %d, digest %v", r.KeyBits(), r.DigestAlgorithm())
			}
			if got, want := r.SubjectString(), `CN=Anna,O=Contoso\, Ltd`; got != want || r.CommonName() != "Anna" {
				t.Errorf("subject %s, want %s", got, want)
			}
			names, err := r.SubjectAltNames()
			if err != nil || !slices.Equal(names.DNS, []string{"a.example"}) || !slices.Equal(names.Email, []string{"anna@example.com"}) ||
				len(names.IP) != 1 || names.IP[0].String() != "192.0.2.1" || len(names.Raw) != 3 {
				t.Errorf("alternative names %+v, error %v", names, err)
			}
			std, err := x509.ParseCertificateRequest(der)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(r.RawSubject, std.RawSubject) || !bytes.Equal(r.RawSubjectPublicKeyInfo, std.RawSubjectPublicKeyInfo) ||
				!bytes.Equal(r.RawTBS, std.RawTBSCertificateRequest) || !bytes.Equal(r.Raw, der) {
				t.Error("the kept bytes are not those of the request")
			}
		})
	}
}

func TestSignature(t *testing.T) {
	if err := parse(t, csr{breakSig: true}.build(t)).CheckSignature(); err == nil || errors.Is(err, pkcs10.ErrWeakDigest) {
		t.Errorf("a wrong signature gives %v", err)
	}
	if err := parse(t, csr{sha1: true}.build(t)).CheckSignature(); !errors.Is(err, pkcs10.ErrWeakDigest) {
		t.Errorf("a correct SHA-1 signature gives %v", err)
	}
	if err := parse(t, csr{sha1: true, breakSig: true}.build(t)).CheckSignature(); err == nil || errors.Is(err, pkcs10.ErrWeakDigest) {
		t.Errorf("a wrong SHA-1 signature gives %v", err)
	}
	// sha256WithRSAEncryption and md5WithRSAEncryption differ in one octet.
	md5 := bytes.ReplaceAll(csr{}.build(t), []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"), []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"))
	if r := parse(t, md5); r.CheckSignature() == nil || r.DigestAlgorithm() != 0 {
		t.Error("MD5 is taken for supported")
	}
}

func TestChallenge(t *testing.T) {
	long := strings.Repeat("MIIabc+/", 8192)
	for _, tt := range []struct {
		name  string
		value []byte
		want  string
	}{
		{"PrintableString", der(cbasn1.PrintableString, []byte("secret")), "secret"},
		{"UTF8String", der(cbasn1.UTF8String, []byte("gehéim")), "gehéim"},
		{"IA5String", der(cbasn1.IA5String, []byte("se@cret")), "se@cret"},
		{"T61String", der(cbasn1.T61String, []byte("geh\xe9im")), "gehéim"},
		{"BMPString", bmp("gehéim"), "gehéim"},
		{"UniversalString", der(universalString, []byte{0, 0, 0, 'h', 0, 1, 0xf6, 0}), "h😀"},
		{"characters a PrintableString must not have", der(cbasn1.PrintableString, []byte("a_b@c*")), "a_b@c*"},
		{"64 KB of base64", der(cbasn1.PrintableString, []byte(long)), long},
		{"empty", der(cbasn1.PrintableString), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := parse(t, csr{attributes: [][]byte{attribute(pkcs10.OIDChallengePassword, tt.value)}}.build(t))
			if r.ChallengePassword.Reveal() != tt.want {
				t.Errorf("challenge of %d octets differs from the one of %d octets that was sent", len(r.ChallengePassword), len(tt.want))
			}
		})
	}
}

func TestLeniency(t *testing.T) {
	t.Run("no attributes field", func(t *testing.T) {
		if err := parse(t, csr{noField: true}.build(t)).CheckSignature(); err != nil {
			t.Error(err)
		}
	})
	t.Run("PrintableString subject with characters outside its alphabet", func(t *testing.T) {
		der := csr{subject: seq(rdn(cn, cbasn1.PrintableString, "anna_b@example.com"))}.build(t)
		if _, err := x509.ParseCertificateRequest(der); err == nil {
			t.Log("crypto/x509 accepts this subject now")
		}
		if got := parse(t, der).CommonName(); got != "anna_b@example.com" {
			t.Errorf("common name %q", got)
		}
	})
	t.Run("empty subject", func(t *testing.T) {
		if r := parse(t, csr{subject: seq()}.build(t)); r.SubjectString() != "" || r.CommonName() != "" {
			t.Error("a name out of nothing")
		}
	})
	t.Run("subject disturbing a terminal", func(t *testing.T) {
		r := parse(t, csr{subject: seq(rdn(ou, cbasn1.UTF8String, " a\x1b[2J#\n"), rdn(cn, universalString, "\x00\x00\x20\x2e"))}.build(t))
		if got, want := r.SubjectString(), `CN=\E2\80\AE,OU=\ a\1B[2J#\0A`; got != want {
			t.Errorf("subject %s, want %s", got, want)
		}
	})
	t.Run("Microsoft's extension attribute", func(t *testing.T) {
		r := parse(t, csr{attributes: [][]byte{attribute(pkcs10.OIDMicrosoftExtensions, seq(
			extension(pkcs10.OIDKeyUsage, []byte{3, 2, 5, 0xa0}),
			extension(pkcs10.OIDExtKeyUsage, seq(oid(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}))),
		))}}.build(t))
		if x509.KeyUsage(r.KeyUsage) != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment || len(r.ExtKeyUsage) != 1 {
			t.Errorf("key usage %x, extended %v", r.KeyUsage, r.ExtKeyUsage)
		}
	})
	t.Run("both extension attributes agree", func(t *testing.T) {
		san := extension(pkcs10.OIDSubjectAltName, seq(der(0x82, []byte("a.example"))))
		r := parse(t, csr{attributes: [][]byte{
			attribute(pkcs10.OIDMicrosoftExtensions, seq(san, extension(asn1.ObjectIdentifier{1, 2, 3}, []byte{1}))),
			attribute(pkcs10.OIDExtensionRequest, seq(san)),
		}}.build(t))
		if len(r.Extensions) != 2 || r.RawSAN == nil {
			t.Errorf("%d extensions, want the union of both attributes", len(r.Extensions))
		}
	})
}

func TestAmbiguousRequestsAreRefused(t *testing.T) {
	challenge := der(cbasn1.PrintableString, []byte("a"))
	san := func(name string) []byte {
		return extension(pkcs10.OIDSubjectAltName, seq(der(0x82, []byte(name))))
	}
	for _, tt := range []struct {
		name       string
		attributes [][]byte
	}{
		{"two challenge attributes", [][]byte{attribute(pkcs10.OIDChallengePassword, challenge), attribute(pkcs10.OIDChallengePassword, challenge)}},
		{"two challenges in one attribute", [][]byte{attribute(pkcs10.OIDChallengePassword, challenge, challenge)}},
		{"challenge attribute without a value", [][]byte{attribute(pkcs10.OIDChallengePassword)}},
		{"challenge over the limit", [][]byte{attribute(pkcs10.OIDChallengePassword, der(cbasn1.PrintableString, make([]byte, 64<<10+100)))}},
		{"challenge that is a number", [][]byte{attribute(pkcs10.OIDChallengePassword, []byte{2, 1, 1})}},
		{"BMPString of odd length", [][]byte{attribute(pkcs10.OIDChallengePassword, der(bmpString, []byte("abc")))}},
		{"two extension attributes", [][]byte{attribute(pkcs10.OIDExtensionRequest, seq()), attribute(pkcs10.OIDExtensionRequest, seq())}},
		{"one extension twice", [][]byte{attribute(pkcs10.OIDExtensionRequest, seq(san("a"), san("a")))}},
		{"extension attributes that differ", [][]byte{attribute(pkcs10.OIDExtensionRequest, seq(san("a"))), attribute(pkcs10.OIDMicrosoftExtensions, seq(san("b")))}},
		{"malformed keyUsage", [][]byte{attribute(pkcs10.OIDExtensionRequest, seq(extension(pkcs10.OIDKeyUsage, []byte{4, 0})))}},
		{"malformed extKeyUsage", [][]byte{attribute(pkcs10.OIDExtensionRequest, seq(extension(pkcs10.OIDExtKeyUsage, []byte{4, 0})))}},
		{"too many attributes", manyAttributes(65)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := pkcs10.Parse(csr{attributes: tt.attributes}.build(t)); err == nil {
				t.Error("accepted")
			}
		})
	}
	t.Run("trailing bytes", func(t *testing.T) {
		if _, err := pkcs10.Parse(append(csr{}.build(t), 0)); err == nil {
			t.Error("accepted")
		}
	})
}

func manyAttributes(n int) (list [][]byte) {
	for i := range n {
		list = append(list, attribute(asn1.ObjectIdentifier{1, 2, 3, i}, []byte{5, 0}))
	}
	return list
}

func TestValidity(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name, unit, count string
		want              time.Duration
	}{
		{"as Windows sends it", "Days", "30", 30 * day},
		{"swapped as Android sends it", "2", "Years", 2 * 365 * day},
		{"singular, other case", "month", "3", 90 * day},
		{"unknown unit", "Fortnights", "3", 0},
		{"no number", "Days", "many", 0},
		{"negative", "Days", "-1", 0},
		{"beyond what a duration holds", "Years", "2147483647", 100 * 365 * day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := parse(t, csr{attributes: [][]byte{pair("ValidityPeriod", tt.unit), pair("ValidityPeriodUnits", tt.count), pair("CertificateTemplate", "Admin")}}.build(t))
			if r.Validity != tt.want {
				t.Errorf("validity %v, want %v", r.Validity, tt.want)
			}
			if !slices.Equal(r.IgnoredPairs, []string{"CertificateTemplate"}) {
				t.Errorf("ignored pairs %q", r.IgnoredPairs)
			}
		})
	}
}

func TestUserPrincipalNameAndURI(t *testing.T) {
	upn := der(0xa0, oid(pkcs10.OIDUserPrincipalName), der(0xa0, der(cbasn1.UTF8String, []byte("anna@contoso.com"))))
	sid := "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1001"
	names, err := pkcs10.ParseAltNames(seq(upn, der(0x86, []byte(sid)), der(0xa4, seq())))
	if err != nil || !slices.Equal(names.UPN, []string{"anna@contoso.com"}) || !slices.Equal(names.URI, []string{sid}) || len(names.Others) != 1 {
		t.Errorf("names %+v, error %v", names, err)
	}
}

func TestImpossibleKeysAreRefused(t *testing.T) {
	rsaKey := func(n, e []byte) []byte {
		return seq(seq(oid(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}), []byte{5, 0}),
			der(cbasn1.BIT_STRING, []byte{0}, seq(der(cbasn1.INTEGER, n), der(cbasn1.INTEGER, e))))
	}
	n := testkeys.RSA2048(0).N.Bytes()
	n = append([]byte{0}, n...)
	for _, tt := range []struct {
		name string
		n, e []byte
		ok   bool
	}{
		{"exponent 3 is for policy to judge", n, []byte{3}, true},
		{"exponent 1", n, []byte{1}, false},
		{"even exponent", n, []byte{4}, false},
		{"exponent of 32 bits", n, []byte{0, 0x80, 0, 0, 1}, false},
		{"negative modulus", n[1:], []byte{3}, false},
		{"even modulus", append(slices.Clone(n[:len(n)-1]), 2), []byte{3}, false},
		{"8200 bits", append([]byte{0, 0xff}, bytes.Repeat([]byte{0xff}, 1024)...), []byte{3}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := pkcs10.ParsePublicKey(rsaKey(tt.n, tt.e)); (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

// NameDigest tells requests for the same names from requests for others.
func TestDigests(t *testing.T) {
	build := func(key int, subject, san string) *pkcs10.Request {
		return parse(t, csr{
			key: testkeys.RSA2048(key), subject: seq(rdn(cn, cbasn1.UTF8String, subject)),
			attributes: [][]byte{attribute(pkcs10.OIDExtensionRequest, seq(extension(pkcs10.OIDSubjectAltName, seq(der(0x82, []byte(san))))))},
		}.build(t))
	}
	a, sameNames, otherSAN, otherSubject := build(0, "a", "x"), build(1, "a", "x"), build(0, "a", "y"), build(0, "b", "x")
	if a.NameDigest() != sameNames.NameDigest() || a.KeyDigest() == sameNames.KeyDigest() || a.Digest() == sameNames.Digest() {
		t.Error("another key: names must be equal, the rest differ")
	}
	if a.NameDigest() == otherSAN.NameDigest() || a.NameDigest() == otherSubject.NameDigest() || a.KeyDigest() != otherSAN.KeyDigest() {
		t.Error("other names: key must be equal, names differ")
	}
}

func TestForeignKeysAreNotSupported(t *testing.T) {
	ec := asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	p256 := asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	for _, tt := range []struct {
		name        string
		spki        []byte
		unsupported bool // rather than malformed
	}{
		{"Ed25519", seq(seq(oid(asn1.ObjectIdentifier{1, 3, 101, 112})), der(cbasn1.BIT_STRING, make([]byte, 33))), true},
		{"curve secp256k1", seq(seq(oid(ec), oid(asn1.ObjectIdentifier{1, 3, 132, 0, 10})), der(cbasn1.BIT_STRING, make([]byte, 66))), true},
		{"curve without a name", seq(seq(oid(ec)), der(cbasn1.BIT_STRING, make([]byte, 66))), true},
		{"point that is not on the curve", seq(seq(oid(ec), oid(p256)), der(cbasn1.BIT_STRING, []byte{0, 4}, make([]byte, 64))), false},
		{"no key", seq(seq(oid(ec), oid(p256))), false},
		{"nothing", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := pkcs10.ParsePublicKey(tt.spki); err == nil || errors.Is(err, pkcs10.ErrUnsupportedKey) != tt.unsupported {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestCriticalExtensions(t *testing.T) {
	id := asn1.ObjectIdentifier{1, 2, 3}
	value := der(cbasn1.OCTET_STRING, []byte{1})
	for _, tt := range []struct {
		name     string
		ext      []byte
		critical bool
	}{
		{"default", seq(oid(id), value), false},
		{"TRUE", seq(oid(id), der(cbasn1.BOOLEAN, []byte{0xff}), value), true},
		{"TRUE as some write it", seq(oid(id), der(cbasn1.BOOLEAN, []byte{1}), value), true},
		{"explicit FALSE", seq(oid(id), der(cbasn1.BOOLEAN, []byte{0}), value), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := parse(t, csr{attributes: [][]byte{attribute(pkcs10.OIDExtensionRequest, seq(tt.ext))}}.build(t))
			if len(r.Extensions) != 1 || r.Extensions[0].Critical != tt.critical {
				t.Errorf("extensions %+v", r.Extensions)
			}
		})
	}
}
