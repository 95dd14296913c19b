// Package labtest starts what the tests of the laboratory's parts need: a real
// connector in the process, set up as "certconnector init" does it.
package labtest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/secret"
)

// Connector is a running connector.
type Connector struct {
	URL       string // of its SCEP endpoint
	Challenge secret.Text
	Root      string // file of the CA's root certificate
	Dir       string
}

// Static runs a connector with one shared challenge until the test ends.
func Static(t *testing.T) Connector {
	t.Helper()
	return Run(t, firstrun.Options{Policy: firstrun.PolicyStatic})
}

// Run sets a connector up and runs it until the test ends. Folder, address and
// keys are chosen here.
func Run(t *testing.T, o firstrun.Options, prepared ...func(firstrun.Result)) Connector {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab") // short: the control socket's path has 108 characters at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o.Dir, o.Hostnames, o.Listen, o.PlainHTTP, o.CAKey = filepath.Join(dir, "c"), []string{"127.0.0.1"}, FreeAddress(t), true, embedded.P256
	plan, err := firstrun.New(o)
	if err != nil {
		t.Fatal(err)
	}
	made, err := plan.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepared {
		f(made)
	}
	cfg, err := agent.LoadConfig(made.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	a, err := agent.New(cfg, agent.Options{Ready: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the connector ended: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the connector did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the connector is not ready after a minute")
	}
	c := Connector{URL: made.SCEPURL, Root: made.RootCertificate, Dir: o.Dir}
	if made.ChallengeFile != "" {
		b, err := os.ReadFile(made.ChallengeFile)
		if err != nil {
			t.Fatal(err)
		}
		c.Challenge = secret.Text(strings.TrimSpace(string(b)))
	}
	return c
}

// FreeAddress is a loopback address that nobody listens on at this moment.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
