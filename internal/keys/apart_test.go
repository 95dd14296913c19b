package keys_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/keys"
)

// Two names of one file are found before there is a file, too.
func TestCheckApart(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(path("tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("one.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, certificate, key string
		refused                bool
	}{
		{"two files", path("tls.crt.pem"), path("tls.key.pem"), false},
		{"one name in two folders", path("tls.pem"), path("tls/tls.pem"), false},
		{"a key in a module", path("tls.pem"), "pkcs11:token=ra;object=tls", false},
		{"one name", path("tls.pem"), path("tls.pem"), true},
		{"one name, written twice", path("tls.pem"), dir + "/tls/../tls.pem", true},
		{"both in a certificate store", "certstore:machine/My/" + strings.Repeat("AB", 20), "certstore:machine/My/" + strings.Repeat("AB", 20), true},
		{"one name but for capital letters", path("tls.pem"), path("TLS.pem"), runtime.GOOS == "windows" || runtime.GOOS == "darwin"},
	} {
		err := keys.CheckApart(row.certificate, row.key)
		if (err != nil) != row.refused || err != nil && !strings.Contains(err.Error(), "configuration") {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	if runtime.GOOS == "windows" {
		return // links need a right of their own there
	}
	for from, to := range map[string]string{"linked": "tls", "link.pem": "one.pem"} {
		if err := os.Symlink(path(to), path(from)); err != nil {
			t.Fatal(err)
		}
	}
	for _, pair := range [][2]string{{"one.pem", "link.pem"}, {"tls/none.pem", "linked/none.pem"}} {
		if keys.CheckApart(path(pair[0]), path(pair[1])) == nil {
			t.Errorf("%v are taken for two files", pair)
		}
	}
}
