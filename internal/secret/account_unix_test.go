//go:build unix

package secret_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/certconnector/certconnector/internal/secret"
)

// onlyRoot leaves out what others cannot do.
func onlyRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
}

func owner(t *testing.T, path string) (uid, gid int) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	return int(s.Uid), int(s.Gid)
}

func TestRootGivesWhatItMakes(t *testing.T) {
	onlyRoot(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	made := path("key.new")
	for name, id := range map[string]int{"roots": 0, "key": 61235, "state": 61234} {
		if err := errors.Join(os.WriteFile(path(name), nil, 0o600), os.Chown(path(name), id, id)); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name string
		of   []string
		want int
	}{
		{"the first owner", []string{path("key"), path("state")}, 61235},
		{"what is missing tells nothing", []string{path("none"), "pkcs11:token=a;object=b", "", path("state")}, 61234},
		{"root's own neither", []string{path("roots"), path("state")}, 61234},
		{"nobody else is there", []string{path("roots")}, 0},
	} {
		if err := errors.Join(os.WriteFile(made, nil, 0o600), secret.AccountOf(row.of...).Give(made)); err != nil {
			t.Fatal(err)
		}
		if uid, gid := owner(t, made); uid != row.want || gid != row.want {
			t.Errorf("%s: it belongs to %d:%d", row.name, uid, gid)
		}
		if err := os.Remove(made); err != nil {
			t.Fatal(err)
		}
	}
}

// Who may write to the folder could have root give away a file of root's.
func TestNothingIsGivenThroughASecondName(t *testing.T) {
	onlyRoot(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(path("roots"), nil, 0o600), os.Mkdir(path("state"), 0o700), os.Chown(path("state"), 61234, 61234)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(path("roots"), path("symbolic")), os.Link(path("roots"), path("hard")), syscall.Mkfifo(path("pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"symbolic", "hard", "pipe", "missing"} {
		if err := secret.AccountOf(path("state")).Give(path(name)); err == nil {
			t.Errorf("%s was given away", name)
		}
	}
	if uid, _ := owner(t, path("roots")); uid != 0 {
		t.Errorf("root's file belongs to %d", uid)
	}
}

// Where an account may not make files, it is told what helps: in root's folders
// to be root, if what root makes is handed over, and never to be "that
// account" there.
func TestFoldersOfOthers(t *testing.T) {
	onlyRoot(t)
	roots, others := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(roots), 0o755), os.Chmod(filepath.Dir(others), 0o755), os.Chown(others, 61235, 61235)); err != nil {
		t.Fatal(err)
	}
	one := func(folders ...string) error { return secret.CheckOwner(folders[0]) }
	both := func(folders ...string) error { return secret.CheckMaker(roots, folders[0], others) }
	for _, row := range []struct {
		name   string
		uid    int
		folder string
		check  func(...string) error
		says   string
	}{
		{"root in its own", 0, roots, one, ""},
		{"root in its own, which it gives away", 0, roots, secret.CheckMaker, ""},
		{"root in another's", 0, others, one, "as that account"},
		{"root in another's, which it gives away", 0, others, secret.CheckMaker, "as that account"},
		{"an account in its own", 61235, others, secret.CheckMaker, ""},
		{"an account in root's", 61235, roots, one, "with chown"},
		{"an account in root's, who gives away", 61235, roots, secret.CheckMaker, "as root"},
		{"an account in another's", 61236, others, secret.CheckMaker, "as that account"},
		{"root in its own and another's", 0, others, both, "of one account"},
		{"an account in its own and root's", 61235, roots, both, "of one account"},
		{"a folder that is missing", 0, filepath.Join(roots, "none"), secret.CheckMaker, "none"},
	} {
		if err := syscall.Seteuid(row.uid); err != nil {
			t.Fatal(err)
		}
		err := row.check(row.folder)
		if back := syscall.Seteuid(0); back != nil {
			t.Fatal(back)
		}
		if row.says == "" && err != nil || row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)) {
			t.Errorf("%s: %v, want %q", row.name, err, row.says)
		}
	}
}
