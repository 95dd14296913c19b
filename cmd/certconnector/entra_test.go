//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOwnFolder: what root made in the service's folder the service could not read.
func TestOwnFolder(t *testing.T) {
	state := t.TempDir()
	if err := ownFolder(filepath.Join(state, "entra", "contoso"), true); err != nil {
		t.Errorf("in a folder of our own: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	if err := os.Chown(state, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	for _, change := range []bool{true, false} {
		if ownFolder(filepath.Join(state, "entra", "contoso"), change) == nil {
			t.Errorf("change %v: a folder would be made in that of another account", change)
		}
	}
	if ownFolder(state, true) == nil {
		t.Error("the folder of another account may be changed")
	}
	if err := ownFolder(state, false); err != nil {
		t.Errorf("the folder of another account cannot be looked at: %v", err)
	}
	for _, pair := range [][2]string{
		{filepath.Join(state, "ra", "signing.crt.pem"), "pkcs11:token=ra;object=signing"},
		{filepath.Join(t.TempDir(), "signing.crt.pem"), filepath.Join(state, "ra", "signing.key.pem")},
	} {
		if ownPair(pair[0], pair[1]) == nil {
			t.Errorf("%q and %q: one of them would be another account's", pair[0], pair[1])
		}
	}
}
