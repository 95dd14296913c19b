package keys

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
)

const thumbprint = "0123456789ABCDEF0123456789ABCDEF01234567"

func TestStoreReferences(t *testing.T) {
	for name, row := range map[string]struct{ ref, want string }{
		"the machine's store":               {"certstore:machine/My/" + thumbprint, "certstore:machine/My/" + thumbprint},
		"the account's store":               {"certstore:user/My/" + thumbprint, "certstore:user/My/" + thumbprint},
		"a store of another name":           {"certstore:machine/WebHosting/" + thumbprint, "certstore:machine/WebHosting/" + thumbprint},
		"any case":                          {"CertStore:Machine/My/" + strings.ToLower(thumbprint), "certstore:machine/My/" + thumbprint},
		"spaces, as a dialogue shows it":    {"certstore:machine/My/" + "01 23 45 67 89 ab cd ef 01 23 45 67 89 ab cd ef 01 23 45 67", "certstore:machine/My/" + thumbprint},
		"colons, as openssl shows it":       {"certstore:machine/My/" + "01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67", "certstore:machine/My/" + thumbprint},
		"the dialogue's invisible mark":     {"certstore:machine/My/\u200e" + thumbprint, "certstore:machine/My/" + thumbprint},
		"no thumbprint":                     {"certstore:machine/My", ""},
		"a thumbprint of SHA-256":           {"certstore:machine/My/" + strings.Repeat("0123", 16), ""},
		"no digits":                         {"certstore:machine/My/" + strings.Repeat("x", 40), ""},
		"a store of nobody":                 {"certstore:service/My/" + thumbprint, ""},
		"a store without a name":            {"certstore:machine//" + thumbprint, ""},
		"a path with one more":              {"certstore:machine/My/x/" + thumbprint, ""},
		"nothing":                           {"certstore:", ""},
		"a store that the system would ask": {"certstore:machine/My", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := parseStoreRef(row.ref)
			if (CheckStore(row.ref) == nil) != (err == nil) {
				t.Error("CheckStore sees it differently")
			}
			if row.want == "" {
				if err == nil || !strings.Contains(err.Error(), "certstore:machine/My/<SHA-1 thumbprint>") {
					t.Errorf("read as %v; the error is %v", r, err)
				}
				return
			}
			if err != nil || r.String() != row.want {
				t.Errorf("read as %v, %v", r, err)
			}
		})
	}
}

func TestCertificateOfWhatIsNoStore(t *testing.T) {
	if _, err := Certificate("key.pem"); err == nil {
		t.Error("a file is a store")
	}
	if InStore("pkcs11:token=x") || InStore(`C:\certstore`) || !InStore("CERTSTORE:machine/My/x") {
		t.Error("references are told apart wrongly")
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, err := range []error{
		func() error { _, err := Certificate("certstore:machine/My/" + thumbprint); return err }(),
		func() error { _, err := New(Config{}).Load("certstore:machine/My/" + thumbprint); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), "certificate stores on Windows alone") {
			t.Errorf("on a system without stores: %v", err)
		}
	}
}

func issue(t *testing.T, name string, key crypto.Signer, issuer *x509.Certificate, by crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: !strings.HasPrefix(name, "leaf"),
	}
	if issuer == nil {
		issuer, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestChain(t *testing.T) {
	root := issue(t, "root", testkeys.RSA2048(2), nil, nil)
	middle := issue(t, "issuing", testkeys.RSA2048(3), root, testkeys.RSA2048(2))
	namesake := issue(t, "issuing", testkeys.RSA2048(5), root, testkeys.RSA2048(2))
	leaf := issue(t, "leaf", testkeys.RSA2048(4), middle, testkeys.RSA2048(3))
	one, two := issue(t, "crossed", testkeys.P256(0), issue(t, "crosses", testkeys.P256(1), nil, nil), testkeys.P256(1)),
		issue(t, "crosses", testkeys.P256(1), issue(t, "crossed", testkeys.P256(0), nil, nil), testkeys.P256(0))
	for name, row := range map[string]struct{ known, want []*x509.Certificate }{
		"the issuer, and not its root":           {[]*x509.Certificate{root, middle}, []*x509.Certificate{leaf, middle}},
		"a CA of the same name with another key": {[]*x509.Certificate{namesake, root}, []*x509.Certificate{leaf}},
		"nothing is known":                       {nil, []*x509.Certificate{leaf}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := chainOf(leaf, row.known); !slices.EqualFunc(got, row.want, (*x509.Certificate).Equal) {
				t.Errorf("%d certificates, want %d", len(got), len(row.want))
			}
		})
	}
	if got := chainOf(one, []*x509.Certificate{one, two}); len(got) != 2 {
		t.Errorf("two CAs that signed each other make a chain of %d", len(got))
	}
}
