//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/certconnector/certconnector/agent/control"
)

// patience is how long anything may take that certainly happens: a machine that
// is shared takes seconds for what takes milliseconds here. Who waits so long
// has a failure, and nobody who has none waits.
const patience = 3 * time.Minute

// connector is one run of the program.
type connector struct {
	cmd    *exec.Cmd
	stderr *os.File
	ended  chan struct{} // closed when the process is gone
	err    error         // of Wait; read it after ended
}

// launch starts a program without waiting until it answers. wrap is put before
// the command line, as strace is.
func (w *world) launch(binary string, env []string, wrap ...string) *connector {
	w.t.Helper()
	if w.running != nil {
		w.t.Fatal("a connector runs already")
	}
	args := append(wrap, binary, "run", "--config", w.path("certconnector.yaml"))
	c := &connector{cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{})}
	var err error
	if c.stderr, err = os.OpenFile(w.path("stderr"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		w.t.Fatal(err)
	}
	c.cmd.Stderr, c.cmd.Stdout = c.stderr, c.stderr
	c.cmd.Env = append(os.Environ(), env...)
	if err := c.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		c.err = c.cmd.Wait()
		_ = c.stderr.Close() // its text was written by another process
		close(c.ended)
	}()
	w.running = c
	return c
}

// start runs the release until it answers.
func (w *world) start() *connector { w.t.Helper(); return w.startAs(built.release, nil) }

func (w *world) startAs(binary string, env []string, wrap ...string) *connector {
	w.t.Helper()
	c := w.launch(binary, env, wrap...)
	w.await(c)
	return c
}

// await polls GetCACaps until the connector answers.
func (w *world) await(c *connector) {
	w.t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(3 * time.Millisecond) {
		select {
		case <-c.ended:
			b, _ := os.ReadFile(w.path("stderr"))
			w.t.Fatalf("the connector ended at once: %v\n%s", c.err, b)
		default:
		}
		resp, err := client.Get(w.url(intunePath) + "?operation=GetCACaps")
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	w.t.Fatal("the connector does not answer")
}

// url is an endpoint's address.
func (w *world) url(path string) string { return w.base + path }

// stop asks the connector to end and wants it to do so in order.
func (w *world) stop() {
	w.t.Helper()
	w.terminate(w.running.cmd.Process.Pid)
}

// terminate sends SIGTERM to a process and waits for the one that was started.
func (w *world) terminate(pid int) {
	w.t.Helper()
	c := w.running
	w.running = nil
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		w.t.Errorf("the connector was gone before it was stopped: %v", err)
	}
	select {
	case <-c.ended:
		if c.err != nil {
			w.t.Errorf("the connector did not end in order: %v", c.err)
		}
	case <-time.After(patience): // shutdown_grace is 30s
		w.t.Error("the connector did not end, long after its grace")
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// kill is kill -9, and no error when the process is gone already.
func (w *world) kill() {
	c := w.running
	w.running = nil
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// awaitDeath waits until a connector with a failpoint has met it.
func (w *world) awaitDeath() {
	w.t.Helper()
	select {
	case <-w.running.ended:
		w.running = nil
	case <-time.After(patience):
		w.t.Fatal("the failpoint was not met")
	}
}

// command runs the program's other commands and returns standard output.
func (w *world) command(args ...string) (string, error) {
	cmd := exec.Command(built.release, append([]string{"--config", w.path("certconnector.yaml")}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("certconnector %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

// requests is "certconnector requests list --json".
func (w *world) requests(filter ...string) []control.Request {
	w.t.Helper()
	out, err := w.command(append([]string{"requests", "list", "--json", "--limit", "100000"}, filter...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	var list []control.Request
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		w.t.Fatalf("requests list: %v: %.300s", err, out)
	}
	return list
}

// awaitRequest waits until a request of an endpoint is in a state.
func (w *world) awaitRequest(endpoint, state string) control.Request {
	w.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if list := w.requests("--endpoint", endpoint, "--state", state); len(list) > 0 {
			return list[0]
		}
	}
	w.t.Fatalf("no request of endpoint %s became %s: %+v", endpoint, state, w.requests())
	return control.Request{}
}
