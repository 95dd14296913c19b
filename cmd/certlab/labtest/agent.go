// Package labtest starts what the tests of the laboratory's parts need: a real
// connector in the process, set up as "certconnector init" does it, and a
// simulated cloud.
package labtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/freeport"
)

// Connector is a running connector.
type Connector struct {
	URL           string // of its SCEP endpoint
	ChallengeFile string // with a static policy
	Control       string // of the cloud that decides, else ""
	Dir           string
}

// Static runs a connector with one shared challenge until the test ends.
func Static(t testing.TB) Connector {
	t.Helper()
	made := setUp(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	run(t, made.ConfigFile, func(*agent.Config) {})
	return Connector{URL: made.SCEPURL, ChallengeFile: made.ChallengeFile, Dir: filepath.Dir(made.ConfigFile)}
}

// Intune runs a simulated cloud and a connector that asks it, until the test
// ends. The connector holds exchanges for answerWithin only.
func Intune(t testing.TB, answerWithin time.Duration) Connector {
	t.Helper()
	dir := t.TempDir()
	root, certificate := filepath.Join(dir, "root.pem"), filepath.Join(dir, "entra.pem")
	up, ended, trusted := make(chan cloud.Info, 1), make(chan error, 1), make(chan bool, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		ended <- cloud.Serve(ctx, cloud.Options{
			RootFile: root, Certificate: certificate, Strict: true, Trusted: func() { trusted <- true },
		}, func(i cloud.Info) { up <- i })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the cloud ended: %v", err)
		}
	})
	info := await(t, "cloud", up, ended)
	made := setUp(t, firstrun.Options{
		Policy: firstrun.PolicyIntune, Cloud: "custom", Tenant: info.Tenant, ClientID: info.ClientID,
		AuthorityURL: info.Authority, GraphURL: info.Graph, ResourceURL: info.Resource, CloudCAFile: root,
	})
	b, err := os.ReadFile(made.EntraCertificate)
	if err == nil {
		err = os.WriteFile(certificate, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "trust in the connector's certificate", trusted, ended)
	run(t, made.ConfigFile, func(c *agent.Config) { c.Endpoints[0].AnswerWithin = answerWithin })
	return Connector{URL: made.SCEPURL, Control: info.Control, Dir: filepath.Dir(made.ConfigFile)}
}

// setUp makes a connector's folder. Folder, address and keys are chosen here.
func setUp(t testing.TB, o firstrun.Options) firstrun.Result {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab") // short: a control socket's path has 103 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a temporary folder that stays is no failure
	o.Dir, o.Hostnames, o.Listen, o.PlainHTTP, o.CAKey = filepath.Join(dir, "c"), []string{"127.0.0.1"}, freeport.ForTest(t), true, embedded.P256
	plan, err := firstrun.New(o)
	if err != nil {
		t.Fatal(err)
	}
	made, err := plan.Run(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// run runs a connector until the test ends.
func run(t testing.TB, configFile string, change func(*agent.Config)) {
	t.Helper()
	cfg, err := agent.LoadConfig(configFile)
	if err != nil {
		t.Fatal(err)
	}
	change(&cfg)
	ready, ended := make(chan bool, 1), make(chan error, 1)
	a, err := agent.New(cfg, agent.Options{Ready: func() { ready <- true }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the connector ended: %v", err)
		}
	})
	await(t, "connector", ready, ended)
}

// await waits for a part to be up.
func await[T any](t testing.TB, what string, up chan T, ended chan error) T {
	t.Helper()
	select {
	case v := <-up:
		return v
	case err := <-ended:
		ended <- nil // for the clean-up, which need not tell it again
		t.Fatalf("the %s did not start: %v", what, err)
	case <-time.After(time.Minute):
		t.Fatalf("the %s is not up after a minute", what)
	}
	panic("unreachable")
}

// Challenge reads the challenge of a static policy.
func (c Connector) Challenge(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(c.ChallengeFile)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
