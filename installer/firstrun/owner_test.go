//go:build unix

package firstrun_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/installer/firstrun"
)

// service is an account that nobody has.
const service = 61234

var errBroken = errors.New("broken on purpose")

// packaged are options for the folders that a package makes.
func packaged(t *testing.T) firstrun.Options {
	t.Helper()
	o := static(t)
	base := t.TempDir()
	o.Dir, o.StateDir = filepath.Join(base, "etc"), filepath.Join(base, "var")
	return o
}

func TestConfigurationAndStateApart(t *testing.T) {
	o := packaged(t)
	r := setUp(t, o)
	if r.ConfigFile != filepath.Join(o.Dir, "certconnector.yaml") || r.Account != "" {
		t.Errorf("got %+v", r)
	}
	c, err := agent.LoadConfig(r.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckFiles(); err != nil {
		t.Error(err)
	}
	for _, path := range []string{c.StateDir, c.Secrets.LocalKey, c.Journal.SQLite.Path, c.Control.Socket, c.CAs[0].Embedded.Key,
		c.Endpoints[0].RA.Encryption.Key, c.Listeners[0].TLS.Key, r.RootCertificate, r.ChallengeFile} {
		if !strings.HasPrefix(path, o.StateDir) {
			t.Errorf("%s is not in the state folder", path)
		}
	}
	if entries, err := os.ReadDir(o.Dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the configuration: %v, %v", entries, err)
	}
	onlyOurs(t, o.StateDir)
}

func TestRootGivesTheFilesToTheAccountOfTheService(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	o := packaged(t)
	for _, dir := range []string{o.Dir, o.StateDir} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	foreign := filepath.Join(o.StateDir, "lost+found")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(o.StateDir, service, service); err != nil {
		t.Fatal(err)
	}
	r := setUp(t, o)
	if r.Account != "61234" {
		t.Errorf("account %q", r.Account)
	}
	files := 0
	err := filepath.WalkDir(o.StateDir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if uid, gid, _ := owner(t, path); path != foreign && (uid != service || gid != service) {
			t.Errorf("%s belongs to %d:%d", path, uid, gid)
		}
		files++
		return nil
	})
	if err != nil || files < 15 {
		t.Errorf("%d files were looked at, %v", files, err)
	}
	if uid, _, _ := owner(t, foreign); uid != 0 {
		t.Error("a file of somebody else was given away")
	}
	if uid, gid, mode := owner(t, r.ConfigFile); uid != 0 || gid != service || mode != 0o640 {
		t.Errorf("the configuration has %d:%d %o: the service reads it, root alone changes it", uid, gid, mode)
	}
	onlyOurs(t, o.StateDir)
}

// The account reads the configuration in a folder that was not there before.
func TestRootMakesAFolderThatTheAccountCanRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	o := packaged(t)
	outer := o.Dir
	o.Dir = filepath.Join(outer, "inner")
	if err := os.Mkdir(o.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(o.StateDir, service, service); err != nil {
		t.Fatal(err)
	}
	r := setUp(t, o)
	for path, want := range map[string]os.FileMode{outer: 0o750, o.Dir: 0o750, r.ConfigFile: 0o640} {
		if uid, gid, mode := owner(t, path); uid != 0 || gid != service || mode != want {
			t.Errorf("%s has %d:%d %o", path, uid, gid, mode)
		}
	}
}

// Folders that were there stay as they are, and those that were made go again
// when it fails.
func TestFoldersOfTheConfiguration(t *testing.T) {
	o := packaged(t)
	if err := os.Mkdir(o.Dir, 0o711); err != nil {
		t.Fatal(err)
	}
	there := o.Dir
	o.Dir = filepath.Join(there, "outer", "inner")
	o.Check = func(string) error { return errBroken }
	plan, err := firstrun.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Run(t.Context(), nil); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(there); err != nil || len(entries) != 0 {
		t.Errorf("left behind %v, %v", entries, err)
	}
	if _, _, mode := owner(t, there); mode != 0o711 {
		t.Errorf("the folder that was there has mode %o", mode)
	}
}

// A folder that cannot be looked into is not one with files in the way.
func TestFolderThatCannotBeLookedInto(t *testing.T) {
	for _, row := range []struct {
		name string
		dir  func(*testing.T) string
		want string
	}{
		{"no right", func(t *testing.T) string {
			if os.Geteuid() == 0 {
				return ""
			}
			dir := filepath.Join(t.TempDir(), "closed")
			if err := os.Mkdir(dir, 0); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "run this as root"},
		{"below a file", func(t *testing.T) string {
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return filepath.Join(file, "below")
		}, "not a directory"},
	} {
		o := static(t)
		if o.Dir = row.dir(t); o.Dir == "" {
			continue // root may look everywhere
		}
		_, err := firstrun.New(o)
		if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "exists already") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", row.name, err)
		}
	}
}

// Whoever waits for a pipe's other end waits for ever.
func TestAChallengeIsReadFromAFile(t *testing.T) {
	o := static(t)
	o.ChallengeFile = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(o.ChallengeFile, 0o600); err != nil {
		t.Fatal(err)
	}
	said := make(chan error, 1)
	go func() {
		_, err := firstrun.New(o)
		said <- err
	}()
	select {
	case err := <-said:
		if err == nil || !strings.Contains(err.Error(), "--challenge-file: ") || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("got %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it hangs")
	}
}

func owner(t *testing.T, path string) (uid, gid int, mode os.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	return int(s.Uid), int(s.Gid), info.Mode().Perm()
}
