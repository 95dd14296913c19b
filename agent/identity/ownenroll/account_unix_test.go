//go:build unix

package ownenroll_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/certconnector/certconnector/agent/identity/ownenroll"
)

// In a folder of root's own, as /etc/certconnector, root makes what the service
// reads: the files are its, or nothing is replaced.
func TestRootMakesFilesForTheService(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	w := newWorld(t, "ra")
	w.cfg.StateDir = t.TempDir()
	if err := os.Chown(w.cfg.StateDir, 61234, 61234); err != nil {
		t.Fatal(err)
	}
	belongs := func(name string, want int) {
		t.Helper()
		for _, file := range []string{name + ".crt.pem", name + ".key.pem"} {
			info, err := os.Lstat(w.path(file))
			if err != nil {
				t.Fatal(err)
			}
			if s := info.Sys().(*syscall.Stat_t); int(s.Uid) != want || int(s.Gid) != want {
				t.Errorf("%s belongs to %d:%d, want %d", file, s.Uid, s.Gid, want)
			}
		}
	}
	w.run()
	belongs("signing", 61234)
	belongs("encryption", 61234)
	if err := os.Chown(w.path("signing.key.pem"), 61235, 61235); err != nil {
		t.Fatal(err)
	}
	w.run()
	belongs("signing", 61235)
	belongs("encryption", 61234)
	before := w.content()["signing.crt.pem"]
	if err := errors.Join(os.Rename(w.path("encryption.key.pem"), w.path("encryption.key.pem.new")),
		os.Link(w.path("encryption.key.pem.new"), w.path("other"))); err != nil {
		t.Fatal(err)
	}
	if _, err := ownenroll.Run(t.Context(), w.cfg); err == nil {
		t.Error("a pair was installed that could not be given away")
	}
	if _, err := os.Stat(w.path("encryption.key.pem")); err == nil {
		t.Error("half of the pair was installed all the same")
	}
	if w.content()["signing.crt.pem"] != before {
		t.Error("the other pair was replaced")
	}
}
