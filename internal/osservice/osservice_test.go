//go:build unix

package osservice

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is for what comes at once on a machine that does nothing else.
const patience = time.Minute

// supervisor is what systemd hears.
type supervisor struct {
	t    *testing.T
	path string

	mu    sync.Mutex
	heard []string      // without repetitions
	more  chan struct{} // closed when there is more
}

// supervise listens as systemd does, all the time: a socket takes a few
// messages only, and whoever sends more waits until they are read.
func supervise(t *testing.T) *supervisor {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	s := &supervisor{t: t, path: path, more: make(chan struct{})}
	go func() {
		for b := make([]byte, 256); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			s.hear(string(b[:n]))
		}
	}()
	return s
}

func (s *supervisor) hear(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.heard, state) {
		s.heard = append(s.heard, state)
		close(s.more)
		s.more = make(chan struct{})
	}
}

// until waits for a report, and returns what came up to then.
func (s *supervisor) until(state string) []string {
	late := time.After(patience)
	for {
		s.mu.Lock()
		heard, more := slices.Clone(s.heard), s.more
		s.mu.Unlock()
		if slices.Contains(heard, state) {
			return heard
		}
		select {
		case <-more:
		case <-late:
			s.t.Errorf("after %q: no %s", heard, state)
			return heard
		}
	}
}

// terminate does what systemctl stop does.
func terminate(t *testing.T) {
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestRunUnderASupervisor(t *testing.T) {
	supervisor := supervise(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	err := Run("certconnector-test", func(ctx context.Context, host *Host) error {
		host.Ready()
		supervisor.until("READY=1")
		supervisor.until("WATCHDOG=1") // on a busy machine it may be the first
		terminate(t)
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Errorf("being stopped is no error, got %v", err)
	}
	if got := supervisor.until("STOPPING=1"); got[len(got)-1] != "STOPPING=1" || len(got) != 3 {
		t.Errorf("reported %q", got)
	}
}

func TestReloadsAreAskedForAndReported(t *testing.T) {
	supervisor := supervise(t)
	t.Setenv("WATCHDOG_USEC", "")
	err := Run("certconnector-test", func(ctx context.Context, host *Host) error {
		host.Ready()
		for range 2 {
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
				t.Error(err)
			}
			select {
			case <-host.Reloads():
			case <-time.After(patience):
				t.Error("SIGHUP was not heard")
			}
			host.Reloading()
			host.Ready()
		}
		terminate(t)
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Errorf("being stopped is no error, got %v", err)
	}
	got := supervisor.until("STOPPING=1")
	for i, s := range got {
		got[i], _, _ = strings.Cut(s, "\n") // the time follows
	}
	if !slices.Equal(got, []string{"READY=1", "RELOADING=1", "RELOADING=1", "STOPPING=1"}) {
		t.Errorf("reported %q", got)
	}
}

// A stop that comes while the function begins is a stop, and does not end the
// process.
func TestStopAtOnce(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	for range 20 {
		err := Run("certconnector-test", func(ctx context.Context, _ *Host) error {
			terminate(t)
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil {
			t.Errorf("being stopped is no error, got %v", err)
		}
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
	t.Setenv("NOTIFY_SOCKET", "")
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
	path := supervise(t).path
	n, err := newNotifier(func(name string) string {
		if name == "NOTIFY_SOCKET" {
			return path
		}
		return env(name)
	})
	if err != nil || n.interval != 0 {
		t.Errorf("a watchdog for another process is used: %+v, %v", n, err)
	}
	n.close()
}
