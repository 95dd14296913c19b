//go:build unix

package secret_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/secret"
)

func TestConfigurationThatOthersMayChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certconnector.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, good := range map[os.FileMode]bool{0o600: true, 0o640: true, 0o644: true, 0o660: true, 0o646: false, 0o602: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		err := secret.CheckUnwritable(path)
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if err := secret.CheckUnwritable(path + ".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestConfigurationOfAnotherAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	path := filepath.Join(t.TempDir(), "certconnector.yaml")
	for _, row := range []struct {
		uid, gid int
		mode     os.FileMode
		good     bool
	}{
		{0, 61234, 0o640, true}, // as the packages have it
		{0, 61234, 0o660, false},
		{61234, 61234, 0o600, false},
	} {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, row.mode), os.Chown(path, row.uid, row.gid)); err != nil {
			t.Fatal(err)
		}
		if err := secret.CheckUnwritable(path); (err == nil) != row.good {
			t.Errorf("%d:%d %04o: %v", row.uid, row.gid, row.mode, err)
		}
	}
}
