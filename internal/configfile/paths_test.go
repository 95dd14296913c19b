package configfile_test

import (
	"path/filepath"
	"testing"

	"github.com/certconnector/certconnector/internal/configfile"
)

func TestKeysOfDevicesAreNoPaths(t *testing.T) {
	const module, store = "pkcs11:token=ra;object=signing", "certstore:machine/My/00112233445566778899AABBCCDDEEFF00112233"
	got := []struct {
		Key string `path:"key"`
	}{{"ra.key"}, {module}, {store}, {""}}
	base := filepath.FromSlash("/etc/x")
	configfile.ResolvePaths(&got, base)
	for i, want := range []string{filepath.Join(base, "ra.key"), module, store, ""} {
		if got[i].Key != want {
			t.Errorf("key %d became %q, want %q", i, got[i].Key, want)
		}
	}
}
