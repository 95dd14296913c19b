//go:build unix

package servercert_test

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/certconnector/certconnector/installer/servercert"
)

// In a folder of root's own, as /etc/certconnector, root makes what the service
// reads: the files are its, or nothing is replaced.
func TestRootMakesFilesForTheService(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	b := newBench(t)
	b.place.StateDir = t.TempDir()
	if err := os.Chown(b.place.StateDir, 61234, 61234); err != nil {
		t.Fatal(err)
	}
	renew := func() error {
		b.sign(b.ask(servercert.Request{Names: []string{"scep.example"}}), web, "365")
		_, err := b.complete(time.Now(), "leaf.pem", "sub.pem")
		return err
	}
	belongs := func(want int) {
		t.Helper()
		for _, path := range []string{b.place.Certificate, b.place.Key} {
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if s := info.Sys().(*syscall.Stat_t); int(s.Uid) != want || int(s.Gid) != want {
				t.Errorf("%s belongs to %d:%d, want %d", path, s.Uid, s.Gid, want)
			}
		}
	}
	if err := renew(); err != nil {
		t.Fatal(err)
	}
	belongs(61234)
	if err := errors.Join(os.Chown(b.place.Key, 61235, 61235), renew()); err != nil {
		t.Fatal(err)
	}
	belongs(61235)
	// What earlier releases made for root alone is mended by the next pair.
	if err := errors.Join(os.Chown(b.place.Key, 0, 0), renew()); err != nil {
		t.Fatal(err)
	}
	belongs(61234)
	first := b.serves()
	made := b.ask(servercert.Request{})
	b.sign(made, web, "365")
	if err := os.Link(made.Key, made.Key+".other"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err == nil {
		t.Error("a pair was installed that could not be given away")
	}
	if !b.serves().Equal(first) {
		t.Error("the pair that served was replaced all the same")
	}
}
