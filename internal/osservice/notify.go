package osservice

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// notifier speaks sd_notify(3) with whoever supervises the process. A nil one
// is silent.
type notifier struct {
	conn     *net.UnixConn
	interval time.Duration // of the watchdog; 0: none is wanted
}

// newNotifier looks at the environment as sd_notify(3) and
// sd_watchdog_enabled(3) do.
func newNotifier(getenv func(string) string) (*notifier, error) {
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil, nil
	}
	// A leading @ is the abstract name space; the net package knows it.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("opening NOTIFY_SOCKET: %w", err)
	}
	n := &notifier{conn: conn}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n, nil // meant for another process
	}
	if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		n.interval = time.Duration(us) * time.Microsecond / 2
	}
	return n, nil
}

// send reports a state. A supervisor that went away is no reason to fail.
func (n *notifier) send(state string) {
	if n != nil {
		_, _ = n.conn.Write([]byte(state)) // nobody left to tell
	}
}

// watchdog reports life until ctx ends.
func (n *notifier) watchdog(ctx context.Context) {
	if n == nil || n.interval == 0 {
		return
	}
	go func() {
		ticker := time.NewTicker(n.interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				n.send("WATCHDOG=1")
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (n *notifier) close() {
	if n != nil {
		_ = n.conn.Close() // nothing is buffered
	}
}
