//go:build unix

package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeysCreateForAnotherAccount: the service could not read a key that root
// makes in its folder.
func TestKeysCreateForAnotherAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	folder := t.TempDir()
	if err := os.Chown(folder, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(folder, "ra.key.pem")
	var said bytes.Buffer
	code := run([]string{"keys", "create", "--where", "file", "--kind", "p256", key}, io.Discard, &said)
	if code != exitError || !strings.Contains(said.String(), "12345") {
		t.Errorf("exit code %d: %s", code, said.String())
	}
	if _, err := os.Lstat(key); err == nil {
		t.Error("a key was made")
	}
}
