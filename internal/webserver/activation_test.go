//go:build unix

package webserver

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// handOver gives this process listeners as systemd does, from a descriptor on
// that nobody else uses. It returns that descriptor and the environment.
func handOver(t *testing.T, listeners ...interface{ File() (*os.File, error) }) (first int, getenv func(string) string) {
	t.Helper()
	for first = 200; !unused(first, len(listeners)+1); first++ {
	}
	for i, l := range listeners {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Dup2(int(f.Fd()), first+i); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(first + i) })
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"LISTEN_FDS": strconv.Itoa(len(listeners)), "LISTEN_PID": strconv.Itoa(os.Getpid())}
	return first, func(name string) string { return env[name] }
}

// unused tells whether no file has one of so many descriptors: whoever started
// the tests may have handed down others.
func unused(first, count int) bool {
	for fd := first; fd < first+count; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			return false
		}
	}
	return true
}

func listenTCP(t *testing.T, address string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

func TestInheritedSocketIsFoundByItsAddress(t *testing.T) {
	local, everywhere := listenTCP(t, "127.0.0.1:0"), listenTCP(t, ":0")
	first, env := handOver(t, local, everywhere)
	everyPort := strconv.Itoa(everywhere.Addr().(*net.TCPAddr).Port)

	for _, address := range []string{local.Addr().String(), ":" + everyPort} {
		for range 2 { // a second look finds it again
			l, err := inherited(env, first, address)
			if err != nil || l == nil {
				t.Fatalf("%s: %v, %v", address, l, err)
			}
			if _, port, _ := net.SplitHostPort(address); strconv.Itoa(l.Addr().(*net.TCPAddr).Port) != port {
				t.Errorf("%s: got %s", address, l.Addr())
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	for _, address := range []string{"127.0.0.1:" + everyPort, "127.0.0.2:1", ":1", "nonsense"} {
		if l, err := inherited(env, first, address); l != nil || err != nil {
			t.Errorf("%s: got %v, %v", address, l, err)
		}
	}
}

// TestInheritedSocketOfEveryAddress: 0.0.0.0 is what a socket of both families
// serves too, and what one of IPv6 alone does not.
func TestInheritedSocketOfEveryAddress(t *testing.T) {
	for _, row := range []struct {
		open, host string
		taken      bool
	}{
		{"[::]", "", true},
		{"[::]", "0.0.0.0", true},
		{"[::]", "[::]", true},
		{"0.0.0.0", "", true},
		{"0.0.0.0", "0.0.0.0", true},
		{"0.0.0.0", "[::]", false},
		{"[::] alone", "0.0.0.0", false},
		{"[::] alone", "[::]", true},
		{"127.0.0.1", "", false},
		{"127.0.0.1", "0.0.0.0", false},
		{"[::1]", "0.0.0.0", false},
	} {
		network, open := "tcp", row.open
		switch open {
		case "0.0.0.0":
			network = "tcp4"
		case "[::] alone":
			network, open = "tcp6", "[::]" // Go sets IPV6_V6ONLY then
		}
		l, err := net.Listen(network, open+":0")
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		first, env := handOver(t, l.(*net.TCPListener))
		got, err := inherited(env, first, row.host+":"+port)
		if err != nil || (got != nil) != row.taken {
			t.Errorf("open %s, wanted %q: got %v, %v", row.open, row.host, got, err)
		}
		if got != nil {
			_ = got.Close()
		}
		_ = l.Close()
	}
}

func TestInheritedSocketAnswersAfterItsCopyWasClosed(t *testing.T) {
	local := listenTCP(t, "127.0.0.1:0")
	first, env := handOver(t, local)
	// The process that opened it is another one: only the descriptor is left.
	address := local.Addr().String()
	if err := local.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a server that stopped, and the next
		l, err := inherited(env, first, address)
		if err != nil || l == nil {
			t.Fatalf("%v, %v", l, err)
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		served, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := served.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if err := served.Close(); err != nil {
			t.Error(err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != "x" {
			t.Errorf("read %q, %v", b, err)
		}
		_ = c.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestInheritedSocketsOfOthersAreLeftAlone(t *testing.T) {
	local := listenTCP(t, "127.0.0.1:0")
	address := local.Addr().String()
	path := filepath.Join(t.TempDir(), "s")
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	first, env := handOver(t, u, local)

	if l, err := inherited(env, first, address); l == nil || err != nil {
		t.Errorf("behind a socket of another kind: %v, %v", l, err)
	} else {
		_ = l.Close()
	}
	for name, change := range map[string][2]string{
		"for another process": {"LISTEN_PID", "1"},
		"no number":           {"LISTEN_FDS", "many"},
		"none":                {"LISTEN_FDS", ""},
	} {
		changed := func(name string) string {
			if name == change[0] {
				return change[1]
			}
			return env(name)
		}
		if l, err := inherited(changed, first, address); l != nil || err != nil {
			t.Errorf("%s: got %v, %v", name, l, err)
		}
	}
	tooMany := func(name string) string {
		if name == "LISTEN_FDS" {
			return "3"
		}
		return env(name)
	}
	if _, err := inherited(tooMany, first, "127.0.0.1:1"); err == nil {
		t.Error("a descriptor that is not open was passed over")
	}
}
