package keys

import (
	"runtime"
	"strings"
	"testing"
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
		if err == nil || !strings.Contains(err.Error(), "Windows alone has certificate stores") {
			t.Errorf("on a system without stores: %v", err)
		}
	}
}
