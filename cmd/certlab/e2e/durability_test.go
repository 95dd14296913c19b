//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// TestReplyFollowsTheSync watches the system calls of one enrolment: the
// journal's log is written, then synced, and only then the certificate goes
// into the socket. With Intune, too, the log is synced before the cloud is told.
func TestReplyFollowsTheSync(t *testing.T) {
	need(t, "strace", "strace")
	for _, e := range []struct{ name, path string }{{"static", staticPath}, {"intune", intunePath}} {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t)
			trace := w.path("trace")
			w.startAs(built.release, nil, "strace", "-f", "-y", "-s", "32", "-o", trace,
				"-e", "trace=write,writev,sendto,pwrite64,fsync,fdatasync,openat")
			key := testkeys.RSA2048(6)
			d := w.device("ios", e.path)
			der := w.staticCSR("durable", key, w.static)
			var tx *scepclient.Transaction
			var err error
			if e.path == intunePath {
				d, tx = w.prepare("ios", e.path, key)
			} else if tx, err = d.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, DER: der}); err != nil {
				t.Fatal(err)
			}
			before := len(syscalls(t, trace))
			w.mustIssue(until(t, d, tx.Message, scep.Success), key)
			w.stopTraced()
			checkOrder(t, syscalls(t, trace)[before:], e.path == intunePath)
		})
	}
}

// stopTraced ends a connector that runs under strace, which passes SIGTERM on
// to nobody: its child is asked.
func (w *world) stopTraced() {
	w.t.Helper()
	strace := w.running.cmd.Process.Pid
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", strace, strace))
	if err != nil {
		w.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		w.t.Fatalf("strace has not one child: %q", b)
	}
	w.terminate(pid)
}

// call is a line of a trace in which something was done to a file.
type call struct{ name, file, data string }

var (
	traced  = regexp.MustCompile(`^(\d+) +(\w+)\(\d+<([^>]*)>(?:, "([^"]*)")?`)
	resumed = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>`)
)

func syscalls(t *testing.T, file string) []call {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []call
	open := map[string]call{} // by thread: a sync counts when it is done, not when it begins
	for line := range strings.Lines(string(b)) {
		if m := resumed.FindStringSubmatch(line); m != nil {
			if c, ok := open[m[1]]; ok {
				list = append(list, c)
				delete(open, m[1])
			}
		} else if m := traced.FindStringSubmatch(line); m != nil {
			c := call{m[2], m[3], m[4]}
			if strings.HasSuffix(c.name, "sync") && strings.Contains(line, "<unfinished ...>") {
				open[m[1]] = c
			} else {
				list = append(list, c)
			}
		}
	}
	return list
}

// checkOrder wants: each write to the log is followed by a sync before
// anything that counts goes out. A reply of HTTP 200 to the device is one such
// thing, a request to the cloud (TLS, so any) after the first write is another.
func checkOrder(t *testing.T, calls []call, cloud bool) {
	t.Helper()
	dirty, writes, syncs, replies := false, 0, 0, 0
	for i, c := range calls {
		wal := strings.HasSuffix(c.file, "journal.db-wal")
		socket := strings.HasPrefix(c.file, "TCP:") || strings.HasPrefix(c.file, "socket:")
		switch {
		case wal && c.name == "pwrite64":
			dirty, writes = true, writes+1
		case wal && (c.name == "fsync" || c.name == "fdatasync"):
			dirty, syncs = false, syncs+1
		case socket && c.name == "write" && strings.HasPrefix(c.data, "HTTP/1.1 200"):
			replies++
			if dirty || syncs == 0 {
				t.Errorf("call %d: a reply left before the log was synced (%d writes, %d syncs)", i, writes, syncs)
			}
		}
	}
	switch {
	case writes == 0 || syncs == 0 || replies == 0:
		t.Errorf("the trace has %d writes, %d syncs and %d replies: it shows nothing\n%v", writes, syncs, replies, calls)
	case cloud && syncs < 3: // the intent, the certificate, the mark
		t.Errorf("%d syncs for an enrolment that the cloud must know of, want the intent, the certificate and the mark", syncs)
	}
}
