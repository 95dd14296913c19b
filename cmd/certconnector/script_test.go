package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience is for what takes a moment on a machine that does nothing else.
const patience = 2 * time.Minute

// fetch is "http STATUS URL [ROOTS]": it gets the URL, wants the status and
// writes the body to standard output.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: http STATUS URL [ROOTS]")
	}
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	if len(args) == 3 {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(ts.ReadFile(args[2]))) {
			ts.Fatalf("no roots in %s", args[2])
		}
		c.Transport = &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	}
	resp, err := c.Get(args[1])
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	if got := fmt.Sprint(resp.StatusCode); got != args[0] {
		ts.Fatalf("status %s, want %s: %.200q", got, args[0], body)
	}
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
}

// waitPort is "waitport ADDRESS": it waits until somebody listens there.
func waitPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitport ADDRESS")
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", args[0]); err == nil {
			ts.Check(c.Close())
			return
		}
	}
	ts.Fatalf("nobody listens on %s", args[0])
}

// hangUp is "hangup": it sends SIGHUP to what runs in the background.
func hangUp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: hangup")
	}
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGHUP))
	}
}

// hidden is "hidden SECRET FILE": the text of the first must not be in the second.
func hidden(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hidden SECRET FILE")
	}
	secret := strings.TrimSpace(ts.ReadFile(args[0]))
	if secret == "" || strings.Contains(ts.ReadFile(args[1]), secret) {
		ts.Fatalf("%s shows what is in %s", args[1], args[0])
	}
}

// poll is "poll PATTERN COMMAND…": it repeats a command until its output
// matches, for what the service does in its own time.
func poll(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: poll PATTERN COMMAND...")
	}
	pattern := regexp.MustCompile(args[0])
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%s never says %s", strings.Join(args[1:], " "), args[0])
}
