package configfile_test

import (
	"path/filepath"
	"testing"

	"github.com/certconnector/certconnector/internal/configfile"
)

func TestKeysOfDevicesAreNoPaths(t *testing.T) {
	const module, store = "pkcs11:token=ra;object=signing", "certstore:machine/My/00112233445566778899AABBCCDDEEFF00112233"
	got := []struct {
		Key         string `path:"key"`
		Certificate string `path:"true"`
	}{{"ra.key", "ra.pem"}, {module, "ra.pem"}, {store, store}, {"", ""}}
	base := filepath.FromSlash("/etc/x")
	configfile.ResolvePaths(&got, base)
	for i, want := range [][2]string{
		{filepath.Join(base, "ra.key"), filepath.Join(base, "ra.pem")}, {module, filepath.Join(base, "ra.pem")}, {store, store}, {"", ""},
	} {
		if got[i].Key != want[0] || got[i].Certificate != want[1] {
			t.Errorf("pair %d became %q, want %q", i, got[i], want)
		}
	}
}
