//go:build unix

package osservice

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// supervise listens as systemd does.
func supervise(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

// heard returns what was reported, without repetitions, until "STOPPING=1".
func heard(t *testing.T, c *net.UnixConn) []string {
	t.Helper()
	var states []string
	b := make([]byte, 256)
	for !slices.Contains(states, "STOPPING=1") {
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("after %q: %v", states, err)
		}
		if s := string(b[:n]); !slices.Contains(states, s) {
			states = append(states, s)
		}
	}
	return states
}

func TestRunUnderASupervisor(t *testing.T) {
	conn := supervise(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	err := Run("certconnector-test", func(ctx context.Context, host *Host) error {
		host.Ready()
		time.Sleep(50 * time.Millisecond)
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Errorf("being stopped is no error, got %v", err)
	}
	if got := heard(t, conn); !slices.Equal(got, []string{"READY=1", "WATCHDOG=1", "STOPPING=1"}) {
		t.Errorf("reported %q", got)
	}
}

func TestReloadsAreAskedForAndReported(t *testing.T) {
	conn := supervise(t)
	err := Run("certconnector-test", func(ctx context.Context, host *Host) error {
		host.Ready()
		for range 2 {
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
				t.Error(err)
			}
			select {
			case <-host.Reloads():
			case <-time.After(5 * time.Second):
				t.Error("SIGHUP was not heard")
			}
			host.Reloading()
			host.Ready()
		}
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Errorf("being stopped is no error, got %v", err)
	}
	got := heard(t, conn)
	for i, s := range got {
		got[i], _, _ = strings.Cut(s, "\n") // the time follows
	}
	if !slices.Equal(got, []string{"READY=1", "RELOADING=1", "RELOADING=1", "STOPPING=1"}) {
		t.Errorf("reported %q", got)
	}
}

func TestWishesThatComeTogetherAreOne(t *testing.T) {
	h := newHost(nil)
	h.wishReload()
	h.wishReload() // does not block
	<-h.Reloads()
	select {
	case <-h.Reloads():
		t.Error("a second reload, although the first had not begun")
	default:
	}
	h.Reloading() // without a supervisor: silent
	h.Ready()
	h.Ready()
}

func TestRunReturnsWhatWentWrong(t *testing.T) {
	broken := errors.New("address in use")
	err := Run("certconnector-test", func(context.Context, *Host) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestNotifier(t *testing.T) {
	supervise(t)
	env := func(name string) string {
		return map[string]string{
			"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1",
		}[name]
	}
	if n, err := newNotifier(env); n != nil || err != nil {
		t.Errorf("without a socket: %v, %v", n, err)
	}
	if _, err := newNotifier(func(string) string { return filepath.Join(t.TempDir(), "none") }); err == nil {
		t.Error("a socket that is not there was accepted")
	}
	conn := supervise(t)
	n, err := newNotifier(func(name string) string {
		if name == "NOTIFY_SOCKET" {
			return conn.LocalAddr().String()
		}
		return env(name)
	})
	if err != nil || n.interval != 0 {
		t.Errorf("a watchdog for another process is used: %+v, %v", n, err)
	}
	n.close()
}
